#!/usr/bin/env python3
"""Splits text into the words of a language directory, as language models are trained on them.

Only Chinese and Japanese text is changed, beyond normalisation: its characters are words of their own,
unless a word list joins them.
"""

import argparse
import sys
from pathlib import Path

from moe_asr.cli.script import run_script
from moe_asr.lang.text import split_text


def main() -> None:
    """Writes the text unless it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True, help="UTF-8, one sentence a line")
    parser.add_argument("--words", type=Path, help="a word list, one word a line")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    args = parser.parse_args()

    split_text(args.output, args.text, args.words)


if __name__ == "__main__":
    sys.exit(run_script(main))
