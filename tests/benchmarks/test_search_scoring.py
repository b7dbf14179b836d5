"""Error rates of best paths and lattices, and which settings are compared."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.search_engines import Decoded, WordLattice
from benchmarks.search_report import (
    Row,
    faster_reference,
    fastest_no_worse,
    format_table,
    k2_reference,
    summary,
)
from benchmarks.search_run import Job, Quality, Speed, measure_quality
from benchmarks.search_scoring import Accuracy, accuracy, oracle_errors


def edit_distance(a: list[int], b: list[int]) -> int:
    """By its recursive definition."""
    if not a or not b:
        return len(a) + len(b)
    if a[0] == b[0]:
        return edit_distance(a[1:], b[1:])
    return 1 + min(edit_distance(a[1:], b[1:]), edit_distance(a[1:], b), edit_distance(a, b[1:]))


@st.composite
def lattices(draw: st.DrawFn) -> tuple[WordLattice, list[list[int]]]:
    """A random lattice and the words of all of its paths."""
    num_states = draw(st.integers(2, 5))
    arcs = []
    for source, following in pairwise(range(num_states)):  # a path through all states, and more
        others = draw(st.lists(st.integers(following, num_states - 1), max_size=2))
        for destination in (following, *others):
            arcs.append((source, destination, draw(st.lists(st.integers(1, 3), max_size=2))))
    paths: list[list[list[int]]] = [[[]]] + [[] for _ in range(num_states - 1)]
    for source, destination, words in arcs:
        paths[destination] += [path + words for path in paths[source]]
    splits = np.cumsum([0, *(len(words) for _, _, words in arcs)]).astype(np.int32)
    lattice = WordLattice(
        np.array([arc[0] for arc in arcs], np.int32),
        np.array([arc[1] for arc in arcs], np.int32),
        splits,
        np.array([word for arc in arcs for word in arc[2]], np.int32),
    )
    return lattice, paths[-1]


@given(case=lattices(), reference=st.lists(st.integers(1, 3), max_size=4))
def test_the_oracle_is_the_best_of_all_paths(
    case: tuple[WordLattice, list[list[int]]], reference: list[int]
) -> None:
    lattice, paths = case
    expected = min(edit_distance(path, reference) for path in paths)
    assert oracle_errors(lattice, reference) == expected


def test_accuracy_of_two_utterances() -> None:
    none = np.zeros(0, np.int32)
    empty = WordLattice(none, none, np.zeros(1, np.int32), none)
    two = WordLattice(  # word 1 or word 2
        np.array([0, 0], np.int32),
        np.array([1, 1], np.int32),
        np.array([0, 1, 2], np.int32),
        np.array([1, 2], np.int32),
    )
    decoded = [Decoded([2], -1.0, two), Decoded([], None, empty)]
    found = accuracy([[1], [1, 1, 1]], decoded)
    assert (found.wer, found.oracle_wer) == (100.0, 75.0)
    assert (found.num_arcs, found.num_empty) == (1.0, 1)
    found = accuracy([[1], [2, 1, 1]], [Decoded([2], -1.0), Decoded([2, 1], -1.0)])
    assert (found.wer, found.oracle_wer, found.num_arcs) == (50.0, 50.0, None)


def row(engine: str, rtf: float, wer: float, oracle: float, **setting: float) -> Row:
    quality = Quality(Accuracy(wer, oracle, None, 0), -1.0, None, None)
    return Row(Job(engine, setting), quality, Speed(rtf, rtf, 1.0, None), rtf, engine == "faster")


ROWS = [
    row("native", 0.001, 12.0, 4.0, search_beam=8),
    row("native", 0.002, 10.0, 3.5, search_beam=10),
    row("native", 0.004, 10.0, 3.0, search_beam=12),
    row("native", 0.008, 9.9, 2.9, search_beam=14),
    row("k2", 0.2, 9.0, 2.0, max_active=7000),
    row("k2", 0.1, 10.0, 3.0, max_active=2000),
    row("faster", 0.01, 11.0, 11.0, beam=10),
    row("faster", 0.02, 10.0, 10.0, beam=12),
    row("faster", 0.03, 9.5, 9.5, beam=14),
]
ACCELERATED = [
    row("native", 0.001, 10.0, 3.0, search_beam=12, blank_skip=0.99),
    row("k2", 0.06, 10.0, 3.0, max_active=2000, search_beam=14),
    row("k2", 0.05, 10.0, 3.0, max_active=2000, search_beam=20, blank_skip=0.99),
    row("k2", 0.10, 10.0, 3.0, max_active=2000, search_beam=20),
    row("faster", 0.005, 10.0, 10.0, beam=12, blank_skip=0.99),
]


def test_speed_ups_are_taken_where_nothing_is_lost() -> None:
    found = summary(ROWS)
    assert found["speedup_vs_k2"] == 25.0 and found["k2_settings"] == {"max_active": 2000}
    assert found["native_settings_vs_k2"] == {"search_beam": 12}
    assert found["speedup_vs_faster"] == 10.0 and found["faster_settings"] == {"beam": 12}
    assert found["native_settings_vs_faster"] == {"search_beam": 10}
    speedups = [one["speedup"] for one in found["comparisons"]]
    assert speedups == [None, 25.0, 5.0, 10.0, None]  # native reaches 9.0 and 9.5 nowhere
    assert [one["rtf"] for one in found["results"]] == [one.rtf for one in ROWS]


def test_what_native_skips_peers_are_spared_too() -> None:
    """Headline figures are of peers at all frames and their usual beam."""
    found = summary(ROWS[:4] + ACCELERATED[:4] + ROWS[6:] + ACCELERATED[4:])
    assert found["k2_settings"] == {"max_active": 2000, "search_beam": 20}
    assert found["faster_settings"] == {"beam": 12}
    assert (found["speedup_vs_k2"], found["speedup_vs_faster"]) == (100.0, 20.0)
    assert (found["speedup_vs_k2_exact"], found["speedup_vs_faster_exact"]) == (25.0, 10.0)
    assert found["speedup_vs_k2_same_frames"] == 50.0
    assert found["speedup_vs_faster_same_frames"] == 5.0
    assert summary(ROWS)["speedup_vs_k2_same_frames"] is None


def test_peers_that_did_not_run() -> None:
    without_k2 = [one for one in ROWS if one.job.engine != "k2"]
    assert k2_reference(without_k2) is None
    chosen = faster_reference(without_k2)
    assert chosen is not None and chosen.job.setting == {"beam": 14}, "its most accurate"
    assert summary(without_k2)["speedup_vs_k2"] is None
    assert faster_reference(ROWS[:6]) is None
    assert fastest_no_worse(ROWS[4:], ROWS[5]) is None, "no native"
    alone = summary(ROWS[4:])
    assert alone["speedup_vs_k2"] is None and alone["speedup_vs_faster"] is None


def test_the_table_has_a_line_for_every_row() -> None:
    lines = format_table(ROWS).splitlines()
    assert len(lines) == 1 + len(ROWS)
    assert lines[6].startswith("k2") and lines[6].endswith("max_active=2000")
    assert "10.00" in lines[6] and "3.00" in lines[6] and "0.10000" in lines[6]


def test_a_job_that_fails_says_why(tmp_path: Path) -> None:
    job = Job("faster", {"beam": 10.0})
    with pytest.raises(
        RuntimeError, match=r"faster beam=10: the process ended with 1:[\s\S]*nowhere"
    ):
        measure_quality(job, tmp_path / "nowhere", tmp_path / "nowhere.npz")
