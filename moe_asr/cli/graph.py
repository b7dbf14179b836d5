"""Looks at graphs: figures, pictures, paths; converts between their formats."""

import argparse
import os
import sys
from importlib import import_module

from moe_asr.errors import ConfigError

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
    except BrokenPipeError:  # the reader has seen enough: `moe-asr graph path ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        path = getattr(args, "output", args.graph)
        raise ConfigError(f"{path}: {error.strerror}") from error
