"""The decoding graph: an epsilon-free FST over tokens with word output labels, as flat arrays."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from moe_asr.errors import GraphError, TextError
from moe_asr.files import PathLike, atomic_path, sort_safetensors_header
from moe_asr.fsa.arcs import Arcs
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.graph_openfst import arcs_of_graph_fst, fst_of_graph, fst_tables
from moe_asr.fsa.graph_packing import PACKED, pack_arcs, unpack_arcs
from moe_asr.fsa.k2_module import arrays_of_k2, k2_of_arrays
from moe_asr.fsa.openfst import fst_from_text, fst_to_text
from moe_asr.text.symbol_table import SymbolTable

KINDS = ("HLG", "LG", "HT", "T")
_FORMAT, _VERSION, _PACKED_VERSION = "moe_asr.decoding_graph", "1", "2"
_DTYPES = {
    "src": np.int32,
    "dst": np.int32,
    "token": np.int32,
    "score": np.float32,
    "word_row_splits": np.int32,
    "words": np.int32,
}


@dataclass(frozen=True, eq=False)
class DecodingGraph:
    """A graph in k2's form: A arcs over states 0..S-1; 0 is the start, S-1 the one final state.

    The final state is entered by the arcs of token -1, and only by them; no arc leaves it. In an
    ``HLG`` a token is the label of a frame and 0 is blank; in an ``LG`` (whose CTC topology the
    search implies) tokens are spelled out once and 0 does not occur. ``HT`` and ``T`` are the same
    for an n-gram of tokens: the words are the tokens themselves.

    Attributes:
        src, dst: (A,) int32 states, sorted by src.
        token: (A,) int32, -1 or an id of ``token_table``.
        score: (A,) float32, natural log, larger is better.
        word_row_splits: (A + 1,) int32; the words of arc a are
            ``words[word_row_splits[a]:word_row_splits[a + 1]]``.
        words: (W,) int32, ids of ``word_table``, never 0.
        token_table, word_table: the symbols; tokens are exactly the model's outputs.
        metadata: plain JSON values; ``kind`` is one of `KINDS`, the rest says how it was built.

    Raises:
        GraphError: if any of this does not hold.
    """

    src: np.ndarray
    dst: np.ndarray
    token: np.ndarray
    score: np.ndarray
    word_row_splits: np.ndarray
    words: np.ndarray
    token_table: SymbolTable
    word_table: SymbolTable
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, dtype in _DTYPES.items():
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype != dtype:
                shape = getattr(array, "shape", None)
                found = f"{getattr(array, 'dtype', type(array).__name__)} {shape}"
                raise GraphError(f"{name}: expected a vector of {np.dtype(dtype)}, found {found}")
        num_arcs = len(self.src)
        if num_arcs == 0:
            raise GraphError("a graph without arcs accepts nothing")
        for name in ("dst", "token", "score"):
            if len(getattr(self, name)) != num_arcs:
                raise GraphError(f"{name}: {len(getattr(self, name))} values for {num_arcs} arcs")
        self._check_states()
        self._check_labels()
        if not np.isfinite(self.score).all():
            arc = int(np.flatnonzero(~np.isfinite(self.score))[0])
            raise GraphError(f"arc {arc}: score {self.score[arc]} is not finite")
        if self.metadata.get("kind") not in KINDS:
            raise GraphError(
                f"metadata: kind must be one of {', '.join(KINDS)}, "
                f"found {self.metadata.get('kind')!r}"
            )
        if self.topology_implied and (self.token == 0).any():
            arc = int(np.flatnonzero(self.token == 0)[0])
            raise GraphError(
                f"arc {arc}: token 0 (blank) cannot occur in a graph of kind {self.kind}"
            )

    def _check_states(self) -> None:
        src, dst = self.src, self.dst
        if src.min() < 0 or dst.min() < 0:
            arc = int(np.flatnonzero((src < 0) | (dst < 0))[0])
            raise GraphError(f"arc {arc}: negative state ({src[arc]} -> {dst[arc]})")
        if (np.diff(src) < 0).any():
            arc = int(np.flatnonzero(np.diff(src) < 0)[0]) + 1
            raise GraphError(
                f"arc {arc}: not sorted by source state ({src[arc - 1]}, then {src[arc]})"
            )
        if self.num_states > 2 * len(src):
            raise GraphError(
                f"{self.num_states} states for {len(src)} arcs: some have no arc at all"
            )
        final = self.num_states - 1
        if src[-1] >= final:
            raise GraphError(
                f"an arc leaves state {src[-1]}, but the final state is {final}, the last"
            )
        wrong = (dst == final) != (self.token == -1)
        if wrong.any():
            arc = int(np.flatnonzero(wrong)[0])
            raise GraphError(
                f"arc {arc}: token {self.token[arc]} into state {dst[arc]}; the arcs of token -1, "
                f"and only they, enter the final state {final}"
            )

    def _check_labels(self) -> None:
        token, splits, words = self.token, self.word_row_splits, self.words
        if token.min() < -1 or token.max() >= len(self.token_table):
            arc = int(np.flatnonzero((token < -1) | (token >= len(self.token_table)))[0])
            raise GraphError(
                f"arc {arc}: token {token[arc]} is not in the table of "
                f"{len(self.token_table)} tokens"
            )
        if len(splits) != len(token) + 1 or splits[0] != 0 or splits[-1] != len(words):
            raise GraphError(
                f"word_row_splits: expected {len(token) + 1} values from 0 to {len(words)}, "
                f"found {len(splits)}"
                + (f" from {splits[0]} to {splits[-1]}" if len(splits) else "")
            )
        if (np.diff(splits) < 0).any():
            arc = int(np.flatnonzero(np.diff(splits) < 0)[0])
            raise GraphError(f"word_row_splits: decreases at arc {arc}")
        if len(words) and (words.min() < 1 or words.max() >= len(self.word_table)):
            bad = words[(words < 1) | (words >= len(self.word_table))][0]
            raise GraphError(
                f"words: {bad} is not in the table of {len(self.word_table)} words, or is epsilon"
            )

    @cached_property
    def num_states(self) -> int:
        """S, the final state included."""
        return int(self.dst.max()) + 1

    @property
    def num_arcs(self) -> int:
        return len(self.src)

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        return str(self.metadata["kind"])

    @property
    def topology_implied(self) -> bool:
        """Whether the CTC topology is left to the search (LG, T), or in the graph (HLG, HT)."""
        return _is_implied(self.kind)

    @cached_property
    def arc_splits(self) -> np.ndarray:
        """(S + 1,) int64: the arcs of state s are ``arc_splits[s]`` to ``arc_splits[s + 1] - 1``."""
        counts = np.bincount(self.src, minlength=self.num_states)
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def words_of(self, arc: int) -> np.ndarray:
        """The word ids of one arc."""
        return self.words[self.word_row_splits[arc] : self.word_row_splits[arc + 1]]

    def word_symbols(self, ids: Sequence[int]) -> list[str]:
        """The words of a sequence of ids."""
        return [self.word_table.symbol(int(word)) for word in ids]

    def check_vocabulary(self, num_tokens: int) -> None:
        """Raises `GraphError` unless the graph was built for a model of ``num_tokens`` outputs."""
        if len(self.token_table) != num_tokens:
            raise GraphError(
                f"the graph was built for {len(self.token_table)} tokens, the posteriors have "
                f"{num_tokens}: it does not belong to this model"
            )

    def check_tokens(self, tokens: SymbolTable) -> None:
        """Raises `GraphError` naming the first difference from the graph's own tokens."""
        self.check_vocabulary(len(tokens))
        for index, (mine, other) in enumerate(zip(self.token_table, tokens, strict=True)):
            if mine != other:
                raise GraphError(
                    f"token {index} is '{other}' in {tokens.source} but '{mine}' in the graph: "
                    "it does not belong to this model"
                )

    def save(self, path: PathLike, packed: bool = False) -> None:
        """Writes a safetensors file, atomically; the tables and metadata are JSON in its header.

        Args:
            packed: in fewer bytes and without loss, see `moe_asr.fsa.graph_packing`.
        """
        header = {
            "tokens": list(self.token_table),
            "words": list(self.word_table),
            "metadata": self.metadata,
        }
        try:
            text = json.dumps(header, ensure_ascii=False, allow_nan=False, sort_keys=True)
        except (TypeError, ValueError) as error:
            raise GraphError(f"{path}: the metadata cannot be written as JSON: {error}") from error
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _DTYPES}
        version = _PACKED_VERSION if packed else _VERSION
        with atomic_path(path) as temporary:
            save_file(
                pack_arcs(arrays) if packed else arrays,
                str(temporary),
                metadata={"format": _FORMAT, "version": version, "header": text},
            )
            sort_safetensors_header(temporary)

    @classmethod
    def load(cls, path: PathLike) -> "DecodingGraph":
        """Reads what `save` wrote.

        Raises:
            GraphError: naming the file, if it is absent, damaged, of another format, no graph.
        """
        try:
            with safe_open(str(path), framework="np") as file:
                header = file.metadata() or {}
                if header.get("format") != _FORMAT:
                    raise GraphError(f"not a decoding graph (format {header.get('format')!r})")
                version = header.get("version")
                if version not in (_VERSION, _PACKED_VERSION):
                    raise GraphError(
                        f"format version {version!r}, this code reads {_VERSION} and {_PACKED_VERSION}"
                    )
                names = set(_DTYPES if version == _VERSION else PACKED)
                if set(file.keys()) != names:
                    raise GraphError(
                        f"expected arrays {sorted(names)}, found {sorted(file.keys())}"
                    )
                tables = _parse_header(header.get("header", ""))
                arrays = {name: file.get_tensor(name) for name in names}
            if version == _PACKED_VERSION:
                arrays = unpack_arcs(arrays)
            return cls(
                token_table=SymbolTable(tables["tokens"]),
                word_table=SymbolTable(tables["words"]),
                metadata=tables["metadata"],
                **arrays,
            )
        except (GraphError, TextError) as error:
            raise GraphError(f"{path}: {error}") from error
        except (OSError, SafetensorError, ValueError, TypeError) as error:
            raise GraphError(f"{path}: cannot be read as a decoding graph: {error}") from error

    def to_k2(self, device: str = "cpu") -> Any:
        """The same graph as a single ``k2.Fsa`` with ragged ``aux_labels`` (the words)."""
        return k2_of_arrays(
            self.src,
            self.dst,
            self.token,
            self.score,
            self.word_row_splits,
            self.words,
            device,
        )

    @classmethod
    def from_k2(
        cls, fsa: Any, token_table: SymbolTable, word_table: SymbolTable, metadata: dict[str, Any]
    ) -> "DecodingGraph":
        """The graph of a single ``k2.Fsa`` whose ``aux_labels``, a tensor or ragged, are words.

        Word labels 0 and -1 stand for none, as k2 puts them on arcs without words and final arcs.

        Raises:
            GraphError: if it is not a single FSA, has no words, or is no graph as described above.
        """
        if len(fsa.shape) != 2:
            raise GraphError(f"expected a single FSA, found one of shape {tuple(fsa.shape)}")
        if not hasattr(fsa, "aux_labels"):
            raise GraphError("expected an FSA with aux_labels (the words)")
        src, dst, token, score, row_splits, words = arrays_of_k2(fsa)
        return cls(src, dst, token, score, row_splits, words, token_table, word_table, metadata)

    def arcs(self) -> Arcs:
        """The arrays without the tables; not copied."""
        return Arcs(self.src, self.dst, self.token, self.score, self.word_row_splits, self.words)

    @classmethod
    def from_arcs(
        cls, arcs: Arcs, token_table: SymbolTable, word_table: SymbolTable, metadata: dict[str, Any]
    ) -> "DecodingGraph":
        """The graph of epsilon-free arcs sorted by src, whose final state is the highest.

        Raises:
            GraphError: if they are no graph as described above.
        """
        return cls(
            arcs.src,
            arcs.dst,
            arcs.label,
            arcs.score,
            arcs.row_splits.astype(np.int32),
            arcs.words,
            token_table,
            word_table,
            metadata,
        )

    def to_fst(self) -> Fst:
        """The same transducer in OpenFst's form, see `moe_asr.fsa.graph_openfst`."""
        return fst_of_graph(self.arcs(), self.num_states, self.topology_implied)

    @classmethod
    def from_fst(
        cls,
        fst: Fst,
        token_table: SymbolTable,
        word_table: SymbolTable,
        metadata: dict[str, Any],
    ) -> "DecodingGraph":
        """The graph of what `to_fst` describes; epsilons on inputs are removed, whatever they are.

        What `to_fst` made gives the same graph again, but for the order of a state's arcs (by token,
        then destination), and without final arcs that are worse than another of their state.

        Raises:
            GraphError: if it is empty, has a cycle of epsilons, or labels that are not in the tables.
        """
        arcs = arcs_of_graph_fst(fst, _is_implied(metadata.get("kind")))
        return cls.from_arcs(arcs, token_table, word_table, metadata)

    def to_openfst_text(self, symbols: bool = False) -> str:
        """`to_fst` in OpenFst's text format, of ids, or of symbols (0 is ``<eps>``)."""
        if not symbols:
            return fst_to_text(self.to_fst())
        tables = fst_tables(self.token_table, self.word_table, self.topology_implied)
        return fst_to_text(self.to_fst(), *tables)

    @classmethod
    def from_openfst_text(
        cls,
        text: str,
        token_table: SymbolTable,
        word_table: SymbolTable,
        metadata: dict[str, Any],
        symbols: bool = False,
        source: str = "FST text",
    ) -> "DecodingGraph":
        """Reads what `to_openfst_text` wrote, see `from_fst`.

        Raises:
            GraphError: with ``source`` and, where it can be told, the line.
        """
        implied = _is_implied(metadata.get("kind"))
        isymbols, osymbols = fst_tables(token_table, word_table, implied)
        if symbols:
            fst = fst_from_text(text, isymbols, osymbols, source)
        else:
            fst = fst_from_text(text, source=source)
        try:
            return cls.from_fst(fst, token_table, word_table, metadata)
        except GraphError as error:
            raise GraphError(f"{source}: {error}") from error


def _is_implied(kind: Any) -> bool:
    return not str(kind).startswith("H")


def _parse_header(text: str) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise GraphError(f"the header is not JSON: {error}") from error
    if not isinstance(header, dict) or set(header) != {"tokens", "words", "metadata"}:
        raise GraphError("the header must hold tokens, words and metadata")
    for name in ("tokens", "words"):
        table = header[name]
        if not isinstance(table, list) or not all(isinstance(symbol, str) for symbol in table):
            raise GraphError(f"header: {name} must be a list of strings")
    if not isinstance(header["metadata"], dict):
        raise GraphError("header: metadata must be a mapping")
    return header
