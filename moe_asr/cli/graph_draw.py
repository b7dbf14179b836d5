"""Draws a small graph as a whole, or one path through a large graph and what is beside it."""

import argparse
from pathlib import Path

from moe_asr.cli.graph_choice import add_path_arguments, find_path
from moe_asr.cli.graph_input import add_input_arguments, read_input


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``graph draw``."""
    add_input_arguments(parser)
    parser.add_argument(
        "output", type=Path, metavar="PICTURE", help="its name ends in .svg, .png, .pdf or .dot"
    )
    add_path_arguments(parser)
    parser.add_argument(
        "--context", type=int, default=1, metavar="N",
        help="beside a path: 0: nothing; 1 (default): how many other arcs leave its states; "
        "N: also the N - 1 best of them",
    )  # fmt: skip
    parser.add_argument(
        "--arcs-per-row", type=int, default=10, metavar="N", help="of a path; default 10"
    )
    parser.add_argument(
        "--max-arcs", type=int, default=500, metavar="N",
        help="a graph of more is not drawn as a whole; default 500",
    )  # fmt: skip
    parser.add_argument("--title", help="default: the kind of the graph, or the words of the path")


def run(args: argparse.Namespace) -> int:
    """Writes the picture."""
    from moe_asr.fsa.draw import check_picture_name, graph_to_dot, write_picture
    from moe_asr.fsa.draw_path import path_to_dot
    from moe_asr.fsa.path_table import path_words

    check_picture_name(args.output)
    _, view = read_input(args)
    path = find_path(args, view)
    if path is None:
        title = view.kind if args.title is None else args.title
        source = graph_to_dot(view, title, args.max_arcs)
    else:
        title = " ".join(path_words(view, path)) if args.title is None else args.title
        source = path_to_dot(view, path, args.context, title, args.arcs_per_row)
    write_picture(source, args.output)
    print(f"written: {args.output}")
    return 0
