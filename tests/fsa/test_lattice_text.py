"""Kaldi's text form: what is written, and that it is the lattice."""

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import GraphError, TextError
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_text import lattice_to_text, read_lattice_text, write_lattice_text
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.random_lattices import (
    LatticeArc,
    ListedPath,
    arcs_of_lattice,
    lattice_of,
    paths_of,
    random_lattice,
)

TOKENS = SymbolTable(["<blk>", "a", "b", "\u7535"])
WORDS = SymbolTable(["<eps>", "A", "B", "\u706f"])

EXAMPLE = lattice_of(
    [
        LatticeArc(0, 1, 1, True, -0.5, -1.25, (3, 1, 1)),
        LatticeArc(0, 1, 0, False, 0.0, 0.0, ()),
        LatticeArc(1, 2, 2, True, -2.0, 0.5, (2,)),
        LatticeArc(2, 3, -1, False, 0.0, -0.25, (1, 2)),
        LatticeArc(2, 3, -1, False, 0.0, -3.0, ()),
        LatticeArc(2, 3, -1, False, 0.0, -1.0, ()),
    ],
    [0, 1, 2, 2],
    2,
)
# state 3, the final one, is gone; 3 and 4 are those of the words 1 and 1, 5 and 6 those of 1 and 2
LINES = """\
0 3 2 3 1.25,0.5
0 1 1 0 0,0
1 2 3 2 -0.5,2
2 5 0 1 0,0
2 1,0
3 4 0 1 0,0
4 1 0 1 0,0
5 6 0 2 0,0
6 0.25,0
"""


def test_what_is_written() -> None:
    text = lattice_to_text("utt-1", EXAMPLE)
    assert text == "utt-1 \n" + LINES.replace(" ", "\t") + "\n"
    symbols = lattice_to_text("utt-1", EXAMPLE, TOKENS, WORDS).split("\n")
    assert symbols[1:4] == [
        "0\t3\ta\t\u706f\t1.25,0.5",
        "0\t1\t<blk>\t<eps>\t0,0",
        "1\t2\tb\tB\t-0.5,2",
    ]
    assert lattice_to_text("x", Lattice.empty(5)) == "x \n\n"


