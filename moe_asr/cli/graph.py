"""Looks at graphs: figures, pictures, paths; converts between their formats."""

import argparse

from moe_asr.cli.actions import add_actions, run_action

# action -> (module with `add_arguments(parser)` and `run(args) -> int`, help line)
ACTIONS = {
    "info": ("moe_asr.cli.graph_info", "figures: sizes, labels, structure, scores, provenance"),
    "draw": (
        "moe_asr.cli.graph_draw",
        "a picture of a small graph, or of a path through a large one",
    ),
    "path": ("moe_asr.cli.graph_path", "the best path of a sentence, or a random one, as a table"),
    "convert": ("moe_asr.cli.graph_convert", "to and from safetensors, OpenFst and k2"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the actions of ``graph`` and their arguments."""
    add_actions(parser, ACTIONS)


def run(args: argparse.Namespace) -> int:
    """Runs the action. `ConfigError` if its output cannot be written."""
    return run_action(args, args.graph)
