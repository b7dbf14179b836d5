#!/usr/bin/env python3
"""Builds a decoding graph of an n-gram model of tokens, for search without a lexicon (docs/graphs.md)."""

import argparse
import sys
from pathlib import Path

from moe_asr.cli.script import run_script
from moe_asr.fsa.builder import builder_names
from moe_asr.fsa.memory import parse_memory_size
from moe_asr.fsa.token_graph import BACKOFFS
from moe_asr.fsa.topology import TOPOLOGIES
from moe_asr.lang.make_graph import make_token_graph


def main() -> None:
    """Makes the graphs unless they are up to date; prints what each step made and cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--tokenizer", type=Path, required=True, metavar="DIR", help="a tokenizer's, or a model's"
    )
    parser.add_argument(
        "--arpa", type=Path, required=True, help="n-grams of tokens (train_ngram.py --tokenizer)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="GRAPH")
    parser.add_argument(
        "--backoff",
        choices=BACKOFFS,
        default="epsilon",
        help="whether a state may back off for any token, or only for those it has no arc for",
    )
    parser.add_argument("--topology", choices=TOPOLOGIES, default="standard", help="of CTC")
    parser.add_argument(
        "--builder",
        choices=builder_names(),
        default="auto",
        help="the library that composes; default: k2 where it is installed, else openfst",
    )
    parser.add_argument(
        "--memory-limit",
        metavar="SIZE",
        help="such as 4GB; building ends above it; default: 80 %% of what is available",
    )
    args = parser.parse_args()
    limit = parse_memory_size(args.memory_limit) if args.memory_limit else None

    make_token_graph(
        args.output,
        args.tokenizer,
        args.arpa,
        backoff=args.backoff,
        topology=args.topology,
        builder=args.builder,
        memory_limit=limit,
    )


if __name__ == "__main__":
    sys.exit(run_script(main))
