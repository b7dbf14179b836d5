"""Ways to damage a file: each function gives one, which changes the file at a path for good."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from moe_asr.files import read_yaml, write_yaml
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.graph import DecodingGraph

Damage = Callable[[Path], None]


def _lines(change: Callable[[list[bytes]], None]) -> Damage:
    def damage(path: Path) -> None:
        lines = path.read_bytes().split(b"\n")
        change(lines)
        path.write_bytes(b"\n".join(lines))

    return damage


def delete_line(number: int) -> Damage:
    """Line numbers are from 1, as in messages."""
    return _lines(lambda lines: lines.__delitem__(number - 1))


def duplicate_line(number: int) -> Damage:
    return _lines(lambda lines: lines.insert(number, lines[number - 1]))


def insert_line(number: int, text: str) -> Damage:
    return _lines(lambda lines: lines.insert(number - 1, text.encode()))


def swap_lines(one: int, two: int) -> Damage:
    def change(lines: list[bytes]) -> None:
        lines[one - 1], lines[two - 1] = lines[two - 1], lines[one - 1]

    return _lines(change)


def swap_ids(one: int, two: int) -> Damage:
    """Of two lines of a symbol table."""

    def change(lines: list[bytes]) -> None:
        first, second = lines[one - 1].split(), lines[two - 1].split()
        lines[one - 1], lines[two - 1] = (
            b" ".join([first[0], second[1]]),
            b" ".join([second[0], first[1]]),
        )

    return _lines(change)


def bad_utf8(number: int) -> Damage:
    """Puts a byte into a line that is in no UTF-8 text."""
    return _lines(lambda lines: lines.__setitem__(number - 1, b"\xff" + lines[number - 1]))


def edit(old: str, new: str) -> Damage:
    """Replaces the first of something that must be there."""

    def damage(path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{path}: no {old!r}"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return damage


def substitute(pattern: str, new: str) -> Damage:
    """Replaces everything that a pattern matches; something must be there."""

    def damage(path: Path) -> None:
        text, number = re.subn(pattern, new, path.read_text(encoding="utf-8"))
        assert number, f"{path}: no {pattern!r}"
        path.write_text(text, encoding="utf-8")

    return damage


def truncate(path: Path) -> None:
    """Two thirds are left, and no whole last line."""
    content = path.read_bytes()[: 2 * path.stat().st_size // 3]
    while content.endswith(b"\n"):
        content = content[:-1]
    path.write_bytes(content[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def write(text: str) -> Damage:
    """Puts another text in the place of all."""
    return lambda path: path.write_text(text, encoding="utf-8") and None  # type: ignore[func-returns-value]


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def flip(tensor: str, index: int, bit: int = 0) -> Damage:
    """One bit of one 32-bit value of a safetensors file; of a score, bit 0 is the last of the mantissa."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        length = int.from_bytes(content[:8], "little")
        start, end = json.loads(content[8 : 8 + length])[tensor]["data_offsets"]
        position = 8 + length + start + 4 * index + bit // 8
        assert position < 8 + length + end
        content[position] ^= 1 << bit % 8
        path.write_bytes(content)

    return damage


def flip_byte(position: int) -> Damage:
    """All bits of one byte."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[position] ^= 0xFF
        path.write_bytes(content)

    return damage


def swap_with(name: str) -> Damage:
    """Exchanges the file with another one beside it."""

    def damage(path: Path) -> None:
        other, between = path.parent / name, path.parent / "between"
        path.rename(between)
        other.rename(path)
        between.rename(other)

    return damage


def copy_of(name: str) -> Damage:
    """Puts a file of somewhere else in its place; a path relative to its folder."""
    return lambda path: shutil.copyfile(path.parent / name, path) and None  # type: ignore[func-returns-value]


def fst(change: Callable[[Fst], Fst], **metadata: Any) -> Damage:
    """Saves another FST, properly, with the metadata as it was or changed."""

    def damage(path: Path) -> None:
        before, about = Fst.load(path)
        change(before).save(path, {**about, **metadata})

    return damage


def graph(change: Callable[[DecodingGraph], DecodingGraph]) -> Damage:
    """Saves another decoding graph, properly."""
    return lambda path: change(DecodingGraph.load(path)).save(path)


def score(arc: int, by: float) -> Callable[[Any], Any]:
    """Of an `Fst` or a `DecodingGraph`: another score of one arc."""
    return lambda item: replace(item, score=_set(item.score, arc, item.score[arc] + by))


def redirect(arc: int, to: int) -> Callable[[Any], Any]:
    """One arc leads to another state."""
    return lambda item: replace(item, dst=_set(item.dst, arc, to))


def relabel(name: str, arc: int, label: int) -> Callable[[Any], Any]:
    """Another label of one arc; ``name`` of the array."""
    return lambda item: replace(item, **{name: _set(getattr(item, name), arc, label)})


def word(arc: int, label: int) -> Callable[[Fst], Fst]:
    """Another label on both sides of an arc of an acceptor."""
    return lambda item: relabel("olabel", arc, label)(relabel("ilabel", arc, label)(item))


def order(*arcs: int) -> Callable[[Any], Any]:
    """The first arcs in another order."""

    def change(item: Any) -> Any:
        index = np.array([*arcs, *range(len(arcs), item.num_arcs)])
        if isinstance(item, Fst):
            return item.take(index)
        tables = item.token_table, item.word_table, item.metadata
        return DecodingGraph.from_arcs(item.arcs().take(index), *tables)

    return change


def drop_arc(arc: int) -> Callable[[Any], Any]:
    """One arc less."""

    def change(item: Any) -> Any:
        kept = np.delete(np.arange(item.num_arcs), arc)
        if isinstance(item, Fst):
            return item.take(kept)
        tables = item.token_table, item.word_table, item.metadata
        return DecodingGraph.from_arcs(item.arcs().take(kept), *tables)

    return change


def final(state: int, value: float) -> Callable[[Fst], Fst]:
    """Another final score."""
    return lambda item: replace(item, final_score=_set(item.final_score, state, value))


def about(**metadata: Any) -> Callable[[DecodingGraph], DecodingGraph]:
    """Other metadata."""
    return lambda item: replace(item, metadata={**item.metadata, **metadata})


def forget(step: str, part: str | None = None, name: str | None = None) -> Damage:
    """Takes a step off a ``provenance.json``, or one of its ``inputs`` or ``outputs``."""

    def damage(path: Path) -> None:
        content = json.loads(path.read_text())
        if part is None:
            del content["steps"][step]
        else:
            del content["steps"][step][part][name]
        path.write_text(json.dumps(content))

    return damage


def settings(**changes: Any) -> Damage:
    """Changes a YAML file."""
    return lambda path: write_yaml(path, {**read_yaml(path), **changes})


def _set(array: np.ndarray, index: int, value: float) -> np.ndarray:
    changed = array.copy()
    changed[index] = value
    return changed
