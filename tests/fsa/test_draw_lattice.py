"""Pictures of lattices: what is in them, and what is refused."""

import random
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import ConfigError, GraphError
from moe_asr.fsa.draw_lattice import tokens_figure, words_figure
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_canvas import write_figure
from moe_asr.fsa.lattice_scores import arc_posteriors, best_path
from moe_asr.fsa.lattice_words import word_graph
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.random_lattices import LatticeArc, arcs_of_lattice, lattice_of, random_lattice

TOKENS = SymbolTable(["<blk>", "$a_1$", "\\b", "\u7535"])
WORDS = SymbolTable(["<eps>", "$A^2$", "<B>&", "\u706f"])
NUMBERS = st.integers(0, 10**6)


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def places(figure: Any) -> dict[str, tuple[float, float]]:
    return {text.get_text(): text.get_position() for text in figure.axes[0].texts}


@settings(max_examples=20)
@given(NUMBERS)
def test_every_word_is_drawn_once(number: int) -> None:
    lattice = random_lattice(random.Random(number), exact=False)
    graph = word_graph(lattice)
    figure = words_figure(lattice, WORDS, min_posterior=0.0)
    expected = [WORDS.symbol(word.word) for word in graph.words[2:]]
    shown = [text.split("  ") for text in texts(figure)]
    assert Counter(parts[0] for parts in shown) == Counter(["start", "end", *expected])
    assert len(figure.axes[0].patches) == len(graph.links)
    sure = Counter(round(w.posterior, 2) for w in graph.words if w.posterior < 0.995)
    assert Counter(float(parts[1]) for parts in shown if len(parts) > 1) == sure
    # at the time that they are said
    frames = {(round(w.frame, 6)) for w in graph.words}
    assert {round(text.get_position()[0], 6) for text in figure.axes[0].texts} == frames


@settings(max_examples=20)
@given(NUMBERS)
def test_no_two_labels_share_a_place(number: int) -> None:
    lattice = random_lattice(random.Random(number), exact=False, num_frames=9)
    figure = words_figure(lattice, WORDS, min_posterior=0.0)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])


def test_unlikely_words_are_left_out_but_the_best_path() -> None:
    arcs = [LatticeArc(0, 1, 1, True, score, 0.0, (word,)) for word, score in ((1, 0), (2, -5))]
    arcs.append(LatticeArc(1, 2, 2, True, 0.0, 0.0, (3,)))
    arcs.append(LatticeArc(2, 3, 0, False, 0.0, 0.0, ()))
    arcs.append(LatticeArc(3, 4, -1, False, 0.0, 0.0, ()))
    lattice = lattice_of(arcs, [0, 9, 20, 40, 40], 40)
    assert len(texts(words_figure(lattice))) == 4
    shown = places(words_figure(lattice, min_posterior=0.0))
    assert list(shown) == ["start", "end", "1  .99", "2  .01", "3"]
    assert [lane for _, lane in shown.values()] == [0.0, 0.0, 0.0, 1.0, 0.0]
    assert len(texts(words_figure(lattice, min_posterior=1.0))) == 4
    with pytest.raises(GraphError, match=r"5 words are too many .*\(the limit is 4\): .* \(0.0\)"):
        words_figure(lattice, min_posterior=0.0, max_words=4)


@settings(max_examples=20)
@given(NUMBERS)
def test_every_arc_is_drawn_once(number: int) -> None:
    lattice = random_lattice(random.Random(number), exact=False)
    figure = tokens_figure(lattice, TOKENS, WORDS)
    arcs = arcs_of_lattice(lattice)
    expected = []
    for arc in arcs:
        name = TOKENS.symbol(arc.token) if arc.token >= 0 else ""
        words = " ".join(WORDS.symbol(word) for word in arc.words)
        expected.append(f"{name}:{words}" if words else name)
    shown = [line for text in texts(figure) for line in text.split("\n")]
    assert Counter(filter(None, shown)) == Counter(filter(None, expected))
    axes = figure.axes[0]
    pairs = {(arc.src, arc.dst) for arc in arcs}
    assert len(axes.patches) == len(pairs)
    assert len({tuple(line.get_xydata()[0]) for line in axes.lines}) == lattice.num_states
    posterior = arc_posteriors(lattice)
    for patch in axes.patches:  # the wider, the more of the paths
        assert 0.6 < patch.get_linewidth() <= 4.0 + 1e-9
    total = sum((patch.get_linewidth() - 0.6) / 3.4 for patch in axes.patches)
    assert total == pytest.approx(posterior.sum(), abs=1e-6)
    best = best_path(lattice)
    assert best is not None
    middle = {x for x, y in (line.get_xydata()[0] for line in axes.lines) if y == 0.0}
    assert middle >= {float(f) + 1 for f in best.label_frames} | {0.0}


