"""Trains a model, or resumes its training."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``train``."""
    parser.add_argument(
        "--config", type=Path, required=True, help="YAML: model, features, data, train"
    )
    parser.add_argument("--manifest-train", type=Path, required=True, help="lhotse cuts")
    parser.add_argument("--manifest-dev", type=Path, required=True, help="lhotse cuts")
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer directory")
    parser.add_argument("--cmvn", type=Path, required=True, help="statistics from compute-cmvn")
    parser.add_argument(
        "--output", type=Path, required=True, help="run directory; a run in it is resumed"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override the config, as in --set train.max_steps=100 (repeatable)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="there must be a run; continue it even if settings have changed (not its architecture)",
    )


def run(args: argparse.Namespace) -> int:
    """Trains to the end of the budget: 0; stopped by SIGINT or SIGTERM, with a checkpoint: 130."""
    from moe_asr.audio.cmvn import CmvnStats
    from moe_asr.text.tokenizer import load_tokenizer
    from moe_asr.train.setup import prepare_training, read_run_config

    tokenizer = load_tokenizer(args.tokenizer)
    config = read_run_config(args.config, args.set, tokenizer.vocab_size)
    trainer = prepare_training(
        config,
        args.manifest_train,
        args.manifest_dev,
        tokenizer,
        CmvnStats.load(args.cmvn),
        args.output,
        allow_changes=args.resume,
    )
    if trainer.last_checkpoint is not None:
        print(f"resuming from {trainer.last_checkpoint}, step {trainer.state.step}")
    result = trainer.train()
    if result.interrupted:
        return 130
    print(
        f"{result.step} updates in {result.minutes:.1f} min; "
        f"best validation loss {result.best_valid_loss} at step {result.best_step}; "
        f"last checkpoint {result.last_checkpoint}"
    )
    return 0
