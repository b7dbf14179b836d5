"""Random sentences of a grammar, and random paths of any G, in proportion to their probabilities."""

import bisect
import itertools
import random
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np

from moe_asr.errors import GraphError
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.grammar_ast import Choice, Grammar, Maybe, Node, Reference, Sequence, Word

_MAX_PATH = 100_000  # arcs; a G that goes on for so long does not end
_MAX_REJECTED = 100_000  # sentences in a row


class SampledPath(NamedTuple):
    """A path from the start of an `Fst` to a final state.

    Attributes:
        words: its output labels, epsilons left out.
        score: of the whole path, the final score included; natural log.
    """

    words: tuple[int, ...]
    score: float


def iterate_words(grammar: Grammar, rng: random.Random) -> Iterator[tuple[str, ...]]:
    """Sentences without end, each drawn with its probability, independently; some may be empty."""
    start = grammar.rules[grammar.start].body
    while True:
        words: list[str] = []
        _say(start, grammar, rng, words)
        yield tuple(words)


def _say(node: Node, grammar: Grammar, rng: random.Random, words: list[str]) -> None:
    if isinstance(node, Word):
        words.append(node.text)
    elif isinstance(node, Reference):
        _say(grammar.rules[node.name].body, grammar, rng, words)
    elif isinstance(node, Sequence):
        for item in node.items:
            _say(item, grammar, rng, words)
    elif isinstance(node, Choice):
        draw = rng.random() * node.cumulative[-1]
        branch = min(bisect.bisect_right(node.cumulative, draw), len(node.branches) - 1)
        _say(node.branches[branch], grammar, rng, words)
    elif isinstance(node, Maybe):
        if rng.random() < node.probability:
            _say(node.item, grammar, rng, words)
    else:
        count = 0
        while rng.random() < node.probability_of_more(count):
            _say(node.item, grammar, rng, words)
            count += 1


def iterate_sentences(
    grammar: Grammar, rng: random.Random, distinct: bool = False, exclude: Collection[str] = ()
) -> Iterator[str]:
    """Sentences without end, words separated by spaces; the empty sentence is left out.

    Args:
        distinct: none comes twice. The more come, the less likely are those that are left.
        exclude: sentences that are not wanted.

    Raises:
        GraphError: if 100,000 draws in a row bring none that is wanted: there are hardly any left.
    """
    unwanted = {"", *exclude}
    rejected = 0
    for words in iterate_words(grammar, rng):
        sentence = " ".join(words)
        if sentence in unwanted:
            rejected += 1
            if rejected == _MAX_REJECTED:
                raise GraphError(
                    f"the grammar has hardly any other sentences: {_MAX_REJECTED:,} in a row were "
                    "excluded, empty or drawn before"
                )
            continue
        rejected = 0
        if distinct:
            unwanted.add(sentence)
        yield sentence


def sample_sentences(
    grammar: Grammar,
    num: int,
    rng: random.Random,
    distinct: bool = False,
    exclude: Collection[str] = (),
) -> list[str]:
    """The first ``num`` of `iterate_sentences`."""
    return list(itertools.islice(iterate_sentences(grammar, rng, distinct, exclude), num))


def sample_paths(fst: Fst, num: int, rng: random.Random) -> list[SampledPath]:
    """``num`` paths of a G: at each state an arc, or the end, in proportion to the exp of its score.

    A backoff arc (``#0:<eps>``) is followed like any other and leaves no word. A G whose states are
    not normalised is sampled as if they were; the score is always the one that G has.

    Raises:
        GraphError: if a path comes to a state that has no way on and is not final (`Fst.connect`
            removes those), or does not end within 100,000 arcs.
    """
    splits = fst.arc_splits.tolist()
    ways: dict[int, np.ndarray] = {}  # sums of the first probabilities; the last is of ending there
    paths = []
    for _ in range(num):
        state, score = 0, 0.0
        words: list[int] = []
        for _ in range(_MAX_PATH):
            begin, end = splits[state], splits[state + 1]
            if state not in ways:
                scores = np.append(fst.score[begin:end], fst.final_score[state]).astype(np.float64)
                if not np.isfinite(scores).any():
                    raise GraphError(f"state {state} is a dead end: not final, and without arcs")
                ways[state] = np.cumsum(np.exp(scores - scores.max()))
            sums = ways[state]
            way = int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))
            if way >= end - begin:
                paths.append(SampledPath(tuple(words), score + float(fst.final_score[state])))
                break
            arc = begin + way
            score += float(fst.score[arc])
            if fst.olabel[arc]:
                words.append(int(fst.olabel[arc]))
            state = int(fst.dst[arc])
        else:
            raise GraphError(f"a path did not end within {_MAX_PATH} arcs")
    return paths
