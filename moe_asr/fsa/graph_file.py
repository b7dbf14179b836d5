"""Files of graphs in every format: which one a file has, reading and writing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from moe_asr.errors import ConfigError, GraphError
from moe_asr.files import PathLike, read_text, write_text
from moe_asr.fsa.arcs import Arcs, arcs_of_fst, fst_of_arcs
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.graph import KINDS, DecodingGraph
from moe_asr.fsa.k2_text import arcs_from_k2_text, arcs_to_k2_text
from moe_asr.fsa.openfst import (
    is_openfst,
    read_fst_text,
    read_openfst,
    write_fst_text,
    write_openfst,
)
from moe_asr.text.symbol_table import SymbolTable

SAFETENSORS, OPENFST, OPENFST_TEXT, K2_TEXT = FORMATS = (
    "safetensors",
    "openfst",
    "openfst-text",
    "k2-text",
)
# longer endings first
_ENDINGS = {
    ".safetensors": SAFETENSORS,
    ".k2.txt": K2_TEXT,
    ".k2": K2_TEXT,
    ".fst.txt": OPENFST_TEXT,
    ".txt": OPENFST_TEXT,
    ".fst": OPENFST,
}


@dataclass(frozen=True, eq=False)
class GraphFile:
    """What was read from a file, and the format that it had: one of `FORMATS`."""

    graph: Fst | DecodingGraph
    metadata: dict[str, Any]
    format: str


def format_of_name(path: PathLike) -> str:
    """The format that a file name stands for; `ConfigError` if it stands for none."""
    name = Path(path).name.lower()
    for ending, format_ in _ENDINGS.items():
        if name.endswith(ending):
            return format_
    raise ConfigError(
        f"{path}: the name tells no format: it should end in {', '.join(_ENDINGS)}, or the format be given"
    )


def format_of_file(path: PathLike) -> str:
    """The format of a file's content; that of its name where it is text, OpenFst's if in doubt.

    Raises:
        GraphError: if there is no such file.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except OSError as error:
        raise GraphError(f"{path}: cannot be read: {error.strerror}") from error
    if is_openfst(start):
        return OPENFST
    if start[8:] == b"{":  # after the length of the header
        return SAFETENSORS
    name = Path(path).name.lower()
    if name.endswith(".safetensors"):
        return SAFETENSORS  # a damaged one, as reading it will tell
    return K2_TEXT if name.endswith((".k2", ".k2.txt")) else OPENFST_TEXT


def read_graph_file(
    path: PathLike,
    kind: str | None = None,
    isymbols: SymbolTable | None = None,
    osymbols: SymbolTable | None = None,
    symbols: bool = False,
    format: str | None = None,
) -> GraphFile:
    """Reads a graph of any format.

    Args:
        path: the file.
        kind: what it is, where the file does not tell. One of `KINDS` makes a decoding graph of an FST: its
            epsilons are removed (an HLG's 0 is blank in k2's text, and 1 in OpenFst's formats, whose 0 is
            epsilon). Anything else is noted in the metadata.
        isymbols, osymbols: tables of the labels; of tokens and words where a decoding graph is made.
        symbols: whether OpenFst's text has symbols instead of ids.
        format: one of `FORMATS`, where `format_of_file` guesses wrong.

    Raises:
        GraphError: naming the file, if it is malformed or of another kind.
        ConfigError: if text cannot be read, or a table is missing.
    """
    format = _checked(format) or format_of_file(path)
    metadata: dict[str, Any] = {}
    graph: Fst | DecodingGraph | Arcs
    if format == SAFETENSORS:
        graph, metadata = _read_safetensors(path)
    elif format == OPENFST:
        graph = read_openfst(path)
    elif format == K2_TEXT:
        graph = arcs_from_k2_text(read_text(path), str(path))
    else:
        graph = _read_openfst_text(path, (isymbols, osymbols) if symbols else None)
    found = metadata.get("kind")
    if kind is not None and found is not None and kind != found:
        raise GraphError(f"{path}: it is of kind {found}, not {kind}")
    if isinstance(graph, DecodingGraph):
        return GraphFile(graph, metadata, format)
    if kind is not None:
        metadata = {"read_from": format, **metadata, "kind": kind}
    try:
        if kind in KINDS:
            if isymbols is None or osymbols is None:
                raise ConfigError(
                    f"{path}: a graph of kind {kind} needs tables of tokens and words"
                )
            made = _decoding_graph(graph, isymbols, osymbols, metadata)
            return GraphFile(made, made.metadata, format)
        if isinstance(graph, Arcs):
            graph = fst_of_arcs(graph, int(graph.dst.max()) + 1)
    except GraphError as error:
        raise GraphError(f"{path}: {error}") from error
    return GraphFile(graph, metadata, format)


