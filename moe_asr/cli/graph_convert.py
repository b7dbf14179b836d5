"""Converts a graph between safetensors (ours), OpenFst's binary and text formats, and k2's text.

The ending of a name tells the format to write: .safetensors, .fst (OpenFst's binary), .txt or .fst.txt (its
text), .k2 or .k2.txt (k2's text). Of a decoding graph OpenFst's formats get 0 as epsilon; labels of frames
(HLG, HT) are one more than ours.
"""

import argparse
from pathlib import Path

from moe_asr.cli.graph_input import add_input_arguments, read_input


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``graph convert``."""
    add_input_arguments(parser)
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="the file to write")
    parser.add_argument(
        "--to", metavar="FORMAT",
        help="of OUTPUT, whatever its name: safetensors, openfst, openfst-text, k2-text",
    )  # fmt: skip
    parser.add_argument(
        "--write-symbols", action="store_true", help="symbols, not ids, in OpenFst's text"
    )


def run(args: argparse.Namespace) -> int:
    """Writes the converted graph."""
    from moe_asr.fsa.graph_file import write_graph_file

    file, view = read_input(args)
    written = write_graph_file(
        file.graph, args.output, file.metadata, view.isymbols, view.osymbols,
        args.write_symbols, args.to,
    )  # fmt: skip
    states, arcs = file.graph.num_states, file.graph.num_arcs
    print(f"written: {args.output} ({written}; of {states:,} states and {arcs:,} arcs)")
    return 0
