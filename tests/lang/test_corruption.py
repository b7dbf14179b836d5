# ruff: noqa: E501  (tables read better a case a line)
"""Every file of a language directory and of its graphs, and every input, is damaged in turn: nothing passes.

Each case is tried twice: as it is, when the hashes on record give it away and the next step refuses it (or makes
it again); and with all hashes on record forged to fit, when the check of the contents that is named must find
it, and say what is named.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_asr.errors import MoeAsrError
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.topology import compose_topology
from moe_asr.lang.provenance import verify_made
from tests.lang import damage as d
from tests.lang.validated import Workplace

# What cannot be found when the hashes were forged as well, and why.
UNDETECTABLE = {
    "bpe/text: a line less": "the word list and the tokenizer are not made again from the text, and what is left of "
    "it is text of the same language",
}


# The hashes alone must give a damage away: no need to look far.
FEW = {"rebuild": False, "num_sentences": 1, "text": None}


@dataclass(frozen=True)
class Case:
    """One damage.

    Attributes:
        base: a key of `tests.lang.validated.BUILDERS`.
        file: in the workplace.
        name: of the damage.
        damage: changes the file.
        check: that must fail when the hashes are forged.
        says: what one of the errors must say then.
        step: what reads the file next: must raise a `MoeAsrError`, or make something again (return True).
        refused: whether it must raise: it may not go on with the file.
        graph: that is validated with the language directory; None: that alone.
        options: of the validation.
    """

    base: str
    file: str
    name: str
    damage: d.Damage
    check: str
    says: str
    step: Callable[[Workplace], bool] | None = None
    refused: bool = False
    graph: str | None = "ngram"
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return f"{self.base}/{self.file}: {self.name}"


Row = tuple[str, d.Damage, str, str]


def cases_of(base: str, file: str, *rows: Row, **common: Any) -> list[Case]:
    return [Case(base, file, *row, **common) for row in rows]


def lang_files(base: str, file: str, *rows: Row) -> list[Case]:
    """G is not made over a directory that is not as it was written."""
    step = lambda place: place.make_g("ngram")  # noqa: E731
    return cases_of(base, f"lang/{file}", *rows, step=step, refused=True, graph=None)


def graph_file(base: str, graph: str, file: str, *rows: Row) -> list[Case]:
    """Graphs are not made of a G that is not as it was written; `verify_made` refuses such an LG or HLG."""

    def step(place: Workplace) -> bool:
        if file.startswith("G."):
            return place.make_graph(graph)
        verify_made(place / graph / file)
        return False

    return cases_of(base, f"{graph}/{file}", *rows, step=step, refused=True, graph=graph)


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


TABLES = [
    *lang_files(
        "phone",
        "tokens.txt",
        ("a line less", d.delete_line(6), "tokens", "no symbol has id 5"),
        ("a line twice", d.duplicate_line(6), "tokens", "tokens.txt:7: duplicate symbol 'b'"),
        ("two ids swapped", d.swap_ids(5, 6), "tokens", "tokens.txt:5: id 5, expected 4"),
        ("two lines swapped", d.swap_lines(5, 6), "tokens", "tokens.txt:5: id 5, expected 4"),
        ("two symbols swapped", d.edit("ah 4\nb 5", "b 4\nah 5"), "tokens", "4 is 'b', expected 'ah'"),
        ("not UTF-8", d.bad_utf8(6), "tokens", "tokens.txt:6: not UTF-8"),
        ("truncated", d.truncate, "tokens", "tokens.txt:9: expected 'symbol id'"),
        ("a symbol replaced", d.edit("uh", "ow"), "tokens", "13 is 'ow', expected 'uh'"),
        ("a token more", d.insert_line(15, "zh 14"), "tokens", "14 is 'zh', expected nothing"),
        ("no id", d.edit("uh 13", "uh"), "tokens", "tokens.txt:14: expected 'symbol id'"),
        ("blank is not 0", d.swap_ids(1, 2), "tokens", "tokens.txt:1: id 1, expected 0"),
        ("empty", d.empty, "files", "tokens.txt: empty"),
        ("removed", d.remove, "files", "tokens.txt: no such file"),
        ("another table", d.swap_with("words.txt"), "tokens", "symbol 0 is '<eps>', expected <blk>"),
    ),
    *lang_files(
        "phone",
        "tokens_disambig.txt",
        ("a symbol less", d.delete_line(17), "tokens_disambig", "16 is nothing, expected '#2'"),
        ("a symbol more", d.insert_line(18, "#3 17"), "tokens_disambig", "17 is '#3', expected nothing"),
        ("two ids swapped", d.swap_ids(15, 16), "tokens_disambig", "id 15, expected 14"),
        ("not consecutive", d.edit("#2", "#3"), "tokens_disambig", "16 is '#3', expected '#2'"),
        ("no #0", d.edit("#0", "#9"), "tokens_disambig", "14 is '#9', expected '#0'"),
        ("not UTF-8", d.bad_utf8(17), "tokens_disambig", "tokens_disambig.txt:17: not UTF-8"),
        ("truncated", d.truncate, "tokens_disambig", "tokens_disambig.txt:11: duplicate id 1"),
        ("empty", d.empty, "files", "tokens_disambig.txt: empty"),
        ("removed", d.remove, "tokens_disambig", "cannot be read"),
    ),
    *lang_files(
        "phone",
        "words.txt",
        ("a line less", d.delete_line(4), "words", "no symbol has id 3"),
        ("a word less", d.edit("abut 4\nbook 5\n<unk> 6\n#0 7", "book 4\n<unk> 5\n#0 6"), "words", "no word 'abut', which"),
        ("a line twice", d.duplicate_line(4), "words", "words.txt:5: duplicate id 3"),
        ("two ids swapped", d.swap_ids(3, 4), "words", "words.txt:3: id 3, expected 2"),
        ("two words swapped", d.edit("red 2\na 3", "a 2\nred 3"), "words", "2 is 'a', expected 'red'"),
        ("not UTF-8", d.bad_utf8(4), "words", "words.txt:4: not UTF-8"),
        ("truncated", d.truncate, "words", "words.txt:6: expected 'symbol id'"),
        ("a word replaced", d.edit("abut", "about"), "words", "'about' has no pronunciation"),
        ("a word without pronunciation", d.edit("#0 7", "blue 7\n#0 8"), "words", "words.txt:8: word 'blue'"),
        ("sentence boundaries", d.edit("#0 7", "<s> 7\n</s> 8\n#0 9"), "words", "'<s>' has no pronunciation"),
        ("no #0", d.delete_line(8), "words", "expected #0"),
        ("<eps> is not 0", d.edit("<eps> 0\nread 1", "read 0\n<eps> 1"), "words", "'read', expected <eps>"),
        ("empty", d.empty, "words", "words.txt: empty; expected"),
        ("removed", d.remove, "words", "cannot be read"),
    ),
]  # fmt: skip

LEXICONS = [
    *lang_files(
        "phone",
        "lexicon.txt",
        ("a line less", d.delete_line(5), "lexicon source", "lexicon.txt:5: found 'abut"),
        ("a line twice", d.duplicate_line(5), "lexicon", "lexicon.txt:6: the same entry as in line 5"),
        ("two lines swapped", d.swap_lines(3, 4), "lexicon source", "lexicon.txt:3: found 'a 0.5 ah'"),
        ("not UTF-8", d.bad_utf8(4), "lexicon", "lexicon.txt:4: not UTF-8"),
        ("truncated", d.truncate, "lexicon", "lexicon.txt:6: word 'abut': expected a probability"),
        ("an unknown token", d.edit("b uh k", "b ow k"), "lexicon", "7: word 'book': token 'ow' is not in"),
        ("another known token", d.edit("b uh k", "b ah k"), "lexicon source", "found 'book 1 b ah k'"),
        ("a word replaced", d.edit("book", "books"), "words", "'book' has no pronunciation"),
        ("another probability", d.edit("0.75", "0.5"), "L", "arc 1: score -0.28"),
        ("a probability of 2", d.edit("0.75", "2"), "lexicon", "expected a probability in (0, 1]"),
        ("no probability", d.edit("book 1", "book"), "lexicon", "expected a probability in (0, 1]"),
        ("no tokens", d.edit("b uh k", ""), "lexicon", "'book' has an empty pronunciation"),
        ("a disambiguation symbol", d.edit("b uh k", "b uh k #1"), "lexicon", "'#1' is reserved"),
        ("a reserved word", d.edit("book", "<s>"), "lexicon", "'<s>' is reserved"),
        ("empty", d.empty, "lexicon", "needs at least one word"),
        ("removed", d.remove, "lexicon", "cannot be read"),
        ("with symbols", d.swap_with("lexicon_disambig.txt"), "lexicon", "'#1' is reserved"),
    ),
    *lang_files(
        "phone",
        "lexicon_disambig.txt",
        ("a symbol less", d.edit(" #2", ""), "lexicon_disambig", "expected 'red 1 r eh d #2'"),
        ("a symbol too many", d.edit("uh k", "uh k #1"), "lexicon_disambig", "found 'book 1 b uh k #1'"),
        ("another symbol", d.edit("#2", "#1"), "lexicon_disambig", "expected 'red 1 r eh d #2'"),
        ("no symbols", d.copy_of("lexicon.txt"), "lexicon_disambig", "expected 'a 0.5 ah #1'"),
        ("a line less", d.delete_line(8), "lexicon_disambig", "found the end of the file"),
        ("not UTF-8", d.bad_utf8(2), "lexicon_disambig", "lexicon_disambig.txt:2: not UTF-8"),
        ("truncated", d.truncate, "lexicon_disambig", "lexicon_disambig.txt:6"),
        ("empty", d.empty, "files", "lexicon_disambig.txt: empty"),
        ("removed", d.remove, "lexicon_disambig", "cannot be read"),
    ),
    *lang_files(
        "bpe",
        "lexicon.txt",
        ("spelled otherwise", d.edit("light ▁light", "light ▁li ght"), "lexicon source", "the tokenizer"),
        ("a word less", d.delete_line(4), "words", "'light' has no pronunciation"),
    ),
    *lang_files(
        "chinese",
        "lexicon.txt",
        ("a word spelled as another", d.edit("在 在", "在 的"), "spelling", "the lexicon does not"),
        ("not UTF-8", d.bad_utf8(2), "lexicon", "lexicon.txt:2: not UTF-8"),
        ("decomposed", d.edit("在 在", "e\u0301 在"), "lexicon", "not as texts are once normalised"),
    ),
]  # fmt: skip

LEXICON_FSTS = [
    *lang_files(
        "phone",
        "L.safetensors",
        ("truncated", d.truncate, "L", "cannot be read as an FST"),
        ("a bit flipped", d.flip("score", 3), "L", "arc 3: score"),
        ("a bit of a state flipped", d.flip("src", 11, 16), "L", "arc 11: src"),
        ("another score", d.fst(d.score(3, 0.01)), "L", "arc 3: score"),
        ("an arc less", d.fst(d.drop_arc(9)), "L", "; lexicon.txt has"),
        ("an arc to elsewhere", d.fst(d.redirect(9, 2)), "L", "arc 9: dst 2, expected"),
        ("another token", d.fst(d.relabel("ilabel", 9, 3)), "L", "arc 9: ilabel 3, expected"),
        ("another word", d.fst(d.relabel("olabel", 1, 5)), "L", "arc 1: olabel 5, expected"),
        ("not final", d.fst(d.final(3, 0.0)), "L", "state 3: final_score 0.0, expected -inf"),
        ("L_disambig", d.swap_with("L_disambig.safetensors"), "L", "kind is 'L_disambig', expected 'L'"),
        ("other metadata", d.fst(lambda fst: fst, num_pronunciations=3), "L", "num_pronunciations is 3"),
        ("empty", d.empty, "files", "L.safetensors: empty"),
        ("removed", d.remove, "L", "cannot be read"),
    ),
    *lang_files(
        "phone",
        "L_disambig.safetensors",
        ("truncated", d.truncate, "L_disambig", "cannot be read as an FST"),
        ("a bit flipped", d.flip("ilabel", 9, 1), "L_disambig", "arc 9: ilabel"),
        ("another score", d.fst(d.score(2, -0.01)), "L_disambig", "arc 2: score"),
        ("no #0", d.fst(lambda fst: d.drop_arc(8)(fst)), "L_disambig", "; lexicon.txt has"),
        ("another symbol", d.fst(lambda fst: d.relabel("ilabel", int(fst.ilabel.argmax()), 15)(fst)),
         "L_disambig", "ilabel 15, expected 16"),
        ("no symbols", d.copy_of("L.safetensors"), "L_disambig", "kind is 'L', expected 'L_disambig'"),
        ("empty", d.empty, "files", "L_disambig.safetensors: empty"),
        ("removed", d.remove, "files", "L_disambig.safetensors: no such file"),
    ),
]  # fmt: skip

TOKENIZERS = [
    *lang_files(
        "bpe",
        "tokenizer/tokens.txt",
        ("two symbols swapped", d.edit("t 16\ne 17", "e 16\nt 17"), "tokenizer", "not the pieces of"),
        ("not UTF-8", d.bad_utf8(6), "tokenizer", "not UTF-8"),
        ("removed", d.remove, "tokenizer", "tokens.txt: cannot be read"),
    ),
    *lang_files(
        "bpe",
        "tokenizer/bpe.model",
        ("truncated", d.truncate, "tokenizer", "SHA-256"),
        ("a byte flipped", d.flip_byte(200), "tokenizer", "SHA-256"),
        ("removed", d.remove, "tokenizer", "cannot be read"),
    ),
    *lang_files(
        "bpe",
        "tokenizer/tokenizer.yaml",
        ("another kind", d.settings(kind="char"), "tokenizer", "settings beside 'kind'"),
        ("truncated", d.truncate, "tokenizer", "SHA-256"),
        ("removed", d.remove, "tokenizer", "cannot be read"),
    ),
    *lang_files(
        "phone",
        "tokenizer/lexicon.txt",
        ("a line less", d.delete_line(5), "tokenizer", "SHA-256"),
    ),
    *lang_files(
        "chinese",
        "tokenizer/tokens.txt",
        ("two symbols swapped", d.edit("京 3\n关 4", "关 3\n京 4"), "tokens", "3 is '京', expected '关'"),
        ("a symbol replaced", d.edit("灯 11", "笼 11"), "tokens", "11 is '灯', expected '笼'"),
    ),
    # a step reads these, and makes the directory again
    *cases_of(
        "chinese",
        "units/tokens.txt",
        ("a symbol replaced", d.edit("灯 11", "笼 11"), "provenance", "is not the same file as"),
        ("removed", d.remove, "provenance", "units/tokens.txt (tokenizer/tokens.txt): is gone"),
        step=lambda place: place.make_lang(),
        graph=None,
    ),
    *cases_of(
        "bpe",
        "units/bpe.model",
        ("truncated", d.truncate, "provenance", "is not the same file as"),
        step=lambda place: place.make_lang(),
        graph=None,
    ),
]  # fmt: skip

RECORDS = [
    *cases_of(
        "phone",
        "lang/provenance.json",
        ("removed", d.remove, "provenance", "no record of step 'lang'"),
        ("empty", d.empty, "provenance", "not JSON"),
        ("truncated", d.truncate, "provenance", "not JSON"),
        ("another setting", d.edit('"probabilities": true', '"probabilities": false'), "lexicon", "'0.25' is not in"),
        ("no setting", d.edit('"probabilities": true,', ""), "provenance", "probabilities is None"),
        ("an output less", d.record(lambda steps: steps["lang"]["outputs"].pop("words.txt")),
         "provenance", "has no output 'words.txt' on record"),
        ("a source less", d.record(lambda steps: steps["lang"]["inputs"].pop("lexicon")),
         "provenance", "expected words or lexicon as input"),
        ("a tokenizer file less", d.record(lambda steps: steps["lang"]["inputs"].pop("tokenizer/tokens.txt")),
         "provenance", "has no input 'tokenizer/tokens.txt' on record"),
        step=lambda place: place.make_lang(),
        graph=None,
    ),
    *cases_of(
        "bpe",
        "ngram/provenance.json",
        ("removed", d.remove, "provenance", "no record of step 'G'"),
        ("truncated", d.truncate, "provenance", "not JSON"),
        ("no step G", d.record(lambda steps: steps.pop("G")), "provenance", "no record of step 'G'"),
        ("no step graph", d.record(lambda steps: steps.pop("graph")), "provenance", "no record of step 'graph'"),
        ("an output less", d.record(lambda steps: steps["graph"]["outputs"].pop("HLG.safetensors")),
         "provenance", "has no output 'HLG.safetensors' on record"),
        ("a source less", d.record(lambda steps: steps["G"]["inputs"].pop("arpa")),
         "provenance", "expected arpa or grammar as input"),
        ("no words", d.record(lambda steps: steps["G"]["inputs"].pop("words")),
         "provenance", "has no input 'words' on record"),
        ("another topology", d.edit('"topology": "standard"', '"topology": "modified"'),
         "topology", "topology is 'standard', on record is 'modified'"),
        step=lambda place: place.make_g("ngram") or place.make_graph("ngram"),
    ),
]  # fmt: skip
GRAMMARS = [
    *graph_file(
        "bpe",
        "ngram",
        "G.safetensors",
        ("truncated", d.truncate, "G", "cannot be read as an FST"),
        ("a bit of a score flipped", d.flip("score", 7, 12), "G source", "state 1: the arc for label 2"),
        ("the last bit of a score flipped", d.flip("score", 7), "LG rebuilt", "det(L_disambig o G)"),
        ("another score", d.fst(d.score(7, -0.001)), "G source", "state 1: the arc for label 2 has score"),
        ("a likelier word", d.fst(d.score(3, 1.0)), "G probabilities", "state 0: the probabilities of what follows"),
        ("a backoff beyond numbers", d.fst(d.score(5, 800.0)), "G probabilities", "state 0: the probabilities of what"),
        ("another backoff", d.fst(d.score(5, 1.0)), "G probabilities", "state 0: the probabilities of what follows"),
        ("an arc less", d.fst(d.drop_arc(7)), "G source", "state 1: no arc for label 2, expected one"),
        ("an arc to elsewhere", d.fst(d.redirect(7, 5)), "G source", "state 5:"),
        ("another final score", d.fst(d.final(3, -0.6)), "G source", "state 3: final score -0.6"),
        ("ends where it did not", d.fst(d.final(0, -1.0)), "G source", "state 0: final score -1.00000, expected -inf"),
        ("other labels", d.fst(lambda g: d.relabel("olabel", 7, 1)(d.relabel("olabel", 6, 2)(g))),
         "G", "expected the same word on both sides"),
        ("an epsilon", d.fst(lambda g: d.relabel("ilabel", 6, 0)(d.relabel("olabel", 6, 0)(g))),
         "G", "no epsilon may be read"),
        ("a label out of range", d.fst(lambda g: d.relabel("ilabel", 19, 99)(d.relabel("olabel", 19, 99)(g))),
         "G", "expected ids of words.txt, below 17"),
        ("#0 written", d.fst(d.relabel("olabel", 5, 16)), "G", "#0 may not be written"),
        ("a word on a backoff", d.fst(d.relabel("olabel", 5, 3)), "G", "expected #0:<eps>"),
        ("not sorted", d.fst(lambda g: g.take([1, 0, *range(2, g.num_arcs)])), "G", "must be sorted by label"),
        ("two arcs of a label", d.fst(lambda g: d.relabel("ilabel", 1, 4)(d.relabel("olabel", 1, 4)(g))),
         "G", "another arc of the state has the same label"),
        ("backoffs in a circle", d.fst(lambda g: d.redirect(5, 0)(g)), "G", "lead in a circle"),
        ("a dead end", d.fst(lambda g: d.final(10, -np.inf)(g.take(g.src != 10))),
         "G", "state 10 is on no path"),
        ("no end", d.fst(lambda g: replace(g, final_score=np.full_like(g.final_score, -np.inf))),
         "G", "empty: it accepts no word"),
        ("no G", d.fst(lambda g: g, kind="L"), "G", "expected a G, found 'L'"),
        ("of another source", d.fst(lambda g: g, source="grammar"), "G source", "its source is 'grammar'"),
        ("of another file", d.fst(lambda g: g, sha256="0"), "G source", "its sha256 is '0'"),
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
        ("not sorted", d.graph(lambda g: g.from_arcs(
            g.arcs().take([1, 0, *range(2, g.num_arcs)]), g.token_table, g.word_table, g.metadata)),
         "LG", "not sorted by token"),
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
        ("with modified topology", d.copy_of("../modified/HLG.safetensors"), "topology", "'modified', on record"),
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
        ("another score in both", in_both_graphs(d.score(12, -0.01)), "sampled sentences", "in LG, by L and G"),
        ("an arc less in both", in_both_graphs(d.drop_arc(1)), "sampled sentences", "LG"),
        ("an arc to elsewhere in both", in_both_graphs(d.redirect(12, 5)), "sampled sentences", "LG"),
        options=(("rebuild", False),),
    ),
]  # fmt: skip

INPUTS = [
    *cases_of(
        "bpe",
        "words",
        ("a word less", d.delete_line(4), "lexicon source", "lexicon.txt:4: found 'light"),
        ("a word twice", d.duplicate_line(4), "lexicon source", "words:5: duplicate word 'light'"),
        ("two words swapped", d.swap_lines(4, 5), "lexicon source", "lexicon.txt:4: found 'light"),
        ("not UTF-8", d.bad_utf8(4), "lexicon source", "words:4: not UTF-8"),
        ("truncated", d.truncate, "lexicon source", "lexicon.txt:11"),
        ("an unspellable word", d.insert_line(3, "naïve"), "lexicon source", "cannot be spelled"),
        ("empty", d.empty, "lexicon source", "words: empty"),
        step=lambda place: place.make_lang(),
        graph=None,
    ),
    *cases_of(
        "phone",
        "lexicon",
        ("a line less", d.delete_line(5), "lexicon source", "lexicon.txt:5: found 'a 0.25 ey'"),
        ("a line twice", d.duplicate_line(5), "lexicon source", "lexicon:6: the same entry"),
        ("another probability", d.edit("0.75", "0.5"), "lexicon source", "expected 'read 0.5 r eh d'"),
        ("not UTF-8", d.bad_utf8(3), "lexicon source", "lexicon:3: not UTF-8"),
        ("an unknown token", d.edit("b uh k", "b ow k"), "lexicon source", "token 'ow'"),
        ("truncated", d.truncate, "lexicon source", "lexicon"),
        ("removed", d.remove, "provenance", "lexicon (lexicon): is gone"),
        step=lambda place: place.make_lang(),
        graph=None,
    ),
    *cases_of(
        "bpe",
        "lm.arpa",
        ("another probability", d.substitute(r"\n\S+\tlight\t", r"\n-0.9\tlight\t"), "G source", "has score"),
        ("a line less", d.delete_line(12), "G source", "\\1-grams: has 17 n-grams"),
        ("a positive logarithm", d.edit("\n-1", "\n1"), "G source", "is positive"),
        ("not UTF-8", d.bad_utf8(12), "G source", "lm.arpa:12"),
        ("truncated", d.truncate, "G source", "lm.arpa:"),
        ("a word replaced", d.substitute("light\t", "lite\t"), "G source", "lm.arpa"),
        ("removed", d.remove, "provenance", "lm.arpa (arpa): is gone"),
        step=lambda place: place.make_g("ngram"),
    ),
    *cases_of(
        "bpe",
        "g.gram",
        ("another weight", d.edit("/2/", "/3/"), "G source", "state 0: the arc for label"),
        ("a mark less", d.edit("];", "]"), "G source", "g.gram:3"),
        ("an unknown word", d.edit("radio;", "phone;"), "G source", "g.gram:3"),
        ("not UTF-8", d.bad_utf8(3), "G source", "not UTF-8"),
        ("truncated", d.truncate, "G source", "g.gram"),
        ("removed", d.remove, "provenance", "g.gram (grammar): is gone"),
        step=lambda place: place.make_g("grammar"),
        graph="grammar",
    ),
    *cases_of(
        "bpe",
        "what.txt",
        ("a line less", d.delete_line(2), "G source", "expected"),
        ("an unknown word", d.edit("some", "more"), "G source", "what.txt:3"),
        ("removed", d.remove, "G source", "what.txt"),
        step=lambda place: place.make_g("grammar"),
        graph="grammar",
    ),
    *cases_of(
        "bpe",
        "text",
        ("a line less", d.delete_line(2), "", ""),
        ("not UTF-8", d.bad_utf8(2), "text", "text:2: not UTF-8"),
        ("other words", d.substitute("light", "lamp"), "OOV rate", "OOV rate"),
        ("a reserved word", d.insert_line(2, "<s> play"), "text", "text:2: '<s>' is reserved"),
        ("empty", d.empty, "text", "no words in it"),
        step=lambda place: place.make_units(kind="bpe", text=place / "text", vocab_size=36),
    ),
]  # fmt: skip

CASES = [*TABLES, *LEXICONS, *LEXICON_FSTS, *TOKENIZERS, *RECORDS, *GRAMMARS, *GRAPHS, *INPUTS]


def test_there_are_enough_cases() -> None:
    names = [str(case) for case in CASES]
    assert len(set(names)) == len(names) >= 200
    assert set(UNDETECTABLE) <= set(names)


@pytest.mark.parametrize("forged", [False, True], ids=["as-is", "forged"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_damage_is_found(
    built: dict[str, Workplace], tmp_path: Path, case: Case, forged: bool
) -> None:
    place = built[case.base].copy(tmp_path / "place")
    case.damage(place / case.file)
    options = {**FEW, **dict(case.options)}
    if forged:
        options = dict(case.options)
        if not case.file.endswith("provenance.json"):  # there, what it says is the damage
            place.forge()
    report = place.validate(*filter(None, [case.graph]), **options)
    if forged and str(case) in UNDETECTABLE:
        assert report.ok
        return
    assert not report.ok
    if forged:
        assert case.check in report.failed, report.text()
        assert any(case.says in error for error in report.errors(case.check)), report.text()
        return
    if not case.file.endswith("provenance.json"):
        assert "provenance" in report.failed, report.text()
    if case.step is None:
        return
    try:
        again = case.step(place)
    except MoeAsrError:
        return
    assert again, "the step said that all is up to date"
    assert not case.refused, "the step went on with the file"
