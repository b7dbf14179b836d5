"""What the actions of ``moe-asr lattice`` share: the lattices that are read."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moe_asr.fsa.lattice import Lattice
    from moe_asr.fsa.lattice_file import LatticeArchive
    from moe_asr.text.symbol_table import SymbolTable


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the archive, which lattices of it, and how they are pruned."""
    parser.add_argument("lattices", type=Path, metavar="FILE", help="an archive of lattices")
    parser.add_argument(
        "--utterance", action="append", metavar="NAME", help="repeatable; default: all of them"
    )
    parser.add_argument(
        "--tokens", type=Path, metavar="FILE", help="table of tokens (default: that of the archive)"
    )
    parser.add_argument("--words", type=Path, metavar="FILE", help="table of words, likewise")
    parser.add_argument(
        "--beam", type=float, metavar="BEAM",
        help="leave out arcs whose best path is this much below the best; with the scales given",
    )  # fmt: skip
    parser.add_argument("--acoustic-scale", type=float, default=1.0, metavar="X", help="default 1")
    parser.add_argument("--graph-scale", type=float, default=1.0, metavar="X", help="default 1")


def read_tables(
    args: argparse.Namespace, archive: "LatticeArchive"
) -> "tuple[SymbolTable | None, SymbolTable | None]":
    """The tables of tokens and words."""
    from moe_asr.text.symbol_table import SymbolTable

    tokens = archive.token_table if args.tokens is None else SymbolTable.read(args.tokens)
    words = archive.word_table if args.words is None else SymbolTable.read(args.words)
    return tokens, words


def read_lattices(
    args: argparse.Namespace, archive: "LatticeArchive"
) -> "Iterator[tuple[str, Lattice]]":
    """The lattices that are asked for, one read after another."""
    from moe_asr.fsa.lattice_scores import prune

    for name in archive.names if args.utterance is None else args.utterance:
        lattice = archive.read(name)
        if args.beam is not None:
            lattice = prune(lattice, args.beam, args.acoustic_scale, args.graph_scale)
        yield name, lattice
