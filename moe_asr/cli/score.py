"""Scores hypotheses against references: WER, CER, alignments, intervals, differences of systems."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moe_asr.cli.score_options import add_arguments, read_and_compare, system_suffixes
from moe_asr.errors import ConfigError

__all__ = ["add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    """Prints rates, intervals, speakers and frequent errors; writes the files that are asked for."""
    from moe_asr.evaluate.alignment_html import format_html
    from moe_asr.evaluate.summary import (
        format_alignments,
        format_comparison,
        write_comparison_json,
    )
    from moe_asr.evaluate.transcripts import write_scored
    from moe_asr.files import write_text

    comparison = read_and_compare(args)
    # before the files, so that it is not lost if one cannot be written
    print(format_comparison(comparison, args.top), flush=True)
    if args.text:
        with _writing(args.text):
            write_text(args.text, format_alignments(comparison))
    if args.html:
        title = f"{args.ref.name}: {', '.join(path.name for path in args.hyp)}"
        with _writing(args.html):
            write_text(args.html, format_html(comparison, title, args.html_limit))
    if args.json:
        with _writing(args.json):
            write_comparison_json(args.json, comparison)
    if args.write_trn:
        suffixes = system_suffixes(len(comparison.reports))
        for suffix, report in zip(suffixes, comparison.reports.values(), strict=True):
            with _writing(args.write_trn):
                paths = write_scored(args.write_trn, report, suffix)
            print("\n".join(f"written: {path}" for path in paths))
    return 0


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Tells what was written, or why it could not be."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    if not path.is_dir():
        print(f"written: {path}")
