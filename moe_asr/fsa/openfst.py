"""`Fst` in and out of OpenFst: its text format, its binary vector format, and kaldifst's objects.

OpenFst's tropical weights are costs: the negatives of our scores.
"""

import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from moe_asr.errors import GraphError, MissingDependencyError
from moe_asr.files import PathLike, atomic_path, read_text, write_text
from moe_asr.fsa.fst import Fst
from moe_asr.text.symbol_table import SymbolTable

_MAGIC = 2125659606
_MAX_IDLE_STATES = 1_000_000  # numbers that a text may leave out: more are a damaged digit
_EXPANDED_MUTABLE = 3  # the two properties that hold of every vector FST; OpenFst finds the others
_STATE_WORDS, _ARC_WORDS = (
    3,
    4,
)  # 32-bit words: final weight and 64-bit count; two labels, weight, next


def import_kaldifst() -> Any:
    """The ``kaldifst`` module; `MissingDependencyError` if it is absent."""
    try:
        import kaldifst
    except ImportError as error:
        raise MissingDependencyError(
            f"this needs kaldifst (OpenFst), which cannot be imported ({error}): pip install kaldifst"
        ) from error
    return kaldifst


def to_kaldifst(fst: Fst) -> Any:
    """The same FST as a ``kaldifst.StdVectorFst``."""
    kaldifst = import_kaldifst()
    with tempfile.TemporaryDirectory(prefix="moe_asr.") as folder:  # the binding has no bulk access
        path = Path(folder) / "fst"
        path.write_bytes(_binary(fst))
        return kaldifst.StdVectorFst.read(str(path))


def from_kaldifst(fst: Any) -> Fst:
    """The `Fst` of a ``kaldifst.StdVectorFst``; its start state becomes state 0."""
    with tempfile.TemporaryDirectory(prefix="moe_asr.") as folder:
        path = Path(folder) / "fst"
        fst.write(str(path))
        return read_openfst(path)


def write_openfst(fst: Fst, path: PathLike) -> None:
    """Writes OpenFst's binary format (vector, standard arcs, no symbol tables), atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(_binary(fst))


def read_openfst(path: PathLike) -> Fst:
    """Reads OpenFst's binary format (vector, standard arcs); its start state becomes state 0.

    Raises:
        GraphError: naming the file, if it is absent, truncated, of another kind, or malformed.
    """
    try:
        return _parse_binary(Path(path).read_bytes())
    except GraphError as error:
        raise GraphError(f"{path}: {error}") from error
    except (struct.error, ValueError, IndexError) as error:
        raise GraphError(f"{path}: cannot be read as an OpenFst file: {error}") from error
    except OSError as error:
        raise GraphError(f"{path}: cannot be read: {error.strerror}") from error


def is_openfst(start: bytes) -> bool:
    """Whether a file that starts with these bytes, 4 at least, is one of OpenFst's binary files."""
    return len(start) >= 4 and bool(struct.unpack_from("<i", start)[0] == _MAGIC)


def _binary(fst: Fst) -> bytes:
    counts = np.diff(fst.arc_splits)
    starts = np.concatenate([[0], np.cumsum(_STATE_WORDS + _ARC_WORDS * counts)])
    words = np.zeros(int(starts[-1]), "<i4")
    words[starts[:-1]] = _costs(fst.final_score).view("<i4")
    words[starts[:-1] + 1] = counts
    position = np.arange(fst.num_arcs) - fst.arc_splits[fst.src]
    first = starts[fst.src] + _STATE_WORDS + _ARC_WORDS * position
    cost = _costs(fst.score).view("<i4")
    for offset, column in enumerate((fst.ilabel, fst.olabel, cost, fst.dst)):
        words[first + offset] = column
    header = struct.pack("<i", _MAGIC)
    for name in (b"vector", b"standard"):
        header += struct.pack("<i", len(name)) + name
    version, flags, start = 2, 0, 0
    header += struct.pack(
        "<iiQqqq", version, flags, _EXPANDED_MUTABLE, start, fst.num_states, fst.num_arcs
    )
    return header + words.tobytes()


