"""Prints what there is to know about a graph: sizes, labels, structure, scores, and what it was made from."""

import argparse
import json

from moe_asr.cli.graph_input import add_input_arguments, read_input, stale_inputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``graph info``."""
    add_input_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints the figures."""
    from moe_asr.fsa.graph_info import graph_info
    from moe_asr.fsa.graph_report import format_info
    from moe_asr.lang.provenance import makers, recorded_command

    file, view = read_input(args, warn=False)
    info = {
        "file": str(args.graph),
        "format": file.format,
        "file_bytes": args.graph.stat().st_size,
        "made_by": [recorded_command(*maker) for maker in makers(args.graph)],
        "stale": stale_inputs(args.graph),
        **graph_info(view),
    }
    print(json.dumps(info, ensure_ascii=False) if args.json else format_info(info))
    return 0
