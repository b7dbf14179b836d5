"""k2, imported where it is needed and only there."""

import importlib
from typing import Any

from moe_asr.errors import MissingDependencyError


def import_k2() -> Any:
    """The ``k2`` module.

    Raises:
        MissingDependencyError: saying how to get it, if it is absent or does not load.
    """
    try:
        return importlib.import_module("k2")
    except (ImportError, OSError) as error:  # OSError: built for another torch
        raise MissingDependencyError(
            f"this needs k2, which cannot be imported ({error}). `make env` installs it (k2 1.23.4, "
            "which needs Python 3.10 and torch 1.13.1); for newer torch, take the k2 wheel built for "
            "exactly that torch version, see https://k2-fsa.github.io/k2/installation/"
        ) from error
