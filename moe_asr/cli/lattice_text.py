"""Writes lattices in Kaldi's text form: arcs with graph and acoustic costs, one word an arc.

Input labels are those of frames plus one, as 0 is epsilon: blank is 1. See `moe_asr.fsa.lattice_text`.
"""

import argparse
import sys
from pathlib import Path

from moe_asr.cli.lattice_input import add_input_arguments, read_lattices, read_tables
from moe_asr.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``lattice text``."""
    add_input_arguments(parser)
    parser.add_argument(
        "output", type=Path, metavar="OUTPUT", nargs="?", help="default: standard output"
    )
    parser.add_argument("--symbols", action="store_true", help="symbols instead of ids")


def run(args: argparse.Namespace) -> int:
    """Writes the text. The scales are for pruning: the costs that are written are not scaled."""
    from moe_asr.fsa.lattice_file import LatticeArchive
    from moe_asr.fsa.lattice_text import lattice_to_text, write_lattice_text

    with LatticeArchive(args.lattices) as archive:
        tables = read_tables(args, archive) if args.symbols else (None, None)
        if args.symbols and None in tables:
            raise ConfigError(
                f"{args.lattices}: it has no tables of symbols: --tokens and --words give them"
            )
        lattices = read_lattices(args, archive)
        if args.output is None:
            for name, lattice in lattices:
                sys.stdout.write(lattice_to_text(name, lattice, *tables))
            return 0
        write_lattice_text(args.output, lattices, *tables)
        print(f"written: {args.output}")
    return 0
