"""Slow references for graphs: everything is enumerated, nothing is shared with the package."""

import itertools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from moe_asr.fsa.arcs import Arcs
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.text.lexicon import Lexicon, Pronunciation

BUILDERS = ["openfst", pytest.param("k2", marks=pytest.mark.k2)]
ARC_NAMES = ("src", "dst", "ilabel", "olabel", "score")
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


def grammar_score(g: Fst, labels: tuple[int, ...], state: int = 0) -> float:
    """The best path of G with these input labels, arcs without output (backoff) being free; or -inf."""
    best = float(g.final_score[state]) if not labels else -float("inf")
    for arc in np.flatnonzero(g.src == state).tolist():
        output, following = int(g.olabel[arc]), int(g.dst[arc])
        if output == 0:
            rest = grammar_score(g, labels, following)
        elif labels and output == labels[0]:
            rest = grammar_score(g, labels[1:], following)
        else:
            continue
        best = max(best, float(g.score[arc]) + rest)
    return best


def brute_force_with_g(
    lexicon: Lexicon, g: Fst, tokens: list[str], num_frames: int, modified: bool = False
) -> Scores:
    """`brute_force` with the scores of a G over the lexicon's word table."""
    words = lexicon.word_table()
    unscored = brute_force(lexicon, dict.fromkeys(lexicon.words, 0.0), tokens, num_frames, modified)
    grammar = {
        sentence: grammar_score(g, tuple(words[word] for word in sentence))
        for sentence in {key[1] for key in unscored}
    }
    return {
        key: score + grammar[key[1]]
        for key, score in unscored.items()
        if grammar[key[1]] > -float("inf")
    }


def random_g(rng: random.Random, lexicon: Lexicon) -> Fst:
    """A small deterministic G with backoff arcs to lower states; the start accepts at least one word."""
    words = lexicon.word_table()
    num_states = rng.randint(1, 4)
    backoff = len(words) - 1
    arcs = []
    for state in range(num_states):
        for word in lexicon.words:
            if rng.random() < 0.7 or not arcs:
                label, score = words[word], rng.randint(-16, 4) / 4
                arcs.append((state, rng.randrange(num_states), label, label, score))
        if state > 0 and rng.random() < 0.7:
            arcs.append((state, rng.randrange(state), backoff, 0, rng.randint(-8, 0) / 4))
    finals = {state: rng.randint(-8, 0) / 4 for state in range(num_states) if rng.random() < 0.6}
    return Fst.from_list(arcs, {num_states - 1: -1.0, arcs[0][1]: -0.5, **finals})


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


IdScores = dict[tuple[tuple[int, ...], tuple[int, ...]], float]  # (labels, words) -> best score


def fst_language(fst: Fst, longest: int) -> IdScores:
    """Of all paths of at most ``longest`` input labels; 0 is epsilon, on both sides."""
    rows = zip(*(getattr(fst, name).tolist() for name in ARC_NAMES), strict=True)
    finals = {s: float(x) for s, x in enumerate(fst.final_score) if x > -np.inf}
    return _language(
        [(src, dst, (i,) if i else (), (o,) if o else (), score) for src, dst, i, o, score in rows],
        finals,
        longest,
    )


def arcs_language(arcs: Arcs, longest: int, epsilon: int | None = None) -> IdScores:
    """Of all paths of at most ``longest`` labels and the final -1; ``epsilon`` counts as none."""
    words = np.split(arcs.words, arcs.row_splits[1:-1]) if len(arcs) else []
    final = int(arcs.dst.max(initial=0))
    rows = [
        (src, dst, () if label in (-1, epsilon) else (label,), tuple(out.tolist()), score)
        for src, dst, label, out, score in zip(
            arcs.src.tolist(), arcs.dst.tolist(), arcs.label.tolist(), words, arcs.score.tolist(),
            strict=True,
        )
    ]  # fmt: skip
    return _language(rows, {final: 0.0} if -1 in arcs.label else {}, longest)


def _language(
    rows: "list[tuple[int, int, tuple[int, ...], tuple[int, ...], float]]",
    finals: dict[int, float],
    longest: int,
) -> IdScores:
    """By relaxation: the best score of every (state, labels, words) that can be reached."""
    leaving: dict[int, list[Any]] = {}
    for row in rows:
        leaving.setdefault(row[0], []).append(row)
    reached: dict[tuple[int, tuple[int, ...], tuple[int, ...]], float] = {(0, (), ()): 0.0}
    waiting = list(reached)
    while waiting:
        state, labels, words = key = waiting.pop()
        for _, dst, label, out, score in leaving.get(state, []):
            if len(labels) + len(label) <= longest:
                new = dst, labels + label, words + out
                if reached[key] + score > reached.get(new, -np.inf):
                    reached[new] = reached[key] + score
                    waiting.append(new)
    best: IdScores = {}
    for (state, labels, words), score in reached.items():
        if state in finals:
            total = score + finals[state]
            best[labels, words] = max(total, best.get((labels, words), -np.inf))
    return best


def random_arcs(rng: random.Random) -> Arcs:
    """A connected epsilon-free graph of tokens 1 and 2 with words, sorted by src, label and dst."""
    while True:
        num_states = rng.randint(1, 4)
        rows: list[tuple[int, int, int, float, tuple[int, ...]]] = []
        for _ in range(rng.randint(0, 7)):
            words = tuple(rng.randint(1, 3) for _ in range(rng.choice([0, 1, 1, 2])))
            src, dst = rng.randrange(num_states), rng.randrange(num_states)
            rows.append((src, dst, rng.randint(1, 2), rng.randint(-8, 8) / 4, words))
        for state in range(num_states):
            if rng.random() < 0.5:
                words = tuple(rng.randint(1, 3) for _ in range(rng.choice([0, 0, 1, 2])))
                rows.append((state, num_states, -1, rng.randint(-8, 0) / 4, words))
        arcs = Arcs(
            *(np.array([row[i] for row in rows], np.int32) for i in range(3)),
            np.array([row[3] for row in rows], np.float32),
            np.cumsum([0] + [len(row[4]) for row in rows]),
            np.array([word for row in rows for word in row[4]], np.int32),
        ).connect()
        if len(arcs):
            return arcs.sort()


def random_lexicon(
    rng: random.Random,
    tokens: list[str],
    max_entries: int = 5,
    words: str = "ABC",
    longest: int = 3,
) -> Lexicon:
    """A lexicon with homophones, prefixes and several weighted pronunciations a word."""
    entries: dict[tuple[str, tuple[str, ...]], Pronunciation] = {}
    for _ in range(rng.randint(1, max_entries)):
        word = rng.choice(words)
        spelling = tuple(rng.choice(tokens) for _ in range(rng.randint(1, longest)))
        log_prob = rng.choice([0.0, -0.25, -1.5])
        entries.setdefault((word, spelling), Pronunciation(word, spelling, log_prob))
    return Lexicon(entries.values())
