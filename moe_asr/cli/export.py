"""Averages the last checkpoints of a training run into a model directory."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``export``."""
    parser.add_argument("--checkpoints", type=Path, required=True, help="run directory of train")
    parser.add_argument(
        "--last", type=int, help="how many to average (default: train.average_last, as far as kept)"
    )
    parser.add_argument("--output", type=Path, required=True, help="model directory to write")


def run(args: argparse.Namespace) -> int:
    """Writes the model directory; says which checkpoints are in it."""
    from moe_asr.train.setup import export_model

    paths = export_model(args.checkpoints, args.output, args.last)
    names = ", ".join(path.name for path in paths)
    print(f"{args.output}: the average of {len(paths)} checkpoint(s): {names}")
    return 0