def _costs(scores: np.ndarray) -> np.ndarray:
    """Their negatives; of 0 it is 0, not -0, which OpenFst's hashes would tell from 0."""
    return (np.float32(0) - scores).astype("<f4")


def _parse_binary(content: bytes) -> Fst:
    if not is_openfst(content):
        raise GraphError("not an OpenFst file (its first bytes are others)")
    position, names = 4, []
    for _ in range(2):
        (length,) = struct.unpack_from("<i", content, position)
        if not 0 <= length <= 64:
            raise GraphError("damaged header")
        names.append(content[position + 4 : position + 4 + length])
        position += 4 + length
    if names != [b"vector", b"standard"]:
        found = ", ".join(name.decode("ascii", "replace") for name in names)
        raise GraphError(f"expected a vector FST of standard arcs, found {found}")
    _, flags, _, start, num_states, _ = struct.unpack_from("<iiQqqq", content, position)
    position += struct.calcsize("<iiQqqq")
    if flags & 3:
        raise GraphError("it has symbol tables inside, write it without (fstsymbols clears them)")
    if (len(content) - position) % 4:
        raise GraphError("truncated")
    words = np.frombuffer(content, "<i4", offset=position)
    if not 0 <= start < num_states:
        raise GraphError(f"start state {start} of {num_states} states")
    if num_states > len(words):
        raise GraphError(f"truncated: {num_states} states in {4 * len(words)} bytes")
    firsts, counts = _walk_states(words, num_states)
    num_arcs = int(counts.sum())
    src = np.repeat(np.arange(num_states), counts)
    place = np.arange(num_arcs) - np.repeat(np.cumsum(counts) - counts, counts)
    first = firsts[src] + _STATE_WORDS + _ARC_WORDS * place
    dst = words[first + 3]
    cost = words[first + 2].view("<f4")
    if len(dst) and (dst.min() < 0 or dst.max() >= num_states):
        raise GraphError("an arc leads to a state that is not there")
    final_score = _costs(words[firsts].view("<f4"))
    swap = np.arange(num_states)
    swap[[0, start]] = swap[[start, 0]]
    return Fst.from_arcs(
        swap[src], swap[dst], words[first], words[first + 1], _costs(cost), final_score[swap]
    )


