"""Looks at archives of lattices: figures, pictures; writes them as Kaldi's text."""

import argparse
import os
import sys
from importlib import import_module

from moe_asr.errors import ConfigError

# action -> (module with `add_arguments(parser)` and `run(args) -> int`, help line)
ACTIONS = {
    "info": ("moe_asr.cli.lattice_info", "figures: sizes, density, paths, the best path"),
    "draw": ("moe_asr.cli.lattice_draw", "a picture over time: words, or every arc"),
    "text": ("moe_asr.cli.lattice_text", "Kaldi's text form"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the actions of ``lattice`` and their arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (module_name, help_line) in ACTIONS.items():
        module = import_module(module_name)
        subparser = actions.add_parser(name, help=help_line, description=module.__doc__)
        module.add_arguments(subparser)
        subparser.set_defaults(run_action=module.run)


def run(args: argparse.Namespace) -> int:
    """Runs the action. `ConfigError` if its output cannot be written."""
    try:
        status = int(args.run_action(args))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader has seen enough: `moe-asr lattice text ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        path = getattr(args, "output", None) or args.lattices
        raise ConfigError(f"{path}: {error.strerror}") from error
