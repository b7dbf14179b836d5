"""The search benchmark from end to end on a small vocabulary, and its engines against one another."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.big_graph import BigText, make_text
from benchmarks.ctc_simulator import SimulatorOptions
from benchmarks.lattice_search import main
from benchmarks.search_engine_kaldi import sort_lattice
from benchmarks.search_engines import (
    Decoded,
    engine_class,
    engine_names,
    without_sure_blanks,
)
from benchmarks.search_inputs import BuiltGraph, GraphSize, TestSet, built_graph, simulate_test_set
from benchmarks.search_scoring import accuracy, oracle_errors
from tests.conftest import k2_is_installed

SIZE = GraphSize(num_words=120, num_sentences=400, vocab_size=70)
WIDE = {
    "native": {"search_beam": 25.0, "output_beam": 8.0, "min_active": 30, "max_active": 100000},
    "k2": {"search_beam": 25.0, "output_beam": 8.0, "min_active": 30, "max_active": 100000},
    "faster": {"beam": 25.0},
    "lattice_simple": {"beam": 25.0, "lattice_beam": 8.0},
}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> BuiltGraph:
    return built_graph(SIZE, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def test_set(graph: BuiltGraph) -> TestSet:
    return simulate_test_set(graph, 4, SimulatorOptions(peakiness=0.8))


def decode(name: str, graph: BuiltGraph, test_set: TestSet) -> list[Decoded]:
    engine = engine_class(name)()
    engine.prepare(graph.load(engine.graph_kind), WIDE[name])
    return engine.results(engine.search(engine.load(test_set.log_probs)))


def available(names: list[str]) -> list[str]:
    return [name for name in names if engine_class(name).why_not() is None]


def test_engines_agree_at_wide_beams(graph: BuiltGraph, test_set: TestSet) -> None:
    names = available(engine_names())
    assert set(names) >= {"native", "faster", "lattice_simple"} | (
        {"k2"} if k2_is_installed() else set()
    )
    found = {name: decode(name, graph, test_set) for name in names}
    for number, expected in enumerate(found["faster"]):
        assert expected.score is not None and expected.lattice is None
        for name in names:
            one = found[name][number]
            assert one.score == pytest.approx(expected.score, abs=2e-3), name
            assert one.words == expected.words, name
    for name in names:
        for one in found[name]:
            if one.lattice is not None:
                assert oracle_errors(one.lattice, one.words) == 0, "the best path is in the lattice"
                assert (one.lattice.dst > one.lattice.src).all()
    wer = accuracy(test_set.references, found["lattice_simple"])
    assert wer.oracle_wer <= wer.wer and wer.wer < 60.0


@pytest.mark.parametrize("name", ["k2", "faster"])
def test_peers_are_spared_the_frames_that_native_skips(
    name: str, graph: BuiltGraph, test_set: TestSet
) -> None:
    engine = engine_class("native")()
    skipping = {**WIDE["native"], "blank_skip": 0.9}
    engine.prepare(graph.load("LG"), skipping)
    expected = engine.results(engine.search(engine.load(test_set.log_probs)))
    kept = without_sure_blanks(test_set.log_probs, 0.9)
    assert sum(map(len, kept)) < 0.9 * sum(map(len, test_set.log_probs))
    assert all(
        (a == b).all()
        for a, b in zip(
            test_set.log_probs, without_sure_blanks(test_set.log_probs, 1.0), strict=True
        )
    )
    if engine_class(name).why_not() is not None:
        pytest.skip(f"{name} cannot run here")
    peer = engine_class(name)()
    peer.prepare(graph.load("HLG"), {**WIDE[name], "blank_skip": 0.9})
    found = peer.results(peer.search(peer.load(test_set.log_probs)))
    for one, other in zip(found, expected, strict=True):
        assert one.score == pytest.approx(other.score, abs=2e-3) and one.words == other.words


def test_main_prints_what_was_agreed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    size = ["--words", "120", "--sentences", "400", "--vocab-size", "70", "--utterances", "2"]
    common = ["--quick", "--cache", str(tmp_path / "cache")]
    main([*size, *common, "--engines", "native,k2,faster"])
    printed, _ = capfd.readouterr()
    result = json.loads(printed.splitlines()[-1])
    assert set(result) >= {"results", "speedup_vs_k2", "speedup_vs_faster"}
    assert result["speedup_vs_faster"] > 0
    assert (result["speedup_vs_k2"] is not None) == k2_is_installed()
    keys = {"engine", "settings", "rtf", "wer", "oracle_wer", "arcs_per_second", "peak_mb"}
    names = [one["engine"] for one in result["results"]]
    expected = [
        "native",
        "native",
        "native",
        *(["k2"] if k2_is_installed() else []),
        "faster",
        "faster",
    ]
    assert names == expected
    assert all(
        (one["arcs_per_second"] is not None) == (one["engine"] == "native")
        for one in result["results"]
    )
    assert k2_is_installed() or "k2 is left out: " in printed
    for one in result["results"]:
        assert set(one) >= keys and isinstance(one["settings"], dict)
        assert one["rtf"] > 0 and 0 <= one["oracle_wer"] <= one["wer"] < 100
        assert one["utterances_without_path"] == 0
    if before is not None:
        assert os.sched_getaffinity(0) == before
        assert all(20 < one["search_mb"] <= one["peak_mb"] for one in result["results"])

    main([*size, *common, "--dump", str(tmp_path / "dumped.npz")])
    printed, _ = capfd.readouterr()
    assert "built" not in printed and "{" not in printed, (
        "the graph is kept, and nothing else is run"
    )
    assert len(TestSet.load(tmp_path / "dumped.npz").log_probs) == 2


def test_lattices_of_any_order_are_sorted() -> None:
    """0 -> 3 -> 1 -> 2 and 0 -> 1, where 2 is the final state; the words are 7, 8 and none, and 9."""
    src, dst = np.array([1, 0, 3, 0]), np.array([2, 1, 1, 3])
    lattice = sort_lattice(src, dst, np.array([0, 9, 8, 7]), 0)
    assert lattice.src.tolist() == [0, 0, 1, 2] and (lattice.dst > lattice.src).all()
    words = [oracle_errors(lattice, reference) for reference in ([7, 8], [9], [7, 9])]
    assert words == [0, 0, 1]


def test_unknown_engines_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, message in (
        (["--engines", "k3"], "unknown engine 'k3': expected some of native, k2, faster"),
        (["--utterances", "0"], "--utterances must be at least 1"),
    ):
        with pytest.raises(SystemExit):
            main(wrong)
        assert message in capsys.readouterr().err


def test_test_sets_come_back_as_they_were(test_set: TestSet, tmp_path: Path) -> None:
    test_set.save(tmp_path / "set.npz")
    again = TestSet.load(tmp_path / "set.npz")
    assert again.references == test_set.references
    assert len(again.log_probs) == len(test_set.log_probs) == 4
    for mine, other in zip(again.log_probs, test_set.log_probs, strict=True):
        np.testing.assert_array_equal(mine, other)
    assert again.num_frames == sum(map(len, test_set.log_probs)) and again.num_words >= 12


def test_references_are_what_the_posteriors_say(graph: BuiltGraph) -> None:
    """Without noise, every engine that is there finds all words."""
    clean = simulate_test_set(graph, 3, SimulatorOptions(noise=0.0))
    assert accuracy(clean.references, decode("faster", graph, clean)).wer == 0.0


def test_held_out_text_is_of_the_same_chain() -> None:
    def pairs(text: BigText) -> set[tuple[int, int]]:
        inside = np.ones(len(text.ids), bool)
        inside[text.splits[1:-1]] = False  # not from one sentence to the next
        return set(
            zip(text.ids[:-1][inside[1:]].tolist(), text.ids[1:][inside[1:]].tolist(), strict=True)
        )

    training = make_text(400, 2000)
    trained = pairs(training)
    held_out, other = make_text(400, 200, walk_seed=1), make_text(400, 200, seed=3)
    assert held_out.words == make_text(400, 5).words
    seen, unrelated = (len(pairs(text) & trained) / len(pairs(text)) for text in (held_out, other))
    assert seen > 0.6 and unrelated < 0.5 * seen
    assert (make_text(400, 200, walk_seed=2).ids[:50] != held_out.ids[:50]).any()
    sentences = {tuple(training.sentence(number)) for number in range(2000)}
    assert not any(tuple(held_out.sentence(number)) in sentences for number in range(200))
