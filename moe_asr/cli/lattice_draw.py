"""Draws a lattice over time: its words with their posteriors, or every token and arc of a small one."""

import argparse
import re
from pathlib import Path
from typing import Any

from moe_asr.cli.lattice_input import add_input_arguments, read_lattices, read_tables
from moe_asr.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``lattice draw``."""
    add_input_arguments(parser)
    parser.add_argument(
        "output", type=Path, metavar="PICTURE", help="its name ends in .png, .svg or .pdf"
    )
    parser.add_argument(
        "--arcs", action="store_true", help="every token and arc, instead of words alone"
    )
    parser.add_argument(
        "--frames", metavar="FIRST:END", help="of a picture of arcs: these frames only"
    )
    parser.add_argument(
        "--seconds-per-frame", type=float, metavar="X", help="show time in seconds, not in frames"
    )
    parser.add_argument(
        "--min-posterior", type=float, default=0.01, metavar="P",
        help="leave out words below, unless they are on the best path; default 0.01",
    )  # fmt: skip
    parser.add_argument(
        "--most", type=int, metavar="N", help="words (default 150) or arcs (400); more are refused"
    )
    parser.add_argument("--title", help="default: the name of the utterance")


def run(args: argparse.Namespace) -> int:
    """Writes the picture."""
    from moe_asr.fsa.draw_lattice import MAX_ARCS, MAX_WORDS, tokens_figure, words_figure
    from moe_asr.fsa.lattice_canvas import check_picture_name, write_figure
    from moe_asr.fsa.lattice_file import LatticeArchive

    check_picture_name(args.output)
    if args.frames is not None and not args.arcs:
        raise ConfigError("--frames goes with --arcs")
    with LatticeArchive(args.lattices) as archive:
        if args.utterance is None:
            args.utterance = [archive.only_name()]
        if len(args.utterance) != 1:
            raise ConfigError("one --utterance at a time can be drawn")
        tokens, words = read_tables(args, archive)
        ((name, lattice),) = read_lattices(args, archive)
    shared: dict[str, Any] = {
        "title": name if args.title is None else args.title,
        "seconds_per_frame": args.seconds_per_frame,
        "acoustic_scale": args.acoustic_scale,
        "graph_scale": args.graph_scale,
    }
    if args.arcs:
        most = MAX_ARCS if args.most is None else args.most
        frames = None if args.frames is None else parse_frames(args.frames)
        figure = tokens_figure(lattice, tokens, words, max_arcs=most, frames=frames, **shared)
    else:
        most = MAX_WORDS if args.most is None else args.most
        figure = words_figure(
            lattice, words, min_posterior=args.min_posterior, max_words=most, **shared
        )
    write_figure(figure, args.output)
    print(f"written: {args.output}")
    return 0


def parse_frames(text: str) -> tuple[int, int]:
    """``FIRST:END`` as two numbers; `ConfigError` if it is something else."""
    match = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise ConfigError(f"--frames {text}: expected FIRST:END, two rising numbers of frames")
    return int(match[1]), int(match[2])
