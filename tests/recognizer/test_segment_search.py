"""What nobody said is no word, even where the graph has no way to say nothing."""

import numpy as np
import torch

from moe_asr.fsa.build import build_graphs
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.native import NativeEngine
from moe_asr.fsa.nbest import nbest
from moe_asr.recognizer.segment_search import WITHIN, SegmentSearch
from moe_asr.text.lexicon import lexicon_from_tokenizer
from moe_asr.text.tokenizer import CharTokenizer


def frames(tokenizer: CharTokenizer, said: list[str], others: float = -6.0) -> torch.Tensor:
    """(T, V) log-probabilities that are nearly sure; '' is blank."""
    tokens = tokenizer.tokens
    ids = torch.tensor([tokens[token] if token else 0 for token in said])
    scores = torch.full((len(said), len(tokens)), others)
    scores[torch.arange(len(said)), ids] = 0.0
    return scores.log_softmax(1)


def test_silence_and_separators_are_no_words() -> None:
    tokenizer = CharTokenizer.from_texts(["a ba bb"])
    lexicon = lexicon_from_tokenizer(["a", "ba", "bb"], tokenizer)
    labels = np.array([lexicon.word_table()[word] for word in ("a", "ba", "bb")])
    one_word = Fst.from_arcs(
        np.zeros(3, int), np.ones(3, int), labels, labels, [-0.5, -1.0, -1.2], [-np.inf, 0.0]
    )
    graphs = build_graphs(lexicon, one_word, tokenizer.tokens)
    cases = {
        ("", "", "", ""): (4, ""),
        ("\u2581", "", "", "", ""): (5, ""),
        ("\u2581", "", "a", "a", "", ""): (2, "a"),
        ("\u2581", "b", "", "a"): (0, "ba"),
        ("\u2581", "b", "", ""): (2, ""),  # the beginning of a word
        ("\u2581", "a", "", "", "\u2581", ""): (4, "a"),
    }
    for graph in (graphs.lg, graphs.hlg):
        search = SegmentSearch(NativeEngine(graph), tokenizer, ends_anywhere=True)
        rows = [frames(tokenizer, list(said)) for said in cases]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = [len(said) for said in cases]
        names = [str(number) for number in range(len(cases))]
        lattices = search.search(padded, lengths, names, [None] * len(cases))
        for row, lattice, (silent, word) in zip(rows, lattices, cases.values(), strict=True):
            state = search.engine.start()
            search.engine.advance([state], [row])
            assert search.num_silent_frames(search.engine.partial(state)) == silent
            assert lattice.num_frames == len(row) and lattice.is_empty == (not word)
            if word:
                assert graph.word_symbols(nbest(lattice, 1)[0].words) == [word]
            else:  # the engine itself says a word
                assert graph.word_symbols(nbest(search.engine.finish(state), 1)[0].words)


def test_a_word_that_the_language_model_does_not_like_is_heard_all_the_same() -> None:
    """The best path leaves it unfinished, and so does not pay for it; the model saw its tokens."""
    tokenizer = CharTokenizer.from_texts(["baba babb"])
    lexicon = lexicon_from_tokenizer(["baba", "babb"], tokenizer)
    labels = np.array([lexicon.word_table()[word] for word in ("baba", "babb")])
    dear = Fst.from_arcs(
        np.zeros(2, int), np.ones(2, int), labels, labels, [-15.0, -15.0], [-np.inf, 0.0]
    )
    graphs = build_graphs(lexicon, dear, tokenizer.tokens)
    whole, half = ["\u2581", "b", "a", "b", "a", ""], ["\u2581", "b", "a", "b", "", ""]
    spread = [""] * WITHIN
    cases = {
        "baba": whole,
        "": half,
        " ": ["\u2581", "b", "a", *spread, "b", "a", ""],  # each of them long after the other
    }
    for graph in (graphs.lg, graphs.hlg):
        search = SegmentSearch(NativeEngine(graph), tokenizer, ends_anywhere=True)
        for word, said in cases.items():
            rows = frames(
                tokenizer, said, -3.0
            )  # to leave out four tokens costs less than the word
            (lattice,) = search.search(rows[None], [len(rows)], ["x"], [None])
            found = graph.word_symbols(nbest(lattice, 1)[0].words) if not lattice.is_empty else []
            assert found == word.split()
