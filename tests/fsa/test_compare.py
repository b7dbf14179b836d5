"""Differences between automata: none between equal ones, found wherever one is made."""

from dataclasses import replace

import numpy as np
import pytest

from moe_asr.fsa.arcs import Arcs
from moe_asr.fsa.compare import acceptor_differences, array_differences, graph_differences
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.ngram_fst import ngram_fst
from moe_asr.lm.arpa import read_arpa
from moe_asr.text.symbol_table import SymbolTable

RELAY = 9


def random_acceptor(rng: np.random.RandomState) -> Fst:
    """Deterministic, up to 5 states, labels 1 to 3, scores of a few values."""
    num_states = rng.randint(1, 6)
    arcs = [
        (state, rng.randint(num_states), label, label, -float(rng.randint(3)))
        for state in range(num_states)
        for label in range(1, 4)
        if rng.random_sample() < 0.6
    ]
    finals = {state: -float(rng.randint(3)) for state in range(num_states) if rng.randint(2)}
    return Fst.from_list(
        [*arcs, (num_states, 0, 1, 1, 0.0)], finals
    )  # the last state is unreachable


def unfolded(fst: Fst, depth: int) -> dict[tuple[int, ...], tuple[float, float]]:
    """By labels read: the score of the last arc, and the final score."""
    found = {(): (0.0, float(fst.final_score[0]))}
    frontier = {(): 0}
    for _ in range(depth):
        following = {}
        for labels, state in frontier.items():
            for arc in range(*fst.arc_splits[state : state + 2]):
                key = (*labels, int(fst.ilabel[arc]))
                following[key] = int(fst.dst[arc])
                found[key] = float(fst.score[arc]), float(fst.final_score[fst.dst[arc]])
        frontier = following
    return found


def test_acceptors_differ_exactly_if_they_unfold_differently() -> None:
    rng = np.random.RandomState(0)
    equal = 0
    for _ in range(400):
        one = random_acceptor(rng)
        two = random_acceptor(rng) if rng.randint(2) else one
        if rng.randint(2) and two.num_arcs:
            score = two.score.copy()
            score[rng.randint(two.num_arcs)] -= rng.randint(2)
            two = replace(two, score=score)
        expected = unfolded(one, 7) == unfolded(two, 7)
        assert (not list(acceptor_differences(one, two, RELAY))) == expected
        equal += expected
    assert 50 < equal < 350


def test_states_may_be_numbered_and_split() -> None:
    one = Fst.from_list([(0, 1, 1, 1, -1.0), (0, 1, 2, 2, -2.0), (1, 1, 3, 3, -0.5)], {1: -0.25})
    two = Fst.from_list(
        [(0, 2, 1, 1, -1.0), (0, 1, 2, 2, -2.0), (2, 1, 3, 3, -0.5), (1, 2, 3, 3, -0.5)],
        {1: -0.25, 2: -0.25},
    )
    assert not list(acceptor_differences(one, two, RELAY))
    assert not list(acceptor_differences(two, one, RELAY))


def test_relays_are_passed_over() -> None:
    """A state that only a backoff leaves: its score is added to the arcs that lead to it."""
    direct = Fst.from_list([(0, 1, 1, 1, -3.0), (1, 1, 2, 2, -0.5)], {1: 0.0})
    chain = Fst.from_list(
        [(0, 2, 1, 1, -1.0), (2, 3, RELAY, 0, -1.5), (3, 1, RELAY, 0, -0.5), (1, 1, 2, 2, -0.5)],
        {1: 0.0},
    )
    assert not list(acceptor_differences(chain, direct, RELAY))
    worse = replace(chain, score=chain.score + np.float32([0, 0, -0.25, 0]))
    (said,) = acceptor_differences(worse, direct, RELAY)
    assert said == "state 0: the arc for label 1 has score -3.25000, expected -3.00000"
    started = Fst.from_list([(0, 1, RELAY, 0, -1.0), (1, 1, 2, 2, -0.5)], {1: 0.0})
    (said,) = acceptor_differences(started, Fst.from_list([(0, 0, 2, 2, -0.5)], {0: 0.0}), RELAY)
    assert said == "the start has score -1.00000, expected 0.00000"
    circle = Fst.from_list([(0, 1, 1, 1, 0.0), (1, 2, RELAY, 0, 0.0), (2, 1, RELAY, 0, 0.0)], {})
    assert not list(acceptor_differences(circle, circle, RELAY))  # and it ends


def test_what_is_said_about_acceptors() -> None:
    one = Fst.from_list([(0, 1, 1, 1, -1.0), (1, 0, 2, 2, -0.5)], {1: -0.25})
    two = Fst.from_list([(0, 1, 1, 1, -1.0), (1, 0, 3, 3, -0.5)], {1: 0.0})
    assert list(acceptor_differences(one, two, RELAY)) == [
        "state 1: final score -0.25000, expected 0.00000",
        "state 1: an arc for label 2, expected none",
        "state 1: no arc for label 3, expected one",
    ]


