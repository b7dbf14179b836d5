"""Looks at archives of lattices: figures, pictures; writes them as Kaldi's text."""

import argparse

from moe_asr.cli.actions import add_actions, run_action

# action -> (module with `add_arguments(parser)` and `run(args) -> int`, help line)
ACTIONS = {
    "info": ("moe_asr.cli.lattice_info", "figures: sizes, density, paths, the best path"),
    "draw": ("moe_asr.cli.lattice_draw", "a picture over time: words, or every arc"),
    "text": ("moe_asr.cli.lattice_text", "Kaldi's text form"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the actions of ``lattice`` and their arguments."""
    add_actions(parser, ACTIONS)


def run(args: argparse.Namespace) -> int:
    """Runs the action. `ConfigError` if its output cannot be written."""
    return run_action(args, args.lattices)
