"""Archives of lattices: what was written comes back, and damage is told."""

import json
import random
import struct
import threading
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from moe_asr.errors import GraphError
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_file import LatticeArchive, LatticeWriter, write_lattices
from moe_asr.fsa.lattice_scores import connect
from moe_asr.text.symbol_table import SymbolTable
from tests.fsa.random_lattices import LatticeArc, lattice_of, random_lattice
from tests.fsa.test_lattice_scores import same

TOKENS = SymbolTable(["<blk>", "a", "b", "\u7535"])
WORDS = SymbolTable(["<eps>", "A", "B", "\u706f"])
NAMES = ["utt-1", "\u65e5\u672c 2", "a/b.c", '"quoted"\n']


def some_lattices(number: int, count: int = 4) -> dict[str, Lattice]:
    """Among them empty ones and partial ones."""
    rng = random.Random(number)
    made = [random_lattice(rng, exact=False) for _ in range(count)]
    made = [replace(x, is_partial=rng.random() < 0.3, num_frames=x.num_frames + 2) for x in made]
    made = [Lattice.empty(rng.randint(0, 9)) if rng.random() < 0.2 else x for x in made]
    return dict(zip(NAMES, made, strict=False))


def test_lattices_come_back_by_name(tmp_path: Path) -> None:
    for number in range(30):
        lattices = some_lattices(number, number % 5)
        path = tmp_path / "deep" / "a.safetensors"
        write_lattices(path, lattices, TOKENS, WORDS, {"beam": 8.0, "of": [1, None]})
        with LatticeArchive(path) as archive:
            assert archive.names == tuple(lattices) and len(archive) == len(lattices)
            assert archive.metadata == {"beam": 8.0, "of": [1, None]}
            assert archive.token_table == TOKENS and archive.word_table == WORDS
            for name in reversed(lattices):  # in any order
                assert name in archive
                same(archive.read(name), lattices[name])
            for (name, lattice), expected in zip(archive, lattices, strict=True):
                assert name == expected
                same(lattice, lattices[name])
            assert "absent" not in archive and None not in archive
        assert [file.name for file in path.parent.iterdir()] == ["a.safetensors"]