def test_array_differences() -> None:
    one = Fst.from_list([(0, 1, 1, 1, -1.0), (1, 0, 2, 2, -0.5)], {1: 0.0})
    assert not list(array_differences(one, one))
    two = Fst.from_list([(0, 1, 1, 1, -1.0), (1, 1, 2, 2, -0.25)], {0: 0.0, 1: 0.0})
    expected = [("dst", 1), ("score", 1), ("final_score", 0)]
    assert list(array_differences(one, two)) == expected


def random_arcs(rng: np.random.RandomState, num_states: int = 12, num_arcs: int = 40) -> Arcs:
    """In k2's form, words on some arcs."""
    src = np.sort(rng.randint(0, num_states - 1, num_arcs))
    dst = rng.randint(0, num_states, num_arcs)
    label = np.where(dst == num_states - 1, -1, rng.randint(1, 4, num_arcs))
    counts = rng.randint(0, 3, num_arcs)
    return Arcs(
        src.astype(np.int32),
        dst.astype(np.int32),
        label.astype(np.int32),
        -rng.randint(0, 4, num_arcs).astype(np.float32),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        rng.randint(1, 5, counts.sum()).astype(np.int32),
    )


def renumbered(arcs: Arcs, rng: np.random.RandomState) -> Arcs:
    """The same graph: other numbers of states but the first, another order of arcs."""
    size = int(max(arcs.src.max(), arcs.dst.max())) + 1
    number = np.concatenate([[0], 1 + rng.permutation(size - 1)]).astype(np.int32)
    arcs = replace(arcs, src=number[arcs.src], dst=number[arcs.dst])
    return arcs.take(rng.permutation(len(arcs)))


def test_graphs_are_equal_up_to_numbering() -> None:
    rng = np.random.RandomState(1)
    for _ in range(50):
        arcs = random_arcs(rng)
        assert graph_differences(renumbered(arcs, rng), arcs) == (0, [])


@pytest.mark.parametrize("name", ["score", "label", "dst", "words", "order of words"])
def test_one_change_of_a_graph_is_found(name: str) -> None:
    rng = np.random.RandomState(2)
    found = 0
    for _ in range(100):
        arcs = random_arcs(rng)
        if name == "order of words":
            arc = int(np.flatnonzero(arcs.num_words == 2)[0])
            start = arcs.row_splits[arc]
            words = arcs.words.copy()
            words[start : start + 2] = words[start : start + 2][::-1]
            if (words == arcs.words).all():
                continue
            changed = replace(arcs, words=words)
        else:
            values = getattr(arcs, name).copy()
            index = rng.randint(len(values))
            values[index] = values[index] + 1 if name != "dst" else (values[index] + 1) % 11
            changed = replace(arcs, **{name: values})
        number, lines = graph_differences(changed, arcs)
        assert number == 1 and len(lines) == 1 and ": expected arc" in lines[0]
        number, lines = graph_differences(renumbered(changed, rng), arcs)
        assert number >= 1 and lines
        found += 1
    assert found > 50


def test_a_missing_arc_is_named() -> None:
    arcs = random_arcs(np.random.RandomState(3))
    less = arcs.take(np.delete(np.arange(len(arcs)), 7))
    number, lines = graph_differences(less, arcs)
    assert number == 1 and len(lines) == 1
    assert lines[0].startswith("expected arc ") and f"label {arcs.label[7]}," in lines[0]
    number, lines = graph_differences(arcs, less)
    assert number == 1 and lines[0].endswith("expected no such arc")


def test_minus_zero_is_zero() -> None:
    arcs = random_arcs(np.random.RandomState(4))
    zero = np.where(arcs.score == 0, np.float32(-0.0), arcs.score)
    other = renumbered(replace(arcs, score=zero), np.random.RandomState(0))
    assert graph_differences(other, arcs) == (0, [])


ARPA = """\
\\data\\
ngram 1=5
ngram 2=4
ngram 3=2

\\1-grams:
-1 <s> -0.5
-1 </s>
-0.5 play -0.25
-0.75 jazz -0.125
-1 news

\\2-grams:
-0.125 <s> play -0.5
-0.25 play jazz
-0.5 jazz </s>
-0.75 news play

\\3-grams:
-0.5 <s> play news
-0.25 play jazz </s>

\\end\\
"""


@pytest.mark.parametrize("lacking", ["", "jazz", "news"])
def test_kaldilm_and_our_conversion_are_equal(tmp_path, lacking: str) -> None:
    """kaldilm leaves states that only a backoff leaves, and makes others of some histories than we do."""
    from moe_asr.fsa.ngram_fst import g_from_arpa

    path = tmp_path / "lm.arpa"
    path.write_text(ARPA)
    kept = [word for word in ("play", "jazz", "news") if word != lacking]
    words = SymbolTable(["<eps>", *kept, "#0"])
    ours, theirs = ngram_fst(read_arpa(path), words), g_from_arpa(path, words)
    assert not list(acceptor_differences(theirs, ours, words["#0"]))
    assert not list(acceptor_differences(ours, theirs, words["#0"]))
    changed = replace(theirs, score=theirs.score + np.float32(1e-3) * (theirs.ilabel == 1))
    assert list(acceptor_differences(changed, ours, words["#0"]))
