"""Epsilon removal against the enumeration of all paths."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import GraphError
from moe_asr.fsa.arcs import Arcs
from moe_asr.fsa.epsilon import remove_epsilons

Row = tuple[int, int, int, float, tuple[int, ...]]  # src, dst, label, score, words


def arcs_of(rows: list[Row]) -> Arcs:
    return Arcs(
        np.array([row[0] for row in rows], np.int32),
        np.array([row[1] for row in rows], np.int32),
        np.array([row[2] for row in rows], np.int32),
        np.array([row[3] for row in rows], np.float32),
        np.cumsum([0] + [len(row[4]) for row in rows]),
        np.array([word for row in rows for word in row[4]], np.int32),
    )


def rows_of(arcs: Arcs) -> list[Row]:
    columns = zip(
        arcs.src.tolist(), arcs.dst.tolist(), arcs.label.tolist(), arcs.score.tolist(), strict=True
    )
    splits = arcs.row_splits.tolist()
    words = [tuple(arcs.words[a:b].tolist()) for a, b in zip(splits[:-1], splits[1:], strict=True)]
    return [(*column, word) for column, word in zip(columns, words, strict=True)]


def language(
    rows: list[Row], final: int, max_labels: int
) -> dict[tuple[tuple[int, ...], tuple[int, ...]], float]:
    """(labels without epsilons, words) -> best score, of all paths from 0 to ``final``."""
    best: dict[tuple[tuple[int, ...], tuple[int, ...]], float] = {}
    stack: list[tuple[int, tuple[int, ...], tuple[int, ...], float]] = [(0, (), (), 0.0)]
    while stack:
        state, labels, words, score = stack.pop()
        if state == final:
            best[labels, words] = max(score, best.get((labels, words), -float("inf")))
        for src, dst, label, arc_score, arc_words in rows:
            if src != state or (label != 0 and len(labels) == max_labels):
                continue
            new_labels = labels if label == 0 else (*labels, label)
            stack.append((dst, new_labels, (*words, *arc_words), score + arc_score))
    return best


@settings(max_examples=150)
@given(st.integers(0, 10**6))
def test_language_is_kept(number: int) -> None:
    rng = random.Random(number)
    final = rng.randint(1, 5)
    rows: list[Row] = [(final - 1, final, -1, 0.25, ())]
    for _ in range(rng.randint(1, 9)):
        words = tuple(rng.randint(1, 3) for _ in range(rng.choice([0, 0, 1, 2])))
        src = rng.randrange(final)
        if rng.random() < 0.5 and src < final - 1:  # epsilons go up: there is no cycle of them
            rows.append((src, rng.randrange(src + 1, final), 0, rng.randint(-8, 8) / 4, words))
        else:
            label = rng.randint(1, 2)
            rows.append((src, rng.randrange(final), label, rng.randint(-8, 8) / 4, words))
    rng.shuffle(rows)
    result = rows_of(remove_epsilons(arcs_of(rows)))
    assert all(row[2] != 0 for row in result)
    assert [row[0] for row in result] == sorted(row[0] for row in result)
    assert len({(*row[:3], row[4]) for row in result}) == len(result)
    assert language(result, final, 3) == language(rows, final, 3)  # quarters: sums are exact


def test_homophones_are_kept() -> None:
    rows: list[Row] = [
        (0, 1, 5, 0.0, ()), (1, 0, 0, -1.0, (7,)), (1, 0, 0, -2.0, (8,)), (1, 0, 0, -3.0, (7,)),
        (0, 2, -1, 0.0, ()),
    ]  # fmt: skip
    assert rows_of(remove_epsilons(arcs_of(rows))) == [
        (0, 2, -1, 0.0, ()),
        (0, 1, 5, 0.0, ()),
        (1, 2, -1, -1.0, (7,)),
        (1, 2, -1, -2.0, (8,)),
        (1, 1, 5, -1.0, (7,)),
        (1, 1, 5, -2.0, (8,)),
    ]


def test_cycles_of_epsilons_are_refused() -> None:
    rows: list[Row] = [(0, 1, 0, 0.0, ()), (1, 0, 0, 0.0, ()), (1, 2, -1, 0.0, ())]
    with pytest.raises(GraphError, match="cycle"):
        remove_epsilons(arcs_of(rows))
