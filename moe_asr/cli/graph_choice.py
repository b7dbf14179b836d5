"""How a path through a graph is chosen on the command line."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moe_asr.fsa.best_path import GraphPath
    from moe_asr.fsa.view import GraphView


def add_path_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares how a path is chosen."""
    parser.add_argument("--words", metavar="TEXT", help="the best path with these words")
    parser.add_argument(
        "--tokens", metavar="TEXT",
        help="the best path with these tokens (input labels); with --words, with both",
    )  # fmt: skip
    parser.add_argument("--best", action="store_true", help="the best path of all")
    parser.add_argument(
        "--random", type=int, nargs="?", const=30, metavar="N",
        help="a path drawn arc by arc, ending as soon as it can after N arcs; default 30",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of --random; default 0")


def find_path(args: argparse.Namespace, view: "GraphView") -> "GraphPath | None":
    """The path that is asked for; None if none is."""
    from moe_asr.errors import ConfigError
    from moe_asr.fsa.best_path import best_path, frames_of_tokens, random_path

    given = args.words is not None or args.tokens is not None
    if given + args.best + (args.random is not None) > 1:
        raise ConfigError("of --words or --tokens, --best and --random only one can be asked for")
    if args.random is not None:
        import numpy as np

        if args.seed < 0:
            raise ConfigError(f"seed must be at least 0, found {args.seed}")
        return random_path(view, np.random.default_rng(args.seed), args.random)
    if not given:
        return best_path(view) if args.best else None
    words = None if args.words is None else view.output_ids(args.words.split())
    tokens = None if args.tokens is None else view.input_ids(args.tokens.split())
    if tokens is not None and view.has_blank:
        tokens = frames_of_tokens(tokens)
    return best_path(view, words, tokens)