def write_graph_file(
    graph: Fst | DecodingGraph,
    path: PathLike,
    metadata: Mapping[str, Any] | None = None,
    isymbols: SymbolTable | None = None,
    osymbols: SymbolTable | None = None,
    symbols: bool = False,
    format: str | None = None,
) -> str:
    """Writes a graph in any format, atomically; returns which it was.

    A decoding graph is `DecodingGraph.to_fst` in OpenFst's formats, and k2's in k2's text. An `Fst` gets a
    final state in k2's text.

    Args:
        graph: what to write.
        path: its ending tells the format unless ``format`` does.
        metadata: of an `Fst`, kept by safetensors.
        isymbols, osymbols: of an `Fst`, needed where ``symbols`` are wanted; a decoding graph has its own.
        symbols: whether OpenFst's text shall have symbols instead of ids.
        format: one of `FORMATS`.

    Raises:
        ConfigError: if the name tells no format, symbols are wanted where there can be none, or a table
            is missing.
    """
    format = _checked(format) or format_of_name(path)
    if symbols and format != OPENFST_TEXT:
        raise ConfigError(f"{path}: only OpenFst's text can have symbols, not {format}")
    if format == SAFETENSORS:
        graph.save(path) if isinstance(graph, DecodingGraph) else graph.save(path, metadata)
    elif format == K2_TEXT:
        arcs = graph.arcs() if isinstance(graph, DecodingGraph) else arcs_of_fst(graph)
        write_text(path, arcs_to_k2_text(arcs))
    elif isinstance(graph, DecodingGraph):
        if format == OPENFST:
            write_openfst(graph.to_fst(), path)
        else:
            write_text(path, graph.to_openfst_text(symbols))
    elif format == OPENFST:
        write_openfst(graph, path)
    else:
        if symbols and (isymbols is None or osymbols is None):
            raise ConfigError(f"{path}: writing symbols needs the tables of both sides")
        write_fst_text(graph, path, *((isymbols, osymbols) if symbols else (None, None)))
    return format


def _checked(format: str | None) -> str | None:
    if format is not None and format not in FORMATS:
        raise ConfigError(f"format must be one of {', '.join(FORMATS)}, found {format!r}")
    return format


def _read_safetensors(path: PathLike) -> tuple[Fst | DecodingGraph, dict[str, Any]]:
    try:
        with safe_open(str(path), framework="np") as file:
            names = set(file.keys())
    except (OSError, SafetensorError) as error:
        raise GraphError(f"{path}: cannot be read as safetensors: {error}") from error
    if "token" in names:
        graph = DecodingGraph.load(path)
        return graph, graph.metadata
    if "ilabel" in names:
        return Fst.load(path)
    raise GraphError(f"{path}: not a graph: it has the arrays {', '.join(sorted(names)) or 'none'}")


def _read_openfst_text(
    path: PathLike, tables: tuple[SymbolTable | None, SymbolTable | None] | None
) -> Fst:
    if tables is not None and None in tables:
        raise ConfigError(f"{path}: reading symbols needs the tables of both sides")
    return read_fst_text(path, *(tables or (None, None)))


def _decoding_graph(
    graph: Fst | Arcs, tokens: SymbolTable, words: SymbolTable, metadata: dict[str, Any]
) -> DecodingGraph:
    if isinstance(graph, Arcs):
        return DecodingGraph.from_arcs(graph, tokens, words, metadata)
    return DecodingGraph.from_fst(graph, tokens, words, metadata)
