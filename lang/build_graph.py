#!/usr/bin/env python3
"""Builds LG and HLG from a language directory and the G of a graph's directory (docs/graphs.md)."""

import argparse
import sys
from pathlib import Path

from moe_asr.cli.script import run_script
from moe_asr.fsa.builder import builder_names
from moe_asr.fsa.memory import parse_memory_size
from moe_asr.fsa.topology import TOPOLOGIES
from moe_asr.lang.make_graph import make_graph


def main() -> None:
    """Makes the graphs unless they are up to date; prints what each step made and cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lang", type=Path, required=True, help="language directory")
    parser.add_argument(
        "--graph", type=Path, required=True, help="directory of G.safetensors; the graphs go there"
    )
    parser.add_argument("--topology", choices=TOPOLOGIES, default="standard", help="of CTC")
    parser.add_argument(
        "--builder",
        choices=builder_names(),
        default="auto",
        help="the library that builds; default: k2 where it is installed, else openfst",
    )
    parser.add_argument(
        "--memory-limit",
        metavar="SIZE",
        help="such as 4GB; building ends above it; default: 80 %% of what is available",
    )
    parser.add_argument(
        "--require-all-words",
        action="store_true",
        help="refuse a G that lacks words of the lexicon",
    )
    args = parser.parse_args()
    limit = parse_memory_size(args.memory_limit) if args.memory_limit else None

    make_graph(
        args.graph,
        args.lang,
        topology=args.topology,
        builder=args.builder,
        memory_limit=limit,
        require_all_words=args.require_all_words,
    )


if __name__ == "__main__":
    sys.exit(run_script(main))