def test_a_few_frames_of_many() -> None:
    arcs = [LatticeArc(i, i + 1, 1 + i % 2, True, 0.0, 0.0, ()) for i in range(400)]
    arcs.append(LatticeArc(400, 401, -1, False, 0.0, 0.0, (1,)))
    lattice = lattice_of(arcs, [*range(401), 400], 400)
    with pytest.raises(GraphError, match=r"401 arcs are too many .*\(the limit is 400\): prune"):
        tokens_figure(lattice)
    with pytest.raises(GraphError, match="401 frames are too many for a picture of every arc"):
        tokens_figure(lattice, max_arcs=1000)
    assert texts(tokens_figure(lattice, frames=(10, 13))) == ["1", "2", "1"]
    figure = tokens_figure(lattice, frames=(398, 500))
    assert texts(figure) == ["1", "2", ":1"]
    with pytest.raises(GraphError, match="no arc reads a frame from 500 to 599: .* from 0 to 399"):
        tokens_figure(lattice, frames=(500, 600))


def test_time_is_in_frames_or_seconds() -> None:
    arcs = [LatticeArc(i, i + 1, 1, False, 0.0, 0.0, (1,) * (i == 49)) for i in range(100)]
    arcs.append(LatticeArc(100, 101, -1, False, 0.0, 0.0, ()))
    lattice = lattice_of(arcs, [*range(101), 100], 100)
    for seconds_per_frame, name, tick in ((None, "frame", "40"), (0.04, "seconds", "1.6")):
        figure = words_figure(lattice, seconds_per_frame=seconds_per_frame)
        figure.draw_without_rendering()
        axes = figure.axes[0]
        assert axes.get_xlabel() == name
        ticks = {label.get_text(): label.get_position()[0] for label in axes.get_xticklabels()}
        assert ticks[tick] == pytest.approx(40.0)
        assert places(figure)["1"][0] == 49.0


@pytest.mark.filterwarnings("ignore:Glyph")
def test_of_hours_there_are_few_ticks() -> None:
    arcs = [
        LatticeArc(0, 1, 1, True, 0.0, 0.0, (1,)),
        LatticeArc(1, 2, -1, False, 0.0, 0.0, ()),
    ]
    for last in (1, 100, 10_000, 180_000, 2**31 - 1):
        figure = words_figure(lattice_of(arcs, [0, last, last], last), seconds_per_frame=0.04)
        figure.draw_without_rendering()
        low, high = figure.axes[0].get_xlim()
        assert sum(low <= tick <= high for tick in figure.axes[0].get_xticks()) <= 60


@pytest.mark.filterwarnings("ignore:Glyph")
def test_control_characters_do_not_break_a_file(tmp_path: Path) -> None:
    words = SymbolTable(["<eps>", "a\x08b", "\x00\x1b[1m", "--]]>"])
    tokens = SymbolTable(["<blk>", "\x01", "\x7f", "x"])
    lattice = random_lattice(random.Random(2), num_frames=8)
    for figure in (
        words_figure(lattice, words, title="\x02 &<\n-->"),
        tokens_figure(lattice, tokens, words),
    ):
        write_figure(figure, tmp_path / "a.svg")
        ElementTree.parse(tmp_path / "a.svg")


def test_what_cannot_be_drawn() -> None:
    lattice = random_lattice(random.Random(1))
    with pytest.raises(GraphError, match="the lattice has no path: there is nothing to draw"):
        words_figure(Lattice.empty(3))
    with pytest.raises(GraphError, match="the lattice has no path: there is nothing to draw"):
        tokens_figure(Lattice.empty(3))
    for seconds in (0.0, -1.0, float("nan"), 1e300):
        with pytest.raises(ConfigError, match="seconds_per_frame must be positive"):
            words_figure(lattice, seconds_per_frame=seconds)
    for posterior in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="min_posterior must be in 0..1"):
            words_figure(lattice, min_posterior=posterior)
    loose = [LatticeArc(0, 2, -1, False, 0.0, 0.0, ()), LatticeArc(1, 2, -1, False, 0.0, 0.0, ())]
    with pytest.raises(GraphError, match="the lattice has states that are on no path"):
        words_figure(lattice_of(loose, [0, 0, 0], 0))


def test_files(tmp_path: Path) -> None:
    lattice = random_lattice(random.Random(2), num_frames=8)
    starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    for suffix, start in starts.items():
        for name in ("a", "b"):
            figure = words_figure(lattice, WORDS, title="$a_1$ <b>& \u7535\u706f")
            write_figure(figure, tmp_path / f"{name}{suffix}")
        content = (tmp_path / f"a{suffix}").read_bytes()
        assert content.startswith(start) and content == (tmp_path / f"b{suffix}").read_bytes()
    with pytest.raises(ConfigError, match=r"a\.dot: expected a name that ends in one of \.png"):
        write_figure(figure, tmp_path / "a.dot")
    assert len(list(tmp_path.iterdir())) == 6