def test_kaldis_library_prints_the_same() -> None:
    """Of the same arcs and weights; it leaves weights of zero out, and prints six digits."""
    kaldifst = pytest.importorskip("kaldifst")
    for number in range(50):
        lattice = random_lattice(random.Random(number), exact=False)
        lines = lattice_to_text("x", lattice).split("\n")[1:-2]
        rows = [line.split("\t") for line in lines]
        theirs = kaldifst.Lattice()
        for _ in range(1 + max(int(state) for row in rows for state in row[: len(row) // 2])):
            theirs.add_state()
        theirs.start = 0
        for *row, weight in rows:
            weights = kaldifst.LatticeWeight(*map(float, weight.split(",")))
            if len(row) == 1:
                theirs.set_final(int(row[0]), weights)
                continue
            src, dst, ilabel, olabel = map(int, row)
            theirs.add_arc(src, kaldifst.LatticeArc(ilabel, olabel, weights, dst))
        printed = [line.split() for line in theirs.to_str().strip().split("\n")]
        assert len(printed) == len(rows)
        for found, row in zip(rows, printed, strict=True):
            *row, weight = row if len(row) in (2, 5) else [*row, "0,0"]
            assert found[:-1] == row
            values = ([float(x) for x in text.split(",")] for text in (found[-1], weight))
            assert next(values) == pytest.approx(next(values), rel=1e-4, abs=1e-5)


def essence(path: ListedPath) -> tuple:
    return path.labels, path.tokens, path.words, path.acoustic, path.graph


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.booleans())
def test_it_comes_back(tmp_path_factory: pytest.TempPathFactory, number: int, names: bool) -> None:
    """All paths, but for the worse of two that differ in their wordless final arcs alone."""
    rng = random.Random(number)
    lattices = {f"utt-{i}": random_lattice(rng, exact=False, skips=False) for i in range(3)}
    lattices["none"] = Lattice.empty(0)
    path = tmp_path_factory.mktemp("text") / "lat.txt"
    tables = (TOKENS, WORDS) if names else ()
    write_lattice_text(path, lattices, *tables)
    read = dict(read_lattice_text(path, *tables))
    assert list(read) == list(lattices)
    for name, lattice in lattices.items():
        reduced = without_worse_finals(lattice)
        found, expected = (Counter(map(essence, paths_of(x))) for x in (read[name], reduced))
        assert found == expected
        assert read[name].num_arcs == reduced.num_arcs
        assert read[name].frame.tolist() == lattice.frame.tolist()


def without_worse_finals(lattice: Lattice) -> Lattice:
    """Of several final arcs of a state that have no words only the best."""
    arcs = arcs_of_lattice(lattice)
    best = {}
    for arc in arcs:
        if arc.token == -1 and not arc.words:
            best[arc.src] = max(arc, best.get(arc.src, arc), key=lambda arc: arc.graph)
    kept = [arc for arc in arcs if arc.token >= 0 or arc.words or best[arc.src] is arc]
    return lattice_of(kept, lattice.frame.tolist(), lattice.num_frames) if arcs else lattice


def test_kaldis_own_text_is_read(tmp_path: Path) -> None:
    """Weights of one and zero are left out, states come in any order, the first one is the start."""
    path = tmp_path / "lat.txt"
    path.write_text(
        "utt-a \n7\t1000000000\t2\t3\n3\n1000000000\t3\t1\t0\t1.5,2.25\n\nutt-b \n0\t0.5,0\n\nutt-c\n\n"
    )
    (a, first), (b, second), (c, third) = read_lattice_text(path)
    assert (a, b, c) == ("utt-a", "utt-b", "utt-c") and third.is_empty
    assert [essence(path) for path in paths_of(first)] == [((1, 0), (1,), (3,), -2.25, -1.5)]
    assert [essence(path) for path in paths_of(second)] == [((), (), (), 0.0, -0.5)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a b\n", ":1: expected the name of a lattice, found 'a b'"),
        ("a\n0 1 2 3 0,0\n1 0,0\n", ": lattice a: no empty line at its end: truncated?"),
        ("a\n0 1 2\n\n", ":2: expected 1, 2, 4 or 5 fields, found 3"),
        ("a\n0 1 2 3 0\n\n", ":2: expected graph and acoustic cost, found '0'"),
        ("a\n0 1 2 3 0,0,1_2\n\n", ":2: expected graph and acoustic cost"),
        ("a\n0 1 2 3 x,0\n\n", ":2: expected a cost, found 'x'"),
        ("a\n0 1 2 3 1_0,0\n\n", ":2: expected a cost, found '1_0'"),
        ("a\n0 1 2 3 nan,0\n\n", ":2: cost nan is not finite"),
        ("a\n0 1 2 3 0,1e39\n\n", ":2: cost 1e39 is not finite"),
        ("a\n0 x 2 3 0,0\n\n", ":2: expected a state, found 'x'"),
        ("a\n0 4294967296 2 3 0,0\n\n", ":2: expected a state, found '4294967296'"),
        ("a\n0 1 -1 3 0,0\n\n", ":2: expected a label, found '-1'"),
        ("a\n0 1 2 3\n1\n1\n\n", ":4: a second final weight of state 1"),
        ("a\n0 1 2 3\n1 0,1\n\n", ":4: lattice a: lattice: final arc 1: acoustic score -1.0"),
        ("a\n0 1 2 3\n0 1 0 3\n1\n\n", ":5: lattice a: state 0: an arc of epsilon that is no part"),
        ("a\n0 1 2 3\n\n", ":3: lattice a: 1 arcs and no final state"),
        ("a\n0 1 2 3\n0 0 2 3\n1\n\n", ":5: lattice a: state 0 is reached at several frames"),
    ],
)
def test_bad_text_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "lat.txt"
    path.write_text(text)
    with pytest.raises(GraphError) as caught:
        list(read_lattice_text(path))
    assert str(caught.value).startswith(f"{path}{message}")


def test_names_and_symbols_that_do_not_fit(tmp_path: Path) -> None:
    for name in ("", "a b", "a\n", " a", "\u3000"):
        with pytest.raises(GraphError, match="has no whitespace"):
            lattice_to_text(name, EXAMPLE)
    with pytest.raises(GraphError, match="x: symbol table: no id 3; expected 0 to 1"):
        lattice_to_text("x", EXAMPLE, TOKENS, SymbolTable(["<eps>", "A"]))
    path = tmp_path / "lat.txt"
    path.write_text("a\n0 1 a Z 0,0\n1\n\n")
    with pytest.raises(GraphError, match=r"lat.txt:2: symbol 'Z' is not in symbol table"):
        list(read_lattice_text(path, TOKENS, WORDS))
    with pytest.raises(TextError, match="absent: cannot be read"):
        list(read_lattice_text(tmp_path / "absent"))
    with pytest.raises(GraphError, match="has no whitespace"):
        write_lattice_text(path, {"fine": EXAMPLE, "not fine": EXAMPLE})
    assert path.read_text().startswith("a\n")  # the old file, whole
