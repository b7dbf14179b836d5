"""Makes a model directory of a training run: the average of its last checkpoints, or its best step."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``export``."""
    parser.add_argument("--checkpoints", type=Path, required=True, help="run directory of train")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--last", type=int, help="how many to average (default: train.average_last, as far as kept)"
    )
    choice.add_argument(
        "--best", action="store_true", help="the step with the lowest validation loss instead"
    )
    parser.add_argument("--output", type=Path, required=True, help="model directory to write")


def run(args: argparse.Namespace) -> int:
    """Writes the model directory; says what is in it."""
    from moe_asr.train.setup import export_model

    paths = export_model(args.checkpoints, args.output, args.last, args.best)
    names = ", ".join(path.name for path in paths)
    what = "the best step" if args.best else f"the average of {len(paths)} checkpoint(s)"
    print(f"{args.output}: {what}: {names}")
    return 0