def test_the_same_lattices_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_lattices(tmp_path / name, iter(some_lattices(3).items()), TOKENS, metadata={"x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_any_reader_of_safetensors_reads_it(tmp_path: Path) -> None:
    lattices = some_lattices(1)
    write_lattices(tmp_path / "a", lattices)
    with safe_open(str(tmp_path / "a"), framework="np") as file:
        for name in ("src", "acoustic", "starts_token", "words", "frame"):
            together = np.concatenate([getattr(lattice, name) for lattice in lattices.values()])
            np.testing.assert_array_equal(file.get_tensor(name), together)
    start = (tmp_path / "a").read_bytes()
    assert int.from_bytes(start[:8], "little") % 8 == 0  # so that all arrays are aligned


def test_one_lattice_alone(tmp_path: Path) -> None:
    lattice = random_lattice(random.Random(1))
    lattice.save(tmp_path / "a", TOKENS, WORDS, {"made": "here"}, "utt")
    same(Lattice.load(tmp_path / "a"), lattice)
    same(Lattice.load(tmp_path / "a", "utt"), lattice)
    with LatticeArchive(tmp_path / "a") as archive:
        assert archive.names == ("utt",) and archive.metadata == {"made": "here"}
    with pytest.raises(GraphError, match=r"a: no lattice 'uttt' among 1; did you mean 'utt'\?"):
        Lattice.load(tmp_path / "a", "uttt")
    write_lattices(tmp_path / "b", some_lattices(1))
    with pytest.raises(GraphError, match=r"b: 4 lattices \(utt-1, .*, \.\.\.\): which one"):
        Lattice.load(tmp_path / "b")
    write_lattices(tmp_path / "b", {})
    with pytest.raises(GraphError, match=r"b: 0 lattices"):
        Lattice.load(tmp_path / "b")
    with pytest.raises(GraphError, match="absent: cannot be read as an archive"):
        Lattice.load(tmp_path / "absent")


def test_nothing_is_left_of_a_broken_write(tmp_path: Path) -> None:
    lattice = random_lattice(random.Random(1))
    with pytest.raises(RuntimeError, match="stop"), LatticeWriter(tmp_path / "a") as writer:
        writer.write("x", lattice)
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []
    lattice.save(tmp_path / "a", name="old")
    with pytest.raises(RuntimeError, match="stop"), LatticeWriter(tmp_path / "a") as writer:
        raise RuntimeError("stop")
    same(Lattice.load(tmp_path / "a", "old"), lattice)


def test_no_archive_of_half_a_lattice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is found out in the middle, and the caller goes on with the next lattice."""
    lattice = random_lattice(random.Random(1))

    class Full:
        def write(self, content: bytes) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(GraphError, match="a: lattice 'y' could not be written, so nothing is"):
        with LatticeWriter(tmp_path / "a") as writer:
            writer.write("x", lattice)
            with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
                patch.setitem(writer._parts, "graph", Full())
                writer.write("y", lattice)
            with pytest.raises(GraphError, match="a: lattice 'y' could not be written"):
                writer.write("z", lattice)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    lattice = random_lattice(random.Random(2), num_frames=6, width=4)
    assert lattice.token.max() == 3 and lattice.words.max() == 3
    small = SymbolTable(["<eps>", "A"])
    with LatticeWriter(tmp_path / "a", small) as writer:
        with pytest.raises(
            GraphError, match="a: lattice 'x': token 3 is not in the table of 2 tok"
        ):
            writer.write("x", lattice)
    with LatticeWriter(tmp_path / "a", None, small) as writer:
        with pytest.raises(GraphError, match="lattice 'x': word 3 is not in the table of 2 words"):
            writer.write("x", lattice)
    with LatticeWriter(tmp_path / "a") as writer:
        writer.write("x", lattice)
        for name, problem in (("x", "the name is there already"), ("", "not a name"), (3, "not a")):
            with pytest.raises(GraphError, match=problem):
                writer.write(name, lattice)  # type: ignore[arg-type]
        with pytest.raises(GraphError, match="cannot be written as UTF-8"):
            writer.write("\ud800", lattice)
        arcs = [
            LatticeArc(0, 2, -1, False, 0.0, 0.0, ()),
            LatticeArc(1, 2, -1, False, 0.0, 0.0, ()),
        ]
        loose = lattice_of(arcs, [0, 0, 0], 0)
        with pytest.raises(GraphError, match="lattice 'y': a state is on no path"):
            writer.write("y", loose)
        writer.write("y", connect(loose))
    with LatticeArchive(tmp_path / "a") as archive:  # of what was refused nothing is in it
        assert archive.names == ("x", "y")
        same(archive.read("x"), lattice)
        same(archive.read("y"), connect(loose))
    for metadata in ({"x": object()}, {"x": float("nan")}, {"x": "\ud800"}):
        with pytest.raises(GraphError, match="the metadata cannot be written as JSON"):
            LatticeWriter(tmp_path / "b", metadata=metadata)
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def content_of(path: Path) -> Any:
    """All of an archive, or the error that reading it gives."""
    try:
        with LatticeArchive(path) as archive:
            found = [(name, archive.read(name)) for name in archive.names]
            return found, archive.token_table, archive.word_table, archive.metadata
    except GraphError as error:
        assert str(error).startswith(f"{path}: ")
        return None


def check_damaged(path: Path, damaged: bytes, whole: Any) -> bool:
    """Whether damage is told; else nothing has changed."""
    path.write_bytes(damaged)
    found = content_of(path)
    if found is None:
        return True
    assert found[1:] == whole[1:] and len(found[0]) == len(whole[0])
    for (name, lattice), (expected_name, expected) in zip(found[0], whole[0], strict=True):
        assert name == expected_name
        same(lattice, expected)
    return False


def test_every_changed_byte_is_told(tmp_path: Path) -> None:
    """All of them, one after another; but for the blanks at the end of the header, which mean nothing."""
    path = tmp_path / "a"
    lattices = {name: x for name, x in some_lattices(3).items() if x.num_arcs < 12}
    write_lattices(path, lattices, TOKENS, None, {"x": 1})
    good = path.read_bytes()
    whole = content_of(path)
    rng = random.Random(0)
    told = 0
    for position in range(len(good)):
        changed = bytearray(good)
        changed[position] ^= 1 << rng.randrange(8)
        told += check_damaged(path, bytes(changed), whole)
    assert told >= len(good) - 8


@settings(max_examples=200)
@given(st.integers(0, 10**6))
def test_damage_is_told(tmp_path_factory: pytest.TempPathFactory, number: int) -> None:
    """Truncated, parts cut out, doubled, swapped, overwritten."""
    path = tmp_path_factory.mktemp("damage") / "a"
    rng = random.Random(number)
    write_lattices(path, some_lattices(number), TOKENS, WORDS, {"x": 1})
    good = path.read_bytes()
    whole = content_of(path)
    first, end = sorted(rng.randrange(len(good) + 1) for _ in range(2))
    damaged = rng.choice(
        [
            good[:first],
            good[:first] + good[end:],
            good[:end] + good[first:],
            good[:first] + rng.randbytes(end - first) + good[end:],
            good[:first] + bytes(end - first) + good[end:],
            good + rng.randbytes(rng.randint(1, 9)),
            rng.randbytes(8) + good[8:],
        ]
    )
    assert check_damaged(path, damaged, whole) or damaged == good


def rewritten(
    good: bytes, change: Callable[[dict[str, np.ndarray], dict[str, Any]], None]
) -> bytes:
    """A hostile archive: arrays and header are changed, and the checksums made right again."""
    length = int.from_bytes(good[:8], "little")
    tensors = json.loads(good[8 : 8 + length])
    info = tensors.pop("__metadata__")
    kinds = {"I64": "<i8", "I32": "<i4", "F32": "<f4", "U32": "<u4", "BOOL": "|b1"}
    arrays = {
        name: np.frombuffer(good[8 + length :][slice(*t["data_offsets"])], kinds[t["dtype"]]).copy()
        for name, t in tensors.items()
    }
    header = json.loads(info["header"])
    change(arrays, header)
    names = {
        "arc": ["src", "dst", "token", "starts_token", "acoustic", "graph", "num_words"],
        "state": ["frame"],
        "word": ["words"],
    }
    for i, name in enumerate(header["names"] if isinstance(header["names"], list) else []):
        value = zlib.crc32(str(name).encode())
        for what, keys in names.items():
            first, end = arrays[f"{what}_splits"][i : i + 2]
            for key in keys:
                if key in arrays:
                    value = zlib.crc32(arrays[key][first:end].tobytes(), value)
        if i < len(arrays["crc32"]):
            arrays["crc32"][i] = value
    info["header"] = json.dumps(header, sort_keys=True)
    value = zlib.crc32(info["header"].encode())
    for key in ("arc_splits", "state_splits", "word_splits", "num_frames", "is_partial", "crc32"):
        value = zlib.crc32(arrays[key].tobytes(), value)
    info["crc32"] = str(value)
    content, out = b"", {"__metadata__": info}
    for name, array in arrays.items():
        kind = {v: k for k, v in kinds.items()}[array.dtype.newbyteorder("<").str]
        end = len(content) + array.nbytes
        shape = list(array.shape)
        out[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(content), end]}
        content += array.tobytes()
    text = json.dumps(out, ensure_ascii=False).encode()
    return struct.pack("<Q", len(text)) + text + content


def _set(name: str, place: Any, value: Any) -> Callable[[Any, Any], None]:
    def change(arrays: dict[str, np.ndarray], header: dict[str, Any]) -> None:
        arrays[name][place] = value

    return change


HOSTILE: list[tuple[Any, str]] = [
    (_set("dst", 0, 2**31 - 1), "lattice 'x': lattice: arc 0 leads from 0 to 2147483647"),
    (_set("src", 1, -5), "lattice 'x': lattice: a"),
    (_set("num_words", 0, -1), "lattice 'x': num_words: expected counts of"),
    (
        lambda a, h: _set("num_words", slice(0, 2), [-1, a["num_words"][:2].sum() + 1])(a, h),
        "lattice 'x': num_words: expected counts",
    ),
    (_set("num_words", 0, 2**31 - 1), "lattice 'x': num_words: expected counts"),
    (_set("words", 0, 0), "lattice 'x': lattice: words: 0 is no word id"),
    (_set("words", 0, 4), "lattice 'x': word 4 is not in the table of 4 words"),
    (_set("token", 0, 2**31 - 1), "lattice 'x': token 2147483647 is not in the table"),
    (_set("acoustic", 0, np.nan), "lattice 'x': lattice: arc 0: acoustic score nan is not finite"),
    (_set("frame", 0, -1), "lattice 'x': lattice: frames of states must lie between"),
    (_set("num_frames", 0, -1), "lattice 'x': lattice: num_frames is -1"),
    (_set("arc_splits", 1, 10**12), "arc_splits: expected 3 values, not decreasing"),
    (_set("arc_splits", 1, -1), "arc_splits: expected 3 values, not decreasing"),
    (_set("arc_splits", 2, 10**12), "src: expected 1000000000000 values"),
    (_set("state_splits", 0, 1), "state_splits: expected 3 values, not decreasing, from 0"),
    (_set("word_splits", -1, 0), "word_splits: expected 3 values"),
    (lambda a, h: a.update(words=a["words"].astype("<i8")), "words: expected a vector of I32"),
    (lambda a, h: a.update(frame=a["frame"].reshape(-1, 1)), "frame: expected a vector of I32"),
    (lambda a, h: a.pop("frame"), "expected arrays"),
    (lambda a, h: a.update(more=a["frame"]), "expected arrays"),
    (lambda a, h: a.update(crc32=a["crc32"][:1]), "crc32: 1 values for 2 lattices"),
    (lambda a, h: h.update(names=["x", "x"]), "header: names must be distinct"),
    (lambda a, h: h.update(names=["x", ""]), "header: names must be distinct and not empty"),
    (lambda a, h: h.update(names=["x"]), "arc_splits: expected 2 values"),
    (lambda a, h: h.update(names=None), "header: names must be a list of strings"),
    (lambda a, h: h.update(words=["<eps>", 3]), "header: words must be a list of strings"),
    (lambda a, h: h.update(words=["<eps>", "<eps>"]), "words: symbol 1, '<eps>': duplicate"),
    (lambda a, h: h.update(metadata={"x": float("nan")}), "header is not JSON: NaN is no number"),
    (
        lambda a, h: h.update(metadata={"\ud800": 1}),
        "header is not JSON: 'utf-8' codec can't encode",
    ),
    (lambda a, h: h.update(metadata=[]), "header: metadata must be a mapping"),
    (lambda a, h: h.pop("metadata"), "the header must hold metadata, names, tokens, words"),
]


@pytest.mark.parametrize(("change", "message"), HOSTILE)
def test_hostile_archives_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    """Their checksums are right."""
    path = tmp_path / "a"
    rng = random.Random(8)
    lattices = [random_lattice(rng, num_frames=6) for _ in range(20)]
    first, second = [x for x in lattices if x.num_frames > 2 and len(x.words) > 3][:2]
    write_lattices(path, {"x": first, "y": second}, TOKENS, WORDS)
    good = path.read_bytes()
    path.write_bytes(rewritten(good, lambda arrays, header: None))
    assert content_of(path) is not None
    path.write_bytes(rewritten(good, change))
    with pytest.raises(GraphError) as caught, LatticeArchive(path) as archive:
        archive.read("x")
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "a"
    save_file({"x": np.zeros(2)}, str(path))
    with pytest.raises(GraphError, match=r"a: not an archive of lattices \(format None\)"):
        LatticeArchive(path)
    save_file({"x": np.zeros(2)}, str(path), {"format": "moe_asr.lattices", "version": "2"})
    with pytest.raises(GraphError, match="a: format version '2', this code reads 1"):
        LatticeArchive(path)
    deep = {"format": "moe_asr.lattices", "version": "1", "header": "[" * 100_000}
    save_file({"x": np.zeros(2)}, str(path), deep)
    with pytest.raises(GraphError, match="a: expected arrays"):
        LatticeArchive(path)
    for content in (b"", b"{}", b"\x00" * 100, b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(GraphError, match="a: cannot be read as an archive of lattices"):
            LatticeArchive(path)
    with pytest.raises(GraphError, match="cannot be read as an archive of lattices"):
        LatticeArchive(tmp_path)


def test_threads_read_at_once(tmp_path: Path) -> None:
    rng = random.Random(0)
    lattices = {str(i): random_lattice(rng, num_frames=9) for i in range(40)}
    write_lattices(tmp_path / "a", lattices)
    read: list[tuple[str, Lattice]] = []
    with LatticeArchive(tmp_path / "a") as archive:
        threads = [threading.Thread(target=lambda: read.extend(archive)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(read) == 160
    for name, lattice in read:
        same(lattice, lattices[name])
    with pytest.raises(GraphError, match="lattice '0': cannot be read"):  # closed
        archive.read("0")
