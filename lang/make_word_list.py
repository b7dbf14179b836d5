#!/usr/bin/env python3
"""Writes the words of a text, one a line: the vocabulary of a language directory."""

import argparse
import sys
from pathlib import Path

from moe_asr.cli.script import run_script
from moe_asr.lang.text import make_word_list
from moe_asr.text.word_list import read_word_list


def main() -> None:
    """Writes the list unless it is up to date; prints how many words it has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True, help="UTF-8, one sentence a line")
    parser.add_argument("--min-count", type=int, default=1, help="leave out rarer words; default 1")
    parser.add_argument("--max-words", type=int, help="only so many, the most frequent ones")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    args = parser.parse_args()

    make_word_list(args.output, args.text, args.min_count, args.max_words)
    print(f"{args.output}: {len(read_word_list(args.output))} words")


if __name__ == "__main__":
    sys.exit(run_script(main))
