"""Trains an n-gram model, interpolated modified Kneser-Ney, and writes it as an ARPA file.

    python lang/train_ngram.py --text FILE --order 3 [--vocab words.txt] [--min-counts 1,1,2]
        [--prune 1e-8] --output LM.arpa

The formulas, cut-offs, pruning and what becomes of unknown words: docs/ngram.md.
"""

import argparse
import sys
import time
from pathlib import Path

from moe_asr.cli.script import run_script


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--text",
        type=Path,
        required=True,
        help="one sentence a line, symbols between spaces; or .gz",
    )
    parser.add_argument("--order", type=int, required=True, help="the N of N-gram")
    units = parser.add_mutually_exclusive_group()
    units.add_argument(
        "--vocab", type=Path, help="words.txt or a list of words: other words are <unk>"
    )
    units.add_argument(
        "--tokenizer", type=Path, metavar="DIR", help="make a model of its tokens, not of words"
    )
    parser.add_argument(
        "--min-counts",
        type=whole_numbers,
        default=[1],
        metavar="N,N,...",
        help="by order: n-grams that occur less often are cut off; the last holds for higher orders",
    )
    parser.add_argument(
        "--prune", type=positive_number, metavar="THRESHOLD", help="entropy pruning; 1e-8, say"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="LM.arpa", help="or .arpa.gz")
    return parser.parse_args()


def whole_numbers(text: str) -> list[int]:
    return [int(field) for field in text.split(",")]


def positive_number(text: str) -> float:
    if not 0.0 < float(text) < float("inf"):
        raise ValueError
    return float(text)


def main() -> int:
    args = parse_arguments()
    from moe_asr.lang.provenance import make
    from moe_asr.lm.train import train_arpa

    inputs = {"text": args.text, "vocab": args.vocab, "tokenizer": args.tokenizer}
    settings = {"order": args.order, "min_counts": args.min_counts, "prune": args.prune}
    start = time.perf_counter()

    def build(folder: Path) -> None:
        report = train_arpa(output=folder / args.output.name, **inputs, **settings, progress=True)
        print(report.table())
        for notice in report.notices:
            print(f"notice: {notice}")

    made = make(
        args.output.absolute().parent,
        args.output.name,
        {role: path for role, path in inputs.items() if path is not None},
        [args.output.name],
        settings,
        build,
    )
    if made:
        print(f"{args.output}: {time.perf_counter() - start:.1f} s{peak_memory()}")
    return 0


def peak_memory() -> str:
    """Of this process so far, where the system tells."""
    try:
        import resource
    except ImportError:
        return ""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return f", peak memory {peak / 2**20:.0f} MB"


if __name__ == "__main__":
    sys.exit(run_script(main))
