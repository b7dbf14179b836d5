"""Writes a model directory again with its weights in fewer bits: float16, or int8 with scales."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``convert-model``."""
    from moe_asr.model.storage import STORAGES

    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--storage", required=True, choices=STORAGES, help="of the large matrices (docs/model.md)"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="model directory to write"
    )


def run(args: argparse.Namespace) -> int:
    """Writes the model directory; says how large the weights were and are."""
    from moe_asr.errors import ConfigError
    from moe_asr.model.directory import WEIGHTS, load_model_dir, save_model_dir
    from moe_asr.recognizer.release import is_release

    if args.output.resolve() == args.model.resolve():
        raise ConfigError(f"--output {args.output} is the model itself: what it loses is lost")
    if is_release(args.output):
        raise ConfigError(f"--output {args.output} is a release, whose parts are not changed")
    loaded = load_model_dir(args.model)
    save_model_dir(args.output, loaded.model, loaded.tokenizer, loaded.fbank_options, args.storage)
    before, after = ((folder / WEIGHTS).stat().st_size for folder in (args.model, args.output))
    print(f"{args.model}: {loaded.storage}, {before / 1e6:.2f} MB")
    print(f"{args.output}: {args.storage}, {after / 1e6:.2f} MB")
    return 0
