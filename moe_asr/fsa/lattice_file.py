"""Archives of lattices: many of them, by name, in one safetensors file.

The arrays of all lattices stand one behind another, so that one can be read without the others; an index
tells where. The header holds the names, metadata, and optionally the tables of tokens and words, once for all
lattices, so that what a lattice says can be printed without another file. Each lattice has a checksum, and so
have index and header: damage is told, not decoded.
"""

import difflib
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from moe_asr.errors import GraphError, TextError
from moe_asr.files import PathLike, atomic_path
from moe_asr.fsa.lattice import Lattice
from moe_asr.text.symbol_table import SymbolTable

_FORMAT, _VERSION = "moe_asr.lattices", 1
# what an array has a value for -> its arrays
_ROWS = {
    "arc": ("src", "dst", "token", "starts_token", "acoustic", "graph", "num_words"),
    "state": ("frame",),
    "word": ("words",),
}
_INDEX = ("arc_splits", "state_splits", "word_splits", "num_frames", "is_partial", "crc32")
_DTYPES = {  # in the order of the file, so that all are aligned
    **dict.fromkeys(("arc_splits", "state_splits", "word_splits", "num_frames"), "I64"),
    **dict.fromkeys(("src", "dst", "token", "num_words", "frame", "words"), "I32"),
    **dict.fromkeys(("acoustic", "graph"), "F32"),
    "crc32": "U32",
    **dict.fromkeys(("is_partial", "starts_token"), "BOOL"),
}
_NUMPY = {"I64": "<i8", "I32": "<i4", "F32": "<f4", "U32": "<u4", "BOOL": "|b1"}
_MAX_HEADER = 100_000_000  # bytes; safetensors reads no longer ones


