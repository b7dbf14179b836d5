"""Errors of word starts and ends against known word times, of the words that both have."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``score-times``."""
    kinds = "a manifest with word times (.jsonl or .jsonl.gz), or a ctm file"
    parser.add_argument("reference", type=Path, metavar="REF", help=kinds)
    parser.add_argument("hypothesis", type=Path, metavar="HYP", help="likewise")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="write times.json and times.png there"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the figures; writes them and their picture."""
    from moe_asr.evaluate.draw_timing import timing_figure
    from moe_asr.evaluate.timing import format_timing, read_word_times, score_times
    from moe_asr.files import writable_directory, write_json
    from moe_asr.fsa.lattice_canvas import write_figure

    report = score_times(read_word_times(args.reference), read_word_times(args.hypothesis))
    figures = report.figures()
    print(format_timing(figures))
    if args.output is not None:
        writable_directory(args.output)
        write_json(args.output / "times.json", figures)
        write_figure(timing_figure(report), args.output / "times.png")
        print(f"written: {args.output / 'times.json'}")
    return 0
