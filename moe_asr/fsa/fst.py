"""Weighted transducers as flat arrays: what L, G and everything before the decoding graph are."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from moe_asr.errors import GraphError
from moe_asr.files import PathLike, atomic_path, sort_safetensors_header

_FORMAT, _VERSION = "moe_asr.fst", 1
_ARC_DTYPES = {
    "src": np.int32,
    "dst": np.int32,
    "ilabel": np.int32,
    "olabel": np.int32,
    "score": np.float32,
}
_DTYPES = {**_ARC_DTYPES, "final_score": np.float32}


@dataclass(frozen=True, eq=False)
class Fst:
    """A transducer of A arcs over states 0..S-1, of which 0 is the start; OpenFst's model of final states.

    Attributes:
        src, dst: (A,) int32 states, sorted by src.
        ilabel, olabel: (A,) int32 input and output labels, 0 is epsilon.
        score: (A,) float32, natural log, larger is better (OpenFst's weights are their negatives).
        final_score: (S,) float32, -inf where a state is not final.

    An acceptor has equal labels. No final state, or no arc, is allowed: that is an empty language, or one
    with the empty string alone.

    Raises:
        GraphError: if any of this does not hold.
    """

    src: np.ndarray
    dst: np.ndarray
    ilabel: np.ndarray
    olabel: np.ndarray
    score: np.ndarray
    final_score: np.ndarray

    def __post_init__(self) -> None:
        for name, dtype in _DTYPES.items():
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype != dtype:
                shape = getattr(array, "shape", None)
                found = f"{getattr(array, 'dtype', type(array).__name__)} {shape}"
                raise GraphError(f"{name}: expected a vector of {np.dtype(dtype)}, found {found}")
            if name in _ARC_DTYPES and len(array) != len(self.src):
                raise GraphError(f"{name}: {len(array)} values for {len(self.src)} arcs")
        if self.num_states == 0:
            raise GraphError("an FST needs a start state, found no states")
        for name in ("src", "dst"):
            states = getattr(self, name)
            self._refuse((states < 0) | (states >= self.num_states), name, "is not a state")
        for name in ("ilabel", "olabel"):
            self._refuse(getattr(self, name) < 0, name, "is negative")
        self._refuse(~np.isfinite(self.score), "score", "is not finite")
        decreases = np.flatnonzero(np.diff(self.src) < 0)
        if len(decreases):
            raise GraphError(f"arc {int(decreases[0]) + 1}: not sorted by source state")
        wrong = np.flatnonzero(np.isnan(self.final_score) | (self.final_score == np.inf))
        if len(wrong):
            state = int(wrong[0])
            raise GraphError(f"state {state}: final score {self.final_score[state]}")

    def _refuse(self, wrong: np.ndarray, name: str, problem: str) -> None:
        if wrong.any():
            arc = int(np.flatnonzero(wrong)[0])
            raise GraphError(f"arc {arc}: {name} {getattr(self, name)[arc]} {problem}")

    @classmethod
    def from_arcs(
        cls,
        src: Any,
        dst: Any,
        ilabel: Any,
        olabel: Any,
        score: Any,
        final_score: Any,
    ) -> "Fst":
        """An FST of arcs in any order (equal sources keep theirs); array-likes are converted."""
        src = np.asarray(src, np.int32)
        order = np.argsort(src, kind="stable")
        return cls(
            src[order],
            np.asarray(dst, np.int32)[order],
            np.asarray(ilabel, np.int32)[order],
            np.asarray(olabel, np.int32)[order],
            np.asarray(score, np.float32)[order],
            np.asarray(final_score, np.float32),
        )

    @classmethod
    def from_list(
        cls, arcs: Iterable[tuple[int, int, int, int, float]], finals: Mapping[int, float]
    ) -> "Fst":
        """A small FST of (src, dst, ilabel, olabel, score) arcs and final scores by state."""
        rows = list(arcs)
        num_states = 1 + max([0, *finals, *(max(row[:2]) for row in rows)])
        final_score = np.full(num_states, -np.inf, np.float32)
        for state, score in finals.items():
            final_score[state] = score
        src, dst, ilabels, olabels, scores = zip(*rows, strict=True) if rows else ((),) * 5
        return cls.from_arcs(src, dst, ilabels, olabels, scores, final_score)

    @property
    def num_states(self) -> int:
        """S."""
        return len(self.final_score)

    @property
    def num_arcs(self) -> int:
        """A."""
        return len(self.src)

    @cached_property
    def arc_splits(self) -> np.ndarray:
        """(S + 1,) int64: the arcs of state s are ``arc_splits[s]`` to ``arc_splits[s + 1] - 1``."""
        counts = np.bincount(self.src, minlength=self.num_states)
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def take(self, index: np.ndarray) -> "Fst":
        """The FST of the arcs at ``index`` (a mask or positions in the order of their sources)."""
        return Fst(
            self.src[index],
            self.dst[index],
            self.ilabel[index],
            self.olabel[index],
            self.score[index],
            self.final_score,
        )

    def arc_sort(self, by: str = "ilabel") -> "Fst":
        """The same FST, the arcs of each state sorted by ``ilabel`` or ``olabel``."""
        return self.take(np.lexsort([getattr(self, by), self.src]))

    def connect(self) -> "Fst":
        """Without states that are on no path from the start to a final state; order is kept.

        The start state stays, so an empty language is one state without arcs.
        """
        forward = reachable(self.src, self.dst, np.array([0]), self.num_states)
        finals = np.flatnonzero(np.isfinite(self.final_score))
        kept = forward & reachable(self.dst, self.src, finals, self.num_states)
        inside = kept[self.src] & kept[self.dst]
        kept[0] = True
        number = np.cumsum(kept) - 1
        return Fst(
            number[self.src[inside]].astype(np.int32),
            number[self.dst[inside]].astype(np.int32),
            self.ilabel[inside],
            self.olabel[inside],
            self.score[inside],
            self.final_score[kept],
        )

    def save(self, path: PathLike, metadata: Mapping[str, Any] | None = None) -> None:
        """Writes a safetensors file, atomically; ``metadata`` is kept as JSON in its header."""
        try:
            text = json.dumps(metadata or {}, ensure_ascii=False, allow_nan=False, sort_keys=True)
        except (TypeError, ValueError) as error:
            raise GraphError(f"{path}: the metadata cannot be written as JSON: {error}") from error
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _DTYPES}
        header = {"format": _FORMAT, "version": str(_VERSION), "metadata": text}
        with atomic_path(path) as temporary:
            save_file(arrays, str(temporary), metadata=header)
            sort_safetensors_header(temporary)

    @classmethod
    def load(cls, path: PathLike) -> tuple["Fst", dict[str, Any]]:
        """Reads what `save` wrote: the FST and its metadata.

        Raises:
            GraphError: naming the file, if it is absent, damaged, of another format, or no FST.
        """
        try:
            with safe_open(str(path), framework="np") as file:
                header = file.metadata() or {}
                if header.get("format") != _FORMAT:
                    raise GraphError(f"not an FST (format {header.get('format')!r})")
                if header.get("version") != str(_VERSION):
                    raise GraphError(
                        f"format version {header.get('version')!r}, this code reads {_VERSION}"
                    )
                if set(file.keys()) != set(_DTYPES):
                    raise GraphError(
                        f"expected arrays {sorted(_DTYPES)}, found {sorted(file.keys())}"
                    )
                arrays = {name: file.get_tensor(name) for name in _DTYPES}
            metadata = json.loads(header.get("metadata", ""))
            if not isinstance(metadata, dict):
                raise GraphError("the metadata must be a mapping")
            return cls(**arrays), metadata
        except GraphError as error:
            raise GraphError(f"{path}: {error}") from error
        except (OSError, SafetensorError, ValueError, TypeError, RecursionError) as error:
            raise GraphError(f"{path}: cannot be read as an FST: {error}") from error


def reachable(src: np.ndarray, dst: np.ndarray, starts: np.ndarray, num_states: int) -> np.ndarray:
    """(num_states,) bool: states that arcs ``src -> dst`` lead to from ``starts``, those included."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import breadth_first_order

    root = num_states  # one state that leads to all starts
    rows = np.concatenate([src, np.full(len(starts), root)])
    columns = np.concatenate([dst, starts])
    shape = (num_states + 1, num_states + 1)
    graph = csr_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=shape)
    found = breadth_first_order(graph, root, return_predecessors=False)
    mask = np.zeros(num_states + 1, bool)
    mask[found] = True
    return mask[:num_states]
