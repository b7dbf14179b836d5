"""Partial results: what is kept from one to the next against what is made afresh, and what they leave out."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.native import PartialResult
from moe_asr.fsa.time_correction import TimeCorrection
from moe_asr.recognizer.partials import SegmentPartials
from moe_asr.recognizer.results import Word
from moe_asr.recognizer.word_timer import TokenPath, WordTimer
from moe_asr.text.lexicon import Lexicon, Pronunciation
from moe_asr.text.phone import PhoneTokenizer
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import CharTokenizer, Tokenizer

SHIFT = 0.04
FIRST_FRAME = 25  # a second
WORDS = ["on", "one", "to", "no", "know"]
CORRECTIONS = [
    TimeCorrection(),
    TimeCorrection(
        -0.05, 0.11, 0.03, 0.07, counts_separator=True, longest_lead_seconds=0.1,
        longest_gap_seconds=0.2,
    ),
    TimeCorrection(0.3, 0.9, late_offset_seconds=0.5, longest_lead_seconds=0.0),
]  # fmt: skip
CHARACTERS = CharTokenizer.from_texts([" ".join(WORDS)])
PHONES = PhoneTokenizer.from_lexicon(
    Lexicon(Pronunciation(word, tuple(word.strip("kw").upper())) for word in WORDS)
)  # "no" and "know" sound alike


def timer_of(
    tokenizer: Tokenizer, kind: str, correction: TimeCorrection | None = None
) -> WordTimer:
    """Of a graph whose arcs do not matter."""
    zero, one = np.zeros(1, np.int32), np.ones(1, np.int32)
    words = SymbolTable(["<eps>", *WORDS]) if kind == "LG" else tokenizer.tokens
    graph = DecodingGraph(
        zero, one, -one, np.zeros(1, np.float32), np.zeros(2, np.int32), zero[:0],
        tokenizer.tokens, words, {"kind": kind},
    )  # fmt: skip
    return WordTimer(graph, tokenizer, SHIFT, correction)


def spell(rng: random.Random, tokenizer: Tokenizer, words: list[str]) -> list[list[int]]:
    """The tokens of each word; a separator may come before the first, and does before the others."""
    if tokenizer is PHONES:
        return [tokenizer.encode(word) for word in words]
    separator = tokenizer.tokens["▁"]
    return [
        [separator] * (bool(place) or rng.random() < 0.5) + tokenizer.encode(word)
        for place, word in enumerate(words)
    ]


def status_of(
    words: list[str], tokens: list[int], frames: list[int], ends: list[int], num_frames: int,
    num_stable: int = 0, is_of_words: bool = True,
) -> PartialResult:  # fmt: skip
    ids = [WORDS.index(word) + 1 for word in words] if is_of_words else tokens
    return PartialResult(
        tuple(ids), tuple(range(len(ids))), num_stable, num_frames, tuple(tokens), tuple(frames),
        tuple(ends), 0, 0.0, False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("tokenizer", "kind"), [(CHARACTERS, "LG"), (PHONES, "LG"), (CHARACTERS, "T"), (PHONES, "T")],
    ids=["spelling", "lexicon", "tokens", "phones"],
)  # fmt: skip
@settings(max_examples=100)
@given(number=st.integers(0, 10**9), correction=st.sampled_from(CORRECTIONS))
def test_what_is_kept_is_what_would_be_made(
    tokenizer: Tokenizer, kind: str, number: int, correction: TimeCorrection
) -> None:
    """The end of the best path changes from chunk to chunk, and sometimes all of it."""
    rng = random.Random(number)
    timer = timer_of(tokenizer, kind, correction)
    partials = SegmentPartials(timer, "x", 3, FIRST_FRAME)
    said = [rng.choice(WORDS) for _ in range(12)]
    frames, ends, num_frames = [], [], 0
    for _ in range(12):
        changed = rng.choice([1, 2, 3, 30])
        said[-changed:] = [rng.choice(WORDS) for _ in range(changed)]
        spelled = spell(rng, tokenizer, said)
        count = rng.randint(0, len(said))
        tokens = sum(spelled[:count], [])
        heard = sum(map(len, spelled[:count])) - rng.choice([0, 0, 1, 2])  # the last is unfinished
        tokens = tokens[: max(heard, 0)]
        kept = min(rng.choice([0, len(frames) // 2, len(frames)]), len(tokens))
        frames, ends = frames[:kept], ends[:kept]
        while len(frames) < len(tokens):
            frames.append((ends[-1] if ends else -1) + rng.choice([1, 1, 2, 5, 9]))
            ends.append(frames[-1] + rng.choice([0, 0, 1, 3]))
        num_frames = max(num_frames, (ends[-1] if ends else 0) + rng.choice([1, 2, 10, 40]))
        foreseen = said[: count + rng.choice([0, 0, 1])]
        if tokenizer is CHARACTERS and len(tokens) < sum(map(len, spelled[: count - 1])) + 1:
            foreseen = said[:count]
        status = status_of(
            foreseen, tokens, frames, ends, num_frames, rng.randint(0, 3), kind == "LG"
        )
        result = partials.result(status)
        assert result == SegmentPartials(timer, "x", 3, FIRST_FRAME).result(status)
        assert (result.stream_id, result.segment, result.is_final) == ("x", 3, False)
        assert result.text == " ".join(word.text for word in result.words)
        if kind == "T":
            assert result.text == tokenizer.decode(tokens)
        times = [t for word in result.words for t in (word.start_seconds, word.end_seconds)]
        assert times == sorted(times) and 0 <= result.num_stable <= len(result.words)
        end = (FIRST_FRAME + num_frames) * SHIFT
        assert (result.start_seconds, result.end_seconds) == pytest.approx((1.0, end))
        assert not times or 1.0 <= times[0] <= times[-1] <= result.end_seconds


def test_words_that_have_not_been_heard_are_left_out() -> None:
    partials = SegmentPartials(timer_of(CHARACTERS, "LG"), "x", 0)
    o, n, e = (CHARACTERS.tokens[letter] for letter in "one")
    foreseen = partials.result(status_of(["one", "to", "no"], [o, n], [4, 6], [4, 7], 16, 2))
    assert foreseen.text == "one" and foreseen.num_stable == 1  # half of it
    assert foreseen.words == (Word("one", 4 * SHIFT, 8 * SHIFT),)
    heard = partials.result(status_of(["one", "no"], [o, n, e], [4, 6, 9], [4, 7, 9], 32, 0))
    assert heard.words == (Word("one", 4 * SHIFT, 10 * SHIFT),) and heard.num_stable == 0
    nothing = partials.result(status_of(["to"], [], [], [], 48, 1))
    assert (nothing.text, nothing.words, nothing.num_stable) == ("", (), 0)


def test_a_word_that_ended_early_for_want_of_frames_goes_on() -> None:
    timer = timer_of(CHARACTERS, "LG", TimeCorrection(end_offset_seconds=0.4))
    partials = SegmentPartials(timer, "x", 0)
    o, n = CHARACTERS.tokens["o"], CHARACTERS.tokens["n"]
    found = [
        partials.result(status_of(["on"], [o, n], [4, 6], [4, 6], frames)).words[0].end_seconds
        for frames in (8, 12, 100, 200)
    ]
    assert found == pytest.approx([0.32, 0.48, 0.68, 0.68])


def test_stable_words_of_a_graph_of_tokens_can_no_longer_grow() -> None:
    partials = SegmentPartials(timer_of(CHARACTERS, "T"), "x", 0)
    tokens = CHARACTERS.encode("on one")
    assert len(tokens) == 6
    stable = [
        partials.result(
            status_of([], tokens, list(range(6)), list(range(6)), 16, count, False)
        ).num_stable
        for count in range(7)
    ]
    assert stable == [0, 0, 0, 0, 1, 1, 1]  # "on" once the "o" of the next word is stable


@pytest.mark.parametrize("kind", ["LG", "T"])
def test_frames_of_words_for_a_cut(kind: str) -> None:
    timer = timer_of(CHARACTERS, kind)
    tokens = tuple(CHARACTERS.encode("on one to")[:-1])
    assert [CHARACTERS.tokens.symbol(token) for token in tokens] == list("on▁one▁t")
    frames, ends = (0, 3, 5, 7, 9, 11, 14, 20), (1, 3, 5, 8, 9, 12, 15, 21)
    path = TokenPath((1, 2), tokens, frames, ends, is_partial=True)
    starts, stops = timer.word_frames(path, 40)
    # on a graph of words the third is not known yet: it may be any, and long
    assert (starts, stops) == ([0, 7, 20], [3, 12, 39 if kind == "LG" else 21])
    assert timer.word_frames(TokenPath((), (), (), (), True), 40) == ([], [])
    only = TokenPath((), tokens[:2], frames[:2], ends[:2], is_partial=True)
    assert timer.word_frames(only, 40) == ([0], [39 if kind == "LG" else 3])
    whole = TokenPath((1,), tokens[:3], frames[:3], ends[:3], is_partial=True)
    assert timer.word_frames(whole, 40) == ([0], [3])
    assert timer.word_frames(TokenPath((1, 2, 3), tokens, frames, ends, True), 40)[1] == [3, 12, 21]


def test_another_word_of_the_same_sound() -> None:
    partials = SegmentPartials(timer_of(PHONES, "LG"), "x", 0)
    tokens = sum((PHONES.encode(word) for word in ["no", "to", "on", "one"]), [])
    frames = list(range(len(tokens)))
    for first in ("no", "know", "no"):
        words = [first, "to", "on", "one"]
        assert partials.result(status_of(words, tokens, frames, frames, 16)).text.split() == words
