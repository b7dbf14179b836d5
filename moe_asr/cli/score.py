"""Scores hypotheses against references: WER, CER, alignments, intervals, differences of systems."""

import argparse

from moe_asr.cli.score_options import add_arguments, read_and_compare

__all__ = ["add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    """Prints rates, intervals, speakers and frequent errors; writes the files that are asked for."""
    from moe_asr.errors import ConfigError
    from moe_asr.evaluate.alignment_html import format_html
    from moe_asr.evaluate.summary import (
        format_alignments,
        format_comparison,
        write_comparison_json,
    )
    from moe_asr.evaluate.transcripts import write_scored
    from moe_asr.files import write_text

    comparison = read_and_compare(args)
    written = [path for path in (args.text, args.html, args.json) if path]
    try:
        if args.text:
            write_text(args.text, format_alignments(comparison))
        if args.html:
            title = f"{args.ref.name}: {', '.join(path.name for path in args.hyp)}"
            write_text(args.html, format_html(comparison, title, args.html_limit))
        if args.json:
            write_comparison_json(args.json, comparison)
        for number, report in enumerate(comparison.reports.values() if args.write_trn else (), 1):
            suffix = str(number) if len(comparison.reports) > 1 else ""
            written += write_scored(args.write_trn, report, suffix)
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be written: {error.strerror}") from error
    print(format_comparison(comparison, args.top))
    for path in written:
        print(f"written: {path}")
    return 0
