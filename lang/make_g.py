#!/usr/bin/env python3
"""Makes G, an acceptor over the words of a language directory, from an ARPA file or a grammar."""

import argparse
import sys
from pathlib import Path

from moe_asr.cli.script import run_script
from moe_asr.fsa.fst import Fst
from moe_asr.lang.make_g import G_FILE, make_g


def main() -> None:
    """Writes G.safetensors unless it is up to date; prints its size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lang", type=Path, required=True, help="language directory")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--arpa", type=Path, help="n-gram model")
    source.add_argument("--grammar", type=Path, help="grammar (docs/grammar.md)")
    parser.add_argument("--output", type=Path, required=True, metavar="GRAPH")
    args = parser.parse_args()

    make_g(args.output, args.lang, arpa=args.arpa, grammar=args.grammar)
    fst, _ = Fst.load(args.output / G_FILE)
    print(f"{args.output / G_FILE}: {fst.num_states} states, {fst.num_arcs} arcs")


if __name__ == "__main__":
    sys.exit(run_script(main))