class LatticeWriter:
    """Writes an archive while its lattices are made; memory does not grow with them.

    Use it as a context manager: the file appears, whole, when the block ends without an exception. Until
    then the lattices are in unnamed files beside it.

    Args:
        path: a name that ends in ``.safetensors``, by convention.
        token_table, word_table: what the ids mean, if it shall be in the file.
        metadata: plain JSON values: how the lattices were made.

    Raises:
        GraphError: if the metadata cannot be written as JSON.
    """

    def __init__(
        self,
        path: PathLike,
        token_table: SymbolTable | None = None,
        word_table: SymbolTable | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self._tables = {"token": token_table, "word": word_table}
        self._metadata = dict(metadata or {})
        self._names: dict[str, None] = {}
        self._unfinished = ""  # the lattice that is being written
        self._header()  # refuse what cannot be written before the work is done, not after it
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._stack = ExitStack()
        self._parts: dict[str, IO[bytes]] = {
            name: self._stack.enter_context(tempfile.TemporaryFile(dir=self.path.parent))
            for names in _ROWS.values()
            for name in names
        }
        self._index: dict[str, list[int]] = {name: [] for name in _INDEX}
        for what in _ROWS:
            self._index[f"{what}_splits"].append(0)

    def write(self, name: str, lattice: Lattice) -> None:
        """Adds a lattice.

        Args:
            name: of the utterance; not empty, and no other lattice's.

        Raises:
            GraphError: if the name cannot be taken, the lattice has parts that are on no path, or ids that
                are not in the tables; or if the disk did not take all of an earlier one.
        """
        self._check_whole()
        where = f"{self.path}: lattice {name!r}"
        if not isinstance(name, str) or not name or name in self._names:
            problem = "the name is there already" if name in self._names else "not a name"
            raise GraphError(f"{where}: {problem}")
        try:
            encoded_name = name.encode("utf-8")
        except UnicodeEncodeError as error:
            raise GraphError(f"{where}: the name cannot be written as UTF-8") from error
        try:
            _check(lattice, self._tables)
        except GraphError as error:
            raise GraphError(f"{where}: {error}") from error
        parts = {
            key: np.ascontiguousarray(values, _NUMPY[_DTYPES[key]]).tobytes()
            for key, values in _arrays(lattice).items()
        }
        self._unfinished = name
        self._index["crc32"].append(_checksum(encoded_name, parts))
        self._index["num_frames"].append(lattice.num_frames)
        self._index["is_partial"].append(lattice.is_partial)
        sizes = {"arc": lattice.num_arcs, "state": lattice.num_states, "word": len(lattice.words)}
        for what, size in sizes.items():
            splits = self._index[f"{what}_splits"]
            splits.append(splits[-1] + size)
        for key, content in parts.items():
            self._parts[key].write(content)
        self._names[name] = None
        self._unfinished = ""

    def __enter__(self) -> "LatticeWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._stack:
            if kind is None:
                self._finish()

    def _check_whole(self) -> None:
        if self._unfinished:
            raise GraphError(
                f"{self.path}: lattice {self._unfinished!r} could not be written, so nothing is"
            )

    def _header(self) -> str:
        tokens, words = self._tables["token"], self._tables["word"]
        header = {
            "names": list(self._names),
            "tokens": None if tokens is None else list(tokens),
            "words": None if words is None else list(words),
            "metadata": self._metadata,
        }
        try:
            text = json.dumps(header, ensure_ascii=False, allow_nan=False, sort_keys=True)
            text.encode("utf-8")
        except (TypeError, ValueError) as error:
            raise GraphError(
                f"{self.path}: the metadata cannot be written as JSON: {error}"
            ) from error
        return text

    def _finish(self) -> None:
        self._check_whole()
        index = {
            name: np.array(values, _NUMPY[_DTYPES[name]]).tobytes()
            for name, values in self._index.items()
        }
        text = self._header()
        tensors: dict[str, Any] = {}
        end = 0
        for name, dtype in _DTYPES.items():
            size = len(index[name]) if name in index else self._parts[name].tell()
            shape = [size // np.dtype(_NUMPY[dtype]).itemsize]
            tensors[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
            end += size
        tensors["__metadata__"] = {
            "format": _FORMAT,
            "version": str(_VERSION),
            "header": text,
            "crc32": str(_checksum(text.encode("utf-8"), index)),
        }
        header = json.dumps(tensors, ensure_ascii=False, sort_keys=True).encode("utf-8")
        header += b" " * (-len(header) % 8)
        if len(header) > _MAX_HEADER:
            raise GraphError(
                f"{self.path}: names, tables and metadata take {len(header)} bytes, more than "
                f"{_MAX_HEADER}; write several archives"
            )
        with atomic_path(self.path) as temporary, open(temporary, "wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for name in _DTYPES:
                if name in index:
                    file.write(index[name])
                else:
                    self._parts[name].seek(0)
                    shutil.copyfileobj(self._parts[name], file, 1 << 20)


class LatticeArchive:
    """An archive of lattices, open for reading: ``archive.read(name)``, or ``for name, lattice in archive``.

    Only the index is held in memory. Reading from several threads at once is fine.

    Attributes:
        path: the file.
        names: of the lattices, in the order they were written in.
        token_table, word_table: what the ids mean; None if the file does not tell.
        metadata: how the lattices were made.

    Raises:
        GraphError: naming the file, if it is absent, damaged, or something else.
    """

    path: PathLike
    names: tuple[str, ...]
    token_table: SymbolTable | None
    word_table: SymbolTable | None
    metadata: dict[str, Any]

    def __init__(self, path: PathLike) -> None:
        self.path = path
        try:
            with ExitStack() as stack:
                self._file = stack.enter_context(safe_open(str(path), framework="np"))
                self._read_index()
                self._stack = stack.pop_all()
        except (GraphError, TextError) as error:
            raise GraphError(f"{path}: {error}") from error
        except (OSError, SafetensorError, ValueError, TypeError) as error:
            raise GraphError(
                f"{path}: cannot be read as an archive of lattices: {error}"
            ) from error

    def _read_index(self) -> None:
        info = self._file.metadata() or {}
        if info.get("format") != _FORMAT:
            raise GraphError(f"not an archive of lattices (format {info.get('format')!r})")
        if info.get("version") != str(_VERSION):
            raise GraphError(f"format version {info.get('version')!r}, this code reads {_VERSION}")
        if set(self._file.keys()) != set(_DTYPES):
            raise GraphError(
                f"expected arrays {sorted(_DTYPES)}, found {sorted(self._file.keys())}"
            )
        lengths = {}
        for name, dtype in _DTYPES.items():
            part = self._file.get_slice(name)
            shape = part.get_shape()
            if part.get_dtype() != dtype or len(shape) != 1:
                raise GraphError(
                    f"{name}: expected a vector of {dtype}, found {part.get_dtype()} {shape}"
                )
            lengths[name] = shape[0]
        index = {name: self._file.get_tensor(name) for name in _INDEX}
        content = {name: values.tobytes() for name, values in index.items()}
        text = info.get("header", "")
        if str(_checksum(text.encode("utf-8"), content)) != info.get("crc32"):
            raise GraphError("damaged: the checksum of index and header is another")
        header = _parse_header(text)
        self.names = tuple(header["names"])
        for what, names in _ROWS.items():
            _check_splits(f"{what}_splits", index, len(self.names), {n: lengths[n] for n in names})
        for name in ("num_frames", "is_partial", "crc32"):
            if lengths[name] != len(self.names):
                raise GraphError(f"{name}: {lengths[name]} values for {len(self.names)} lattices")
        self._index = index
        self._number = {name: i for i, name in enumerate(self.names)}
        self.token_table, self.word_table = (
            None if header[name] is None else SymbolTable(header[name], f"{self.path}: {name}")
            for name in ("tokens", "words")
        )
        self.metadata = header["metadata"]

    def read(self, name: str) -> Lattice:
        """The lattice with this name; the others are not read.

        Raises:
            GraphError: naming file and lattice, if it is not there, damaged or malformed.
        """
        number = self._number.get(name)
        if number is None:
            near = difflib.get_close_matches(str(name), self.names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise GraphError(f"{self.path}: no lattice {name!r} among {len(self.names)}{hint}")
        try:
            return self._read(number)
        except GraphError as error:
            raise GraphError(f"{self.path}: lattice {name!r}: {error}") from error
        except (OSError, SafetensorError, ValueError, TypeError) as error:
            raise GraphError(f"{self.path}: lattice {name!r}: cannot be read: {error}") from error

    def only_name(self) -> str:
        """The name of the lattice, where there is only one.

        Raises:
            GraphError: saying how many there are, if it is another number.
        """
        if len(self.names) != 1:
            some = ", ".join(self.names[:3]) + (", ..." if len(self.names) > 3 else "")
            raise GraphError(
                f"{self.path}: {len(self.names)} lattices ({some}): which one has to be said"
            )
        return self.names[0]

    def _read(self, number: int) -> Lattice:
        arrays: dict[str, Any] = {}
        for what, names in _ROWS.items():
            first, end = self._index[f"{what}_splits"][number : number + 2].tolist()
            for name in names:
                if first == end:  # a slice of nothing at the end of an array is refused
                    arrays[name] = np.zeros(0, _NUMPY[_DTYPES[name]])
                else:
                    arrays[name] = self._file.get_slice(name)[first:end]
        content = {name: values.tobytes() for name, values in arrays.items()}
        checksum = _checksum(self.names[number].encode("utf-8"), content)
        if checksum != self._index["crc32"][number]:
            raise GraphError("damaged: the checksum is another")
        counts = arrays.pop("num_words")
        splits = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        if (counts < 0).any() or splits[-1] != len(arrays["words"]):
            raise GraphError(f"num_words: expected counts of {len(arrays['words'])} words")
        lattice = Lattice(
            word_row_splits=splits.astype(np.int32),
            num_frames=int(self._index["num_frames"][number]),
            is_partial=bool(self._index["is_partial"][number]),
            **arrays,
        )
        _check(lattice, {"token": self.token_table, "word": self.word_table})
        return lattice

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._number

    def __iter__(self) -> Iterator[tuple[str, Lattice]]:
        """Names and lattices, one read after another."""
        for name in self.names:
            yield name, self.read(name)

    def close(self) -> None:
        """Closes the file; nothing can be read after."""
        self._stack.close()

    def __enter__(self) -> "LatticeArchive":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def write_lattices(
    path: PathLike,
    lattices: Mapping[str, Lattice] | Iterable[tuple[str, Lattice]],
    token_table: SymbolTable | None = None,
    word_table: SymbolTable | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Writes an archive of these lattices, atomically; see `LatticeWriter`."""
    pairs = lattices.items() if isinstance(lattices, Mapping) else lattices
    with LatticeWriter(path, token_table, word_table, metadata) as writer:
        for name, lattice in pairs:
            writer.write(name, lattice)


def _arrays(lattice: Lattice) -> dict[str, np.ndarray]:
    """In the order that checksums are taken in."""
    arrays = {**vars(lattice), "num_words": np.diff(lattice.word_row_splits)}
    return {name: arrays[name] for names in _ROWS.values() for name in names}


def _checksum(name: bytes, parts: Mapping[str, bytes]) -> int:
    value = zlib.crc32(name)
    for content in parts.values():
        value = zlib.crc32(content, value)
    return value


def _check(lattice: Lattice, tables: Mapping[str, SymbolTable | None]) -> None:
    if not lattice.is_connected:
        raise GraphError("a state is on no path; see moe_asr.fsa.lattice_scores.connect")
    for what, ids in (("token", lattice.token), ("word", lattice.words)):
        table = tables[what]
        if table is not None and ids.max(initial=-1) >= len(table):
            raise GraphError(f"{what} {ids.max()} is not in the table of {len(table)} {what}s")


def _check_splits(
    name: str, index: Mapping[str, np.ndarray], num_lattices: int, lengths: Mapping[str, int]
) -> None:
    splits = index[name]
    good = len(splits) == num_lattices + 1 and splits[0] == 0
    if not good or (splits[1:] < splits[:-1]).any():
        raise GraphError(f"{name}: expected {num_lattices + 1} values, not decreasing, from 0")
    for array, length in lengths.items():
        if length != splits[-1]:
            raise GraphError(f"{array}: expected {splits[-1]} values, found {length}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _parse_header(text: str) -> dict[str, Any]:
    try:
        header = json.loads(text, parse_constant=_refuse_constant)
        json.dumps(header, ensure_ascii=False).encode("utf-8")  # no halves of surrogate pairs
    except (ValueError, RecursionError) as error:
        raise GraphError(f"the header is not JSON: {error}") from error
    expected = {"names", "tokens", "words", "metadata"}
    if not isinstance(header, dict) or set(header) != expected:
        raise GraphError(f"the header must hold {', '.join(sorted(expected))}")
    for name in ("names", "tokens", "words"):
        values = header[name]
        if values is None and name != "names":
            continue
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise GraphError(f"header: {name} must be a list of strings")
    if len(set(header["names"])) != len(header["names"]) or "" in header["names"]:
        raise GraphError("header: names must be distinct and not empty")
    if not isinstance(header["metadata"], dict):
        raise GraphError("header: metadata must be a mapping")
    return header
