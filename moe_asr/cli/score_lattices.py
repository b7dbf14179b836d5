"""Scores lattices against references: oracle error rates, sizes, ranks, and confidences of words.

Prints tables; writes lattices.json, confidences.txt, nbest_oracle.png and calibration.png.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``score-lattices``."""
    parser.add_argument(
        "--lattices", type=Path, required=True, metavar="FILE", help="an archive of lattices"
    )
    parser.add_argument(
        "--ref", type=Path, required=True, metavar="TEXT",
        help="references of the same utterances, 'id text' lines (texts of tokens with --unit token)",
    )  # fmt: skip
    parser.add_argument(
        "--hyp", type=Path, metavar="TEXT",
        help="words whose confidences are measured, likewise; default: the best of each lattice",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--unit", choices=["word", "token"], default="word", help="default word")
    parser.add_argument(
        "--table", type=Path, metavar="FILE",
        help="symbol table of the unit (default: that of the archive)",
    )  # fmt: skip
    parser.add_argument(
        "--n", type=int, default=100, metavar="N", help="of the longest n-best; default 100"
    )
    parser.add_argument("--acoustic-scale", type=float, default=1.0, metavar="X", help="default 1")
    parser.add_argument("--graph-scale", type=float, default=1.0, metavar="X", help="default 1")
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument(
        "--confidence-scale", type=float, default=1.0, metavar="X",
        help="of all scores, in posteriors: take the one fitted on a development set; default 1",
    )  # fmt: skip
    scale.add_argument(
        "--fit-confidence-scale", action="store_true",
        help="also report the scale that is best for this set",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Prints the tables and writes the files."""
    from moe_asr.evaluate.lattice_quality import QualityOptions, counts_to
    from moe_asr.evaluate.lattice_report import (
        fit_confidence_scale,
        format_summary,
        score_archive,
        write_report,
    )
    from moe_asr.evaluate.wer import read_transcripts
    from moe_asr.files import writable_directory
    from moe_asr.fsa.lattice_file import LatticeArchive
    from moe_asr.text.symbol_table import SymbolTable

    options = QualityOptions(
        args.unit, counts_to(args.n), args.acoustic_scale, args.graph_scale, args.confidence_scale
    )
    references = read_transcripts(args.ref)
    hypotheses = None if args.hyp is None else read_transcripts(args.hyp)
    table = None if args.table is None else SymbolTable.read(args.table)
    with LatticeArchive(args.lattices) as archive:
        writable_directory(args.output)
        summary = score_archive(archive, references, options, hypotheses, table, progress=True)
        fitted = None
        if args.fit_confidence_scale:
            fitted = fit_confidence_scale(archive, summary, progress=True)
    report = write_report(args.output, summary, fitted)
    print(format_summary(report))
    print(f"\nwritten to {args.output}: lattices.json, confidences.txt, nbest_oracle.png, "
          "calibration.png")  # fmt: skip
    return 0
