"""Slow references for graphs: everything is enumerated, nothing is shared with the package."""

import itertools
import random
from collections.abc import Iterator

from moe_asr.fsa.graph import DecodingGraph
from moe_asr.text.lexicon import Lexicon, Pronunciation

Scores = dict[tuple[tuple[int, ...], tuple[str, ...]], float]  # (labels, words) -> best score


def token_sequences(labels: tuple[int, ...], modified: bool) -> set[tuple[int, ...]]:
    """The token sequences that CTC frame labels stand for; several in the modified topology."""
    options: list[list[tuple[int, ...]]] = []
    for label, run in itertools.groupby(labels):
        length = len(list(run))
        if label == 0:
            continue
        longest = length if modified else 1
        options.append([(label,) * count for count in range(1, longest + 1)])
    return {tuple(itertools.chain(*choice)) for choice in itertools.product(*options)}


def word_sequences(
    tokens: tuple[int, ...], lexicon: list[tuple[str, tuple[int, ...], float]]
) -> Iterator[tuple[tuple[str, ...], float]]:
    """Every way to cut tokens into words, with its score."""
    if not tokens:
        yield (), 0.0
    for word, spelling, score in lexicon:
        if spelling == tokens[: len(spelling)]:
            for rest, rest_score in word_sequences(tokens[len(spelling) :], lexicon):
                yield (word, *rest), score + rest_score


def brute_force(
    lexicon: Lexicon,
    word_scores: dict[str, float],
    tokens: list[str],
    num_frames: int,
    modified: bool = False,
) -> Scores:
    """All label sequences of ``num_frames`` frames with the words they can mean and the score."""
    spelled = [
        (
            entry.word,
            tuple(tokens.index(token) for token in entry.tokens),
            entry.log_prob + word_scores[entry.word],
        )
        for entry in lexicon.pronunciations
    ]
    best: Scores = {}
    for labels in itertools.product(range(len(tokens)), repeat=num_frames):
        for sequence in token_sequences(labels, modified):
            for words, score in word_sequences(sequence, spelled):
                key = (labels, words)
                best[key] = max(score, best.get(key, -float("inf")))
    return best


def graph_paths(graph: DecodingGraph, num_frames: int) -> Scores:
    """The same, read off a graph by following every path."""
    leaving: dict[int, list[int]] = {}
    for arc, state in enumerate(graph.src.tolist()):
        leaving.setdefault(state, []).append(arc)
    best: Scores = {}
    stack: list[tuple[int, tuple[int, ...], tuple[str, ...], float]] = [(0, (), (), 0.0)]
    while stack:
        state, labels, words, score = stack.pop()
        for arc in leaving.get(state, []):
            token = int(graph.token[arc])
            new_words = (*words, *graph.word_symbols(graph.words_of(arc).tolist()))
            new_score = score + float(graph.score[arc])
            if token == -1:
                if len(labels) == num_frames:
                    key = (labels, new_words)
                    best[key] = max(new_score, best.get(key, -float("inf")))
            elif len(labels) < num_frames:
                stack.append((int(graph.dst[arc]), (*labels, token), new_words, new_score))
    return best


def random_lexicon(rng: random.Random, tokens: list[str], max_entries: int = 5) -> Lexicon:
    """A lexicon with homophones, prefixes and several pronunciations a word."""
    entries: dict[tuple[str, tuple[str, ...]], Pronunciation] = {}
    for _ in range(rng.randint(1, max_entries)):
        word = rng.choice(["A", "B", "C"])
        spelling = tuple(rng.choice(tokens) for _ in range(rng.randint(1, 3)))
        log_prob = rng.choice([0.0, -0.25, -1.5])
        entries.setdefault((word, spelling), Pronunciation(word, spelling, log_prob))
    return Lexicon(entries.values())