def _walk_states(words: np.ndarray, num_states: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each state's words begin, and how many arcs it has."""
    count_at = words.astype("i4").data  # a copy: aligned, as its memoryview needs it
    firsts, counts, position = [0] * num_states, [0] * num_states, 0
    for state in range(num_states):
        if position + _STATE_WORDS > len(count_at):
            raise GraphError(f"truncated at state {state} of {num_states}")
        count = count_at[position + 1]
        if count < 0 or count_at[position + 2]:
            raise GraphError(f"state {state}: damaged number of arcs")
        firsts[state], counts[state] = position, count
        position += _STATE_WORDS + _ARC_WORDS * count
    if position != len(count_at):
        raise GraphError(f"expected {position} words after the header, found {len(count_at)}")
    return np.array(firsts, np.int64), np.array(counts, np.int64)


def fst_to_text(
    fst: Fst, isymbols: SymbolTable | None = None, osymbols: SymbolTable | None = None
) -> str:
    """OpenFst's text format: ``src dst ilabel olabel cost`` and ``state cost`` lines, exact costs.

    Args:
        fst: arcs are written in their order, a state's final cost after its arcs.
        isymbols, osymbols: write symbols instead of ids.

    Raises:
        TextError: if a label is not in its table.
    """
    inputs, outputs = fst.ilabel.tolist(), fst.olabel.tolist()
    ilabels = [isymbols.symbol(i) for i in inputs] if isymbols is not None else inputs
    olabels = [osymbols.symbol(i) for i in outputs] if osymbols is not None else outputs
    dst, cost, finals = (
        fst.dst.tolist(),
        _costs(fst.score).tolist(),
        _costs(fst.final_score).tolist(),
    )
    splits = fst.arc_splits.tolist()
    lines = []
    for state in range(fst.num_states):
        for arc in range(splits[state], splits[state + 1]):
            lines.append(f"{state} {dst[arc]} {ilabels[arc]} {olabels[arc]} {_cost(cost[arc])}\n")
        if finals[state] != float("inf"):
            lines.append(f"{state} {_cost(finals[state])}\n")
        elif splits[state] == splits[state + 1]:  # as OpenFst does: else the state would be lost
            lines.append(f"{state} Infinity\n")
    return "".join(lines)


def _cost(value: float) -> str:
    return f"{value:.9g}"  # nine digits give a float32 back


def fst_from_text(
    text: str,
    isymbols: SymbolTable | None = None,
    osymbols: SymbolTable | None = None,
    source: str = "FST text",
) -> Fst:
    """Reads OpenFst's text format; the first line's state is the start, and becomes state 0.

    Lines are ``src dst ilabel olabel [cost]`` or ``state [cost]``, one a state; a missing cost is 0.

    Raises:
        GraphError: with file and line, on anything else, an unknown symbol, a state number far beyond what
            so many lines can use, or no lines at all.
    """
    arcs: list[tuple[int, int, int, int, float]] = []
    finals: dict[int, float] = {}
    start = None
    lines = text.split("\n")
    limit = 2 * len(lines) + _MAX_IDLE_STATES
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            if len(fields) in (4, 5):
                labels = (parse_label(fields[2], isymbols), parse_label(fields[3], osymbols))
                cost = parse_cost(fields[4]) if len(fields) == 5 else 0.0
                states = (_state(fields[0], limit), _state(fields[1], limit))
                arcs.append((*states, *labels, -cost))
            elif len(fields) in (1, 2):
                # OpenFst writes "state Infinity" of a state that has no arcs and is not final
                infinite = fields[1:] == ["Infinity"]
                cost = parse_cost(fields[1]) if len(fields) == 2 and not infinite else 0.0
                state = _state(fields[0], limit)
                if state in finals:
                    raise ValueError(f"a second final cost of state {state}")
                finals[state] = -np.inf if infinite else -cost
            else:
                raise ValueError(f"expected 1, 2, 4 or 5 fields, found {len(fields)}")
        except ValueError as error:
            raise GraphError(f"{source}:{number}: {error}") from error
        start = _state(fields[0], limit) if start is None else start
    if start is None:
        raise GraphError(f"{source}: no FST in it")
    swap = {start: 0, 0: start}
    return Fst.from_list(
        ((swap.get(a, a), swap.get(b, b), i, o, score) for a, b, i, o, score in arcs),
        {swap.get(state, state): score for state, score in finals.items()},
    )


def read_fst_text(
    path: PathLike, isymbols: SymbolTable | None = None, osymbols: SymbolTable | None = None
) -> Fst:
    """`fst_from_text` of a file; `GraphError` (`ConfigError` if it cannot be read) naming it."""
    return fst_from_text(read_text(path), isymbols, osymbols, str(path))


def write_fst_text(
    fst: Fst,
    path: PathLike,
    isymbols: SymbolTable | None = None,
    osymbols: SymbolTable | None = None,
) -> None:
    """`fst_to_text` into a file, atomically."""
    write_text(path, fst_to_text(fst, isymbols, osymbols))


def parse_number(field: str, what: str) -> int:
    """A number from 0 to 2**31 - 1; ValueError says that ``what`` was expected."""
    if not (field.isascii() and field.isdecimal()) or int(field) >= 1 << 31:
        raise ValueError(f"expected {what}, found {field!r}")
    return int(field)


def parse_label(field: str, symbols: SymbolTable | None) -> int:
    """A label, or the symbol of one; ValueError if it is none."""
    if symbols is None:
        return parse_number(field, "a label")
    index = symbols.get(field)
    if index is None:
        raise ValueError(f"symbol {field!r} is not in {symbols.source}")
    return index


def parse_cost(field: str) -> float:
    """A cost within float32; ValueError if it is none."""
    try:
        if "_" in field:
            raise ValueError  # Python's own digit groups
        cost = float(field)
    except ValueError:
        raise ValueError(f"expected a cost, found {field!r}") from None
    if not abs(cost) <= float(np.finfo(np.float32).max):
        raise ValueError(f"cost {field} is not finite")
    return cost


def _state(field: str, limit: int) -> int:
    state = parse_number(field, "a state")
    if state >= limit:
        raise ValueError(f"state {field}, in a text that is too short to use so many")
    return state
