"""Words with times, as lattices and alignments have them, to the lines of a ctm file."""

from collections.abc import Sequence

from moe_asr.errors import DataError
from moe_asr.evaluate.ctm import CtmWord
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.nbest import NBestPath
from moe_asr.fsa.time_correction import TimeCorrection, TimedWord
from moe_asr.fsa.word_times import LexiconCutter, SpellingCutter, WordCutter, WordTime
from moe_asr.text.phone import PhoneTokenizer
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import Tokenizer


def hypothesis_ctm(
    name: str,
    word_times: Sequence[WordTime],
    word_table: SymbolTable,
    frame_shift_seconds: float,
    confidences: Sequence[float] | None = None,
    channel: str = "1",
) -> list[CtmWord]:
    """The words of a path through a lattice (`moe_asr.fsa.word_times`), uncorrected.

    Args:
        name: of the utterance.
        word_times: ids and frames.
        word_table: of the graph.
        frame_shift_seconds: from one frame of the log-probabilities to the next.
        confidences: one of each word, 0..1.
        channel: the second column.

    Raises:
        DataError: naming the utterance, if there are not as many confidences as words, or one starts before
            the one before it.
    """
    timed = [
        TimedWord(word_table.symbol(word.word), *word.seconds(frame_shift_seconds))
        for word in word_times
    ]
    return timed_words_ctm(name, timed, confidences, channel)


def path_ctm(
    name: str,
    path: NBestPath,
    cutter: WordCutter,
    word_table: SymbolTable,
    frame_shift_seconds: float,
    correction: TimeCorrection | None = None,
    duration_seconds: float = float("inf"),
    confidences: Sequence[float] | None = None,
    is_partial: bool = False,
    channel: str = "1",
) -> list[CtmWord]:
    """The words of a path through a lattice, their times corrected; words without tokens are left out.

    Args:
        name: of the utterance.
        path: with its tokens.
        cutter: knows which tokens spell a word.
        word_table: of the graph.
        frame_shift_seconds: from one frame of the log-probabilities to the next.
        correction: None: none.
        duration_seconds: of the utterance.
        confidences: one of each word of the path, 0..1.
        is_partial: that of the lattice: the last word may be unfinished.
        channel: the second column.

    Raises:
        GraphError: if words and tokens of the path do not fit together.
        DataError: naming the utterance, if there are not as many confidences as words.
    """
    if confidences is not None and len(confidences) != len(path.words):
        raise DataError(
            f"utterance {name}: {len(confidences)} confidences of {len(path.words)} words"
        )
    timed = (correction or TimeCorrection()).apply(
        range(len(path.words)),
        cutter.cut(path.words, path.tokens, is_partial),
        path.token_frames,
        path.token_ends,
        frame_shift_seconds,
        duration_seconds,
    )
    named = [
        TimedWord(word_table.symbol(path.words[w.word]), w.start_seconds, w.end_seconds)
        for w in timed
    ]
    kept = None if confidences is None else [confidences[w.word] for w in timed]
    return timed_words_ctm(name, named, kept, channel)


def timed_words_ctm(
    name: str,
    words: Sequence[TimedWord[str]],
    confidences: Sequence[float] | None = None,
    channel: str = "1",
) -> list[CtmWord]:
    """The same of words whose times are in seconds (`TimeCorrection.apply`)."""
    if confidences is not None and len(confidences) != len(words):
        raise DataError(f"utterance {name}: {len(confidences)} confidences of {len(words)} words")
    lines: list[CtmWord] = []
    for number, word in enumerate(words):
        start, end = word.start_seconds, word.end_seconds
        if lines and start < lines[-1].start_seconds:
            raise DataError(
                f"utterance {name}: '{word.word}' starts at {start} s, before '{lines[-1].word}'"
            )
        # a mean of posteriors may be above 1 by rounding
        confidence = None if confidences is None else min(confidences[number], 1.0)
        lines.append(CtmWord(name, channel, start, end - start, word.word, confidence))
    return lines


def word_cutter(graph: DecodingGraph, tokenizer: Tokenizer) -> WordCutter:
    """What cuts the tokens of the graph's paths into words."""
    if isinstance(tokenizer, PhoneTokenizer):
        return LexiconCutter(tokenizer.lexicon, graph.token_table, graph.word_table)
    return SpellingCutter(graph.token_table, graph.word_table)
