"""Prints a path through a graph: the best one of a sentence, of tokens or of all, or a random one."""

import argparse

from moe_asr.cli.graph_choice import add_path_arguments, find_path
from moe_asr.cli.graph_input import add_input_arguments, read_input


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``graph path``."""
    add_input_arguments(parser)
    add_path_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the arcs, with their scores and the sum so far, and the whole."""
    from moe_asr.errors import ConfigError
    from moe_asr.fsa.path_table import path_table, path_words

    _, view = read_input(args)
    path = find_path(args, view)
    if path is None:
        raise ConfigError("which path? Give --words, --tokens, --best or --random")
    print(path_table(view, path))
    words = path_words(view, path)
    print(f"words: {' '.join(words) or '(none)'}")
    print(f"{len(path.arcs)} arcs, {len(words)} words, score {path.score:.4f}")
    return 0
