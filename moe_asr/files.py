"""Reading and writing small files: writes are atomic, read errors name the file."""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Union

import yaml

from moe_asr.errors import ConfigError

PathLike = Union[str, "os.PathLike[str]"]
MAX_YAML_VALUES = 100_000


@contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` and renames it onto ``path`` if the block succeeds.

    A reader sees the old file or the whole new one, never a part; on an exception the old file stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files private; the result should not be
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: PathLike) -> Iterator[Path]:
    """Yields a temporary folder beside ``path``, which takes its place if the block succeeds.

    A reader sees the old folder or the whole new one (or, for a moment between two renames, none); on an
    exception the old one stays. Of a link, the folder that it leads to is replaced.
    """
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
    finally:
        if old.exists() and not path.exists():
            os.replace(old, path)
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)


def writable_directory(path: PathLike) -> Path:
    """Makes a directory, if there is none; `ConfigError` if files cannot be written into it.

    For what works long before it writes.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written to: {error.strerror}") from error


def sort_safetensors_header(path: PathLike) -> None:
    """Puts a safetensors file's header in order: the library writes its metadata in a random one.

    Afterwards the same tensors and metadata are the same bytes, and have one hash.
    """
    with open(path, "r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        text = json.dumps(header, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        content = text.encode("utf-8").ljust(length)
        assert len(content) == length, f"{path}: header of {length} bytes became {len(content)}"
        file.seek(8)
        file.write(content)


def write_text(path: PathLike, text: str) -> None:
    """Writes ``text`` to ``path`` atomically, in UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: PathLike, value: Any) -> None:
    """Writes ``value`` as indented JSON, atomically; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_yaml(path: PathLike, value: Any) -> None:
    """Writes plain dictionaries, lists and scalars as YAML, atomically, keys in their given order."""
    write_text(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def read_text(path: PathLike) -> str:
    """The UTF-8 text of ``path``. Raises `ConfigError` naming the file if it is absent or not UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def read_json(path: PathLike) -> Any:
    """The value stored in a JSON file. Raises `ConfigError` with file and line if it is malformed."""
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except (
        ValueError,
        RecursionError,
    ) as error:  # an integer of too many digits, too deep a nesting
        raise ConfigError(f"{path}: not JSON that can be read: {error}") from error


def read_yaml(path: PathLike) -> Any:
    """The plain value stored in a YAML file. Raises `ConfigError` with file and line if malformed.

    Aliases may stand for no more than `MAX_YAML_VALUES` values in all, and not for what they are part of.
    """
    text = read_text(path)
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _num_values(node, {}) > MAX_YAML_VALUES:
                raise ConfigError(
                    f"{path}: its aliases stand for more than {MAX_YAML_VALUES} values"
                )
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except ConfigError:
        raise
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{path}{line}: not YAML: {getattr(error, 'problem', error)}") from error
    except (ValueError, RecursionError) as error:  # the 32nd of a month, too deep a nesting
        raise ConfigError(f"{path}: not YAML that can be read: {error}") from error


def _num_values(node: yaml.Node, counted: dict[yaml.Node, float]) -> float:
    """Of a node with all aliases written out; infinite if one is a part of itself."""
    if node not in counted:
        counted[node] = math.inf
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif isinstance(node, yaml.MappingNode):
            inner = [one for pair in node.value for one in pair]
        counted[node] = 1 + sum(_num_values(one, counted) for one in inner)
    return counted[node]
