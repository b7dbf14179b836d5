"""Atomic writing and reading of small files."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from moe_asr.errors import ConfigError
from moe_asr.files import (
    atomic_directory,
    atomic_path,
    read_json,
    read_yaml,
    sort_safetensors_header,
    write_json,
    write_text,
    write_yaml,
)


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError("disk full, say")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["state.txt"]


def test_safetensors_of_the_same_content_are_the_same_bytes(tmp_path: Path) -> None:
    metadata = {key: f'"é\n\x01\u2028{key}\\' for key in "abcdefgh"}
    arrays = {"x": np.arange(3), "y": np.zeros((2, 2), np.float32)}
    written = set()
    for attempt in range(8):
        path = tmp_path / f"{attempt}.safetensors"
        save_file(arrays, str(path), metadata=metadata)
        sort_safetensors_header(path)
        written.add(path.read_bytes())
        with safe_open(str(path), framework="np") as file:
            assert file.metadata() == metadata
            for name, array in arrays.items():
                assert (file.get_tensor(name) == array).all()
    assert len(written) == 1


def test_reader_never_sees_a_part(tmp_path: Path) -> None:
    path = tmp_path / "state.txt"
    write_text(path, "old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_mode_follows_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        write_text(tmp_path / "a", "text")
    finally:
        os.umask(umask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_json_refuses_values_that_are_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"wer": float("nan")})
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize(
    ("read", "text", "where"),
    [
        (read_json, b'{"a": 1,\n "b": }', "bad:2"),
        (read_yaml, b"a: 1\nb: [1, 2\n", "bad:3"),
        (read_json, b"\xff\xfe", "bad: not UTF-8"),
    ],
)
def test_malformed_files_are_named_with_their_line(
    tmp_path: Path, read: object, text: bytes, where: str
) -> None:
    path = tmp_path / "bad"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=where):
        read(path)  # type: ignore[operator]


def test_absent_file_is_named(tmp_path: Path) -> None:
    for read in (read_yaml, read_json):
        with pytest.raises(ConfigError, match="^[^:]*absent.yaml: cannot be read: No such file"):
            read(tmp_path / "absent.yaml")


def test_a_directory_takes_its_place_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep" / "folder"
    for content in ("first", "second"):
        with atomic_directory(path) as temporary:
            (temporary / content).write_text(content)
            assert temporary.parent == path.parent and not (path / content).exists()
        assert [file.name for file in path.iterdir()] == [content]
    assert path.stat().st_mode & 0o077 == (tmp_path / "deep").stat().st_mode & 0o077
    with pytest.raises(RuntimeError), atomic_directory(path) as temporary:
        (temporary / "third").write_text("half")
        raise RuntimeError("disk full, say")
    # interrupted between the two renames: the old one is put back
    real, moved = os.replace, []

    def replace(source: Path, target: Path) -> None:
        moved.append(source)
        if len(moved) == 2:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt), atomic_directory(path) as temporary:
        (temporary / "fourth").write_text("whole")
    assert len(moved) == 3
    assert [file.name for file in path.iterdir()] == ["second"]
    assert os.listdir(tmp_path / "deep") == ["folder"]


BOMB = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{{', '.join(f'k{i}: *{before}' for i in range(10))}}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (read_yaml, BOMB, "aliases stand for more than 100000 values"),
        (read_yaml, BOMB.replace("k0: *h", "<<: [*h, *h]"), "aliases stand for more than"),
        (read_yaml, "a: &a [1, *a]", "aliases stand for more than"),
        (read_yaml, "a: &a {<<: *a}", "aliases stand for more than"),
        (read_yaml, "[" * 1500, "can be read"),
        (read_yaml, "day: 2024-01-32", "can be read: day"),
        (read_json, "[" * 200_000, "can be read"),
    ],
)
def test_files_that_are_small_and_hold_much_are_refused(
    tmp_path: Path, read: Callable[[Path], object], text: str, message: str
) -> None:
    path = tmp_path / "bad"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"bad: .*{message}"):
        read(path)


def test_aliases_are_read(tmp_path: Path) -> None:
    """Written out, and what our own writer makes of a list that stands at two places."""
    path = tmp_path / "a.yaml"
    path.write_text("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n")
    assert read_yaml(path) == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}
    shared = [1, 2]
    write_yaml(path, {"a": shared, "b": shared})
    assert read_yaml(path) == {"a": [1, 2], "b": [1, 2]}
    path.write_text("")
    assert read_yaml(path) is None


def test_a_directory_behind_a_link_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link stays; so it is with the folder that one is in."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with atomic_directory(tmp_path / "link") as temporary:
        (temporary / "new").write_text("")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "new").is_file()
    monkeypatch.chdir(tmp_path / "real")
    with atomic_directory(".") as temporary:
        (temporary / "newer").write_text("")
    assert os.listdir(tmp_path / "real") == ["newer"]
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]
