"""Commands of several actions, such as ``moe-asr graph info`` and ``moe-asr graph draw``."""

import argparse
import os
import sys
from collections.abc import Mapping
from importlib import import_module

from moe_asr.errors import ConfigError


def add_actions(parser: argparse.ArgumentParser, actions: Mapping[str, tuple[str, str]]) -> None:
    """Declares actions: name -> (module with `add_arguments(parser)` and `run(args) -> int`, help line)."""
    subparsers = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (module_name, help_line) in actions.items():
        module = import_module(module_name)
        subparser = subparsers.add_parser(name, help=help_line, description=module.__doc__)
        module.add_arguments(subparser)
        subparser.set_defaults(run_action=module.run)


def run_action(args: argparse.Namespace, source: str) -> int:
    """Runs the action that was chosen.

    Args:
        source: what it reads; named in errors where there is no ``args.output``.

    Raises:
        ConfigError: if its output cannot be written.
    """
    try:
        status = int(args.run_action(args))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader has seen enough: `moe-asr graph path ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        path = getattr(args, "output", None) or source
        raise ConfigError(f"{path}: {error.strerror}") from error
