"""What every command-line script does: run, and say what is wrong with the input instead of a traceback."""

import os
import sys
from collections.abc import Callable

from moe_asr.errors import MoeAsrError


def run_script(main: Callable[[], int | None]) -> int:
    """Calls ``main``; returns its exit status, or 2 after printing what was wrong with the input."""
    # see cli/main.py: before torch is imported
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        return int(main() or 0)
    except MoeAsrError as error:
        name = os.path.basename(sys.argv[0])
        print(f"{name}: error: {error}", file=sys.stderr)
        return 2
