"""Atomic writing and reading of small files."""

import os
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
    with pytest.raises(ConfigError, match="absent.yaml: cannot be read"):
        read_yaml(tmp_path / "absent.yaml")


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
