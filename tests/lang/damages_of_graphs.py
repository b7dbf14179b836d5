"""Damages to G, LG, HLG, and graphs of tokens."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from moe_asr.fsa.fst import Fst
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.topology import compose_topology
from tests.lang import damage as d
from tests.lang.damage_case import cases_of, graph_file


def same(fst: Fst) -> Fst:
    """No damage but that of the metadata."""
    return fst


def in_both_graphs(change: Callable[[DecodingGraph], DecodingGraph]) -> d.Damage:
    """Changes LG, and makes the HLG of what comes out: they fit one another."""

    def damage(path: Path) -> None:
        lg = change(DecodingGraph.load(path))
        lg.save(path)
        before = DecodingGraph.load(path.parent / "HLG.safetensors")
        hlg = compose_topology(lg.arcs(), before.metadata["topology"])
        tables = before.token_table, before.word_table, before.metadata
        DecodingGraph.from_arcs(hlg, *tables).save(path.parent / "HLG.safetensors")

    return damage


GRAMMARS = [
    *graph_file(
        "bpe",
        "ngram",
        "G.safetensors",
        ("truncated", d.truncate, "G", "cannot be read as an FST"),
        ("a bit of a score flipped", d.flip("score", 7, 12), "G source", "state 1: the arc for label 2"),
        ("the last bit of a score flipped", d.flip("score", 7), "LG rebuilt", "det(L_disambig o G)"),
        ("another score", d.fst(d.score(7, -0.001)), "G source", "state 1: the arc for label 2 has score"),
        ("a likelier word", d.fst(d.score(3, 1.0)), "G probabilities", "state 0: the probabilities of"),
        ("another backoff", d.fst(d.score(5, 1.0)), "G probabilities", "state 0: the probabilities of"),
        ("unlikely words", d.fst(lambda g: replace(g, score=g.score - np.float32(0.3))),
         "G probabilities", "% of the probability is for words that are not in G"),
        ("an arc less", d.fst(d.drop_arc(7)), "G source", "state 1: no arc for label 2, expected one"),
        ("an arc to elsewhere", d.fst(d.redirect(7, 5)), "G source", "state 5:"),
        ("another final score", d.fst(d.final(3, -0.6)), "G source", "state 3: final score -0.6"),
        ("ends where it did not", d.fst(d.final(0, -1.0)), "G source", "final score -1.00000, expected -inf"),
        ("other labels", d.fst(d.relabel("olabel", 6, 2)), "G", "expected the same word on both sides"),
        ("an epsilon", d.fst(d.word(6, 0)), "G", "no epsilon may be read"),
        ("a label out of range", d.fst(d.word(19, 99)), "G", "words.txt, below 17"),
        ("#0 written", d.fst(d.relabel("olabel", 5, 16)), "G", "#0 may not be written"),
        ("a word on a backoff", d.fst(d.relabel("olabel", 5, 3)), "G", "expected #0:<eps>"),
        ("not sorted", d.fst(d.order(1, 0)), "G", "must be sorted by label"),
        ("two arcs of a label", d.fst(d.word(1, 4)), "G", "another arc of the state has the same label"),
        ("backoffs in a circle", d.fst(d.redirect(5, 0)), "G", "lead in a circle"),
        ("a dead end", d.fst(lambda g: d.final(10, -np.inf)(g.take(g.src != 10))),
         "G", "state 10 is on no path"),
        ("no end", d.fst(lambda g: replace(g, final_score=np.full_like(g.final_score, -np.inf))),
         "G", "empty: it accepts no word"),
        ("no G", d.fst(same, kind="L"), "G", "expected a G, found 'L'"),
        ("of another source", d.fst(same, source="grammar"), "G source", "its source is 'grammar'"),
        ("of another file", d.fst(same, sha256="0"), "G source", "its sha256 is '0'"),
        ("of the grammar", d.copy_of("../grammar/G.safetensors"), "G source", "expected"),
        ("of other words", d.copy_of("../other/G.safetensors"), "G", "expected"),
        ("empty", d.empty, "G", "cannot be read"),
        ("removed", d.remove, "G", "cannot be read"),
    ),
    *graph_file(
        "bpe",
        "grammar",
        "G.safetensors",
        ("another score", d.fst(d.score(0, -0.01)), "G probabilities", "state 0: the probabilities"),
        ("an arc less", d.fst(d.drop_arc(2)), "G source", "state 1: no arc for label 3, expected one"),
    ),
]  # fmt: skip

GRAPHS = [
    *graph_file(
        "bpe",
        "ngram",
        "LG.safetensors",
        ("truncated", d.truncate, "LG", "cannot be read as a decoding graph"),
        ("a bit flipped", d.flip("score", 14), "topology", "differ from H o LG"),
        ("another score", d.graph(d.score(12, -1.0)), "sampled sentences", "in LG, by L and G"),
        ("an arc less", d.graph(d.drop_arc(2)), "LG rebuilt", "of 454 arcs differ from det(L_disambig o G)"),
        ("an arc to elsewhere", d.graph(d.redirect(7, 6)), "LG rebuilt", "arc 7 (0 -> 6"),
        ("another token", d.graph(d.relabel("token", 12, 15)), "sampled sentences", "LG"),
        ("another word", d.graph(d.relabel("words", 0, 3)), "sampled sentences", "in LG, by L and G"),
        ("special token", d.graph(d.relabel("token", 12, 1)), "LG", "token '<sos/eos>' is not in L"),
        ("#0 as a word", d.graph(d.relabel("words", 0, 16)), "LG", "'#0', and may not be in a graph"),
        ("not sorted", d.graph(d.order(1, 0)), "LG", "not sorted by token"),
        ("of another G", d.graph(d.about(g={})), "LG", "was made with a G of {}"),
        ("an HLG", d.swap_with("HLG.safetensors"), "LG", "expected a graph of kind LG, found HLG"),
        ("of the grammar", d.copy_of("../grammar/LG.safetensors"), "LG", "was made with a G of"),
        ("of other words", d.copy_of("../other/LG.safetensors"), "LG", "word table: symbol"),
        ("of other tokens", d.copy_of("../other_tokens/LG.safetensors"), "LG", "token table: symbol"),
        ("empty", d.empty, "LG", "cannot be read"),
        ("removed", d.remove, "LG", "cannot be read"),
    ),
    *graph_file(
        "bpe",
        "ngram",
        "HLG.safetensors",
        ("truncated", d.truncate, "HLG", "cannot be read as a decoding graph"),
        ("a bit flipped", d.flip("score", 14), "topology", "differ from H o LG"),
        ("another score", d.graph(d.score(14, -1.0)), "sampled sentences", "in HLG, by L and G"),
        ("a small change of a score", d.graph(d.score(14, 1e-4)), "topology", "1 of 1,263 arcs differ"),
        ("an arc less", d.graph(d.drop_arc(17)), "topology", "H o LG (standard)"),
        ("an arc to elsewhere", d.graph(d.redirect(14, 1)), "sampled sentences", "HLG"),
        ("no blank needed", d.graph(d.relabel("token", 13, 14)), "topology", "H o LG (standard)"),
        ("said to be modified", d.graph(d.about(topology="modified")), "topology", "on record is 'standard'"),
        ("no topology", d.graph(d.about(topology=None)), "topology", "expected standard or modified"),
        ("other metadata than LG", d.graph(d.about(builder="k2")), "topology", "builder is 'k2'"),
        ("with modified topology", d.copy_of("../modified/HLG.safetensors"), "topology", "on record"),
        ("empty", d.empty, "HLG", "cannot be read"),
        ("removed", d.remove, "HLG", "cannot be read"),
    ),
    *graph_file(
        "bpe",
        "grammar",
        "LG.safetensors",
        ("a word that is not in G", d.graph(d.relabel("words", 0, 1)), "LG", "word 'are', which is not in G"),
        ("a word less", d.graph(d.relabel("words", 0, 10)), "LG", "no arc has the word 'turn'"),
        ("a dead end", d.graph(d.redirect(9, 9)), "LG", "is on no path from the start"),
    ),
    # LG and HLG fit one another, and LG is not built again: only sentences are left
    *cases_of(
        "bpe",
        "ngram/LG.safetensors",
        ("another score in both", in_both_graphs(d.score(12, -0.01)), "sampled sentences", "in LG, by"),
        ("an arc less in both", in_both_graphs(d.drop_arc(1)), "sampled sentences", "LG"),
        ("an arc to elsewhere in both", in_both_graphs(d.redirect(12, 5)), "sampled sentences", "LG"),
        options=(("rebuild", False),),
    ),
]  # fmt: skip

TOKEN_GRAPHS = [
    *cases_of(
        "bpe",
        "tokens/G.safetensors",
        ("another score", d.fst(d.score(3, -0.001)), "G source", "has score"),
        ("#0 written", d.fst(d.relabel("olabel", 3, 36)), "G", "#0 may not be written"),
        ("a label out of range", d.fst(d.word(3, 37)), "G", "below 37"),
        ("removed", d.remove, "G", "cannot be read"),
        step=lambda place: place.make_tokens(),
        graph="tokens",
    ),
    *cases_of(
        "bpe",
        "tokens/T.safetensors",
        ("truncated", d.truncate, "T", "cannot be read as a decoding graph"),
        ("other scores", d.graph(lambda t: replace(t, score=t.score - np.float32(0.01))),
         "sampled sentences", "in T, by L and G"),
        ("an arc less", d.graph(d.drop_arc(5)), "T rebuilt", "differ from G, epsilon backoff"),
        ("a special token", d.graph(d.relabel("token", 3, 1)), "T", "is not in L"),
        ("another backoff", d.graph(d.about(backoff="exact")), "T rebuilt", "on record is 'epsilon'"),
        ("an HT", d.swap_with("HT.safetensors"), "T", "expected a graph of kind T, found HT"),
        ("an LG", d.copy_of("../ngram/LG.safetensors"), "T", "expected a graph of kind T, found LG"),
        graph="tokens",
    ),
    *cases_of(
        "bpe",
        "tokens/HT.safetensors",
        ("another score", d.graph(d.score(9, -0.01)), "topology", "differ from H o T (standard)"),
        ("said to be modified", d.graph(d.about(topology="modified")), "topology", "on record is"),
        ("removed", d.remove, "HT", "cannot be read"),
        graph="tokens",
    ),
    *cases_of(
        "bpe",
        "tokens/provenance.json",
        ("a source less", d.forget("token_graph", "inputs", "arpa"), "provenance", "has no input 'arpa'"),
        ("no tokens", d.forget("token_graph", "inputs", "tokens"), "provenance", "no input 'tokens'"),
        ("an output less", d.forget("token_graph", "outputs", "HT.safetensors"),
         "provenance", "has no output 'HT.safetensors'"),
        ("no step", d.forget("token_graph"), "provenance", "no record of step 'G'"),
        ("truncated", d.truncate, "provenance", "not JSON"),
        step=lambda place: place.make_tokens(),
        graph="tokens",
    ),
    *cases_of(
        "bpe",
        "tokens.arpa",
        ("another probability", d.substitute(r"\n\S+\ts\b", "\n-0.9\ts"), "G source", "expected"),
        ("truncated", d.truncate, "G source", "tokens.arpa:"),
        step=lambda place: place.make_tokens(),
        graph="tokens",
    ),
]  # fmt: skip
