"""Describes a model preset or a model directory: parameters of each part, and the configuration."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moe_asr.model.u2 import U2MoeModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``info``."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--preset", metavar="NAME", help="a preset, e.g. small or moe_1b")
    what.add_argument("--model", metavar="DIR", help="a model directory")
    parser.add_argument("--vocab-size", type=int, help="outputs of a preset, instead of its own")


def run(args: argparse.Namespace) -> int:
    """Prints the table of parts and the configuration."""
    from moe_asr.config import to_dict
    from moe_asr.errors import ConfigError
    from moe_asr.model.config import preset
    from moe_asr.model.meta import build_on_meta

    if args.preset is not None:
        overrides = {} if args.vocab_size is None else {"vocab_size": args.vocab_size}
        model = build_on_meta(preset(args.preset, **overrides))
        print_parameters(model)
        print_section("model", to_dict(model.config))
        return 0
    if args.vocab_size is not None:
        raise ConfigError("--vocab-size goes with --preset: a model directory has its own")

    from moe_asr.model.directory import load_model_dir

    loaded = load_model_dir(args.model)
    print_parameters(loaded.model)
    print(f"tokenizer: {loaded.tokenizer.kind}, {loaded.tokenizer.vocab_size} tokens")
    print(f"weights: stored as {loaded.storage}\n")
    print_section("model", to_dict(loaded.model.config))
    print_section("features", to_dict(loaded.fbank_options))
    return 0


def print_parameters(model: "U2MoeModel") -> None:
    """Prints the parameters of each part, all of them, and those that one frame uses."""
    total = model.num_parameters()
    rows = {name: count for name, count in model.parameter_summary().items() if count}
    rows = {**rows, "total": total, "active per frame": model.num_active_parameters()}
    width = max(len(name) for name in rows)
    print(f"{'part':<{width}}  {'parameters':>15}   share")
    for name, count in rows.items():
        print(f"{name:<{width}}  {count:>15,}  {100 * count / total:5.1f} %")
    print()


def print_section(name: str, values: Mapping[str, Any]) -> None:
    """Prints a configuration as it stands in ``config.yaml``."""
    import yaml

    print(yaml.safe_dump({name: dict(values)}, sort_keys=False, allow_unicode=True))
