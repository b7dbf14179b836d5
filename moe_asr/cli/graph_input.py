"""What the actions of ``moe-asr graph`` share: the graph that is read."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moe_asr.fsa.graph_file import GraphFile
    from moe_asr.fsa.view import GraphView


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the file and what it does not tell itself."""
    parser.add_argument(
        "graph", type=Path, metavar="FILE",
        help="a graph or FST: safetensors, OpenFst's binary or text format, or k2's text",
    )  # fmt: skip
    parser.add_argument(
        "--kind", metavar="KIND",
        help="what it is, where the file does not tell: L, L_disambig, G; LG, HLG, T, HT for an FST that "
        "is to be read as a decoding graph",
    )  # fmt: skip
    parser.add_argument(
        "--isymbols", type=Path, metavar="FILE",
        help="table of the input labels (default: of L and G, the one that it was made with)",
    )  # fmt: skip
    parser.add_argument(
        "--osymbols", type=Path, metavar="FILE", help="table of the output labels, likewise"
    )
    parser.add_argument(
        "--symbols", action="store_true", help="OpenFst's text has symbols in place of ids"
    )
    parser.add_argument(
        "--format", dest="from_format", metavar="FORMAT",
        help="of FILE, where it is taken for another: safetensors, openfst, openfst-text, k2-text",
    )  # fmt: skip


def read_input(args: argparse.Namespace, warn: bool = True) -> "tuple[GraphFile, GraphView]":
    """Reads the file and its symbols; warns if it, or what it was made of, has changed since."""
    from moe_asr.fsa.graph_file import read_graph_file
    from moe_asr.fsa.view import view_of
    from moe_asr.lang.symbols import find_tables
    from moe_asr.text.symbol_table import SymbolTable

    isymbols, osymbols = (
        None if path is None else SymbolTable.read(path) for path in (args.isymbols, args.osymbols)
    )
    file = read_graph_file(
        args.graph, args.kind, isymbols, osymbols, args.symbols, args.from_format
    )
    if isymbols is None or osymbols is None:
        found = find_tables(args.graph, str(file.metadata.get("kind")))
        isymbols, osymbols = isymbols or found[0], osymbols or found[1]
    for problem in stale_inputs(args.graph) if warn else ():
        print(f"moe-asr graph: warning: {problem}", file=sys.stderr)
    return file, view_of(file.graph, file.metadata, isymbols, osymbols)


def stale_inputs(path: Path) -> list[str]:
    """What has changed since the file was made."""
    from moe_asr.lang.provenance import find_stale, makers

    return [problem for maker in makers(path) for problem in find_stale(*maker)]
