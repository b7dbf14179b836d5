"""Looks at graphs: figures, pictures, paths; converts between their formats."""

import argparse
from importlib import import_module

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
    """Runs the action."""
    return int(args.run_action(args))
