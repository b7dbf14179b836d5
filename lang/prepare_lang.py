#!/usr/bin/env python3
"""Makes a language directory from a tokenizer and a word list or lexicon (docs/lang.md)."""

import argparse
import sys
from pathlib import Path

from moe_asr.cli.script import run_script
from moe_asr.lang.directory import LangDir
from moe_asr.lang.prepare import prepare_lang


def main() -> None:
    """Makes the directory unless it is up to date, reads it back, and says what is in it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--tokenizer", type=Path, required=True, metavar="DIR", help="a tokenizer's, or a model's"
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--words", type=Path, help="one word a line, spelled by the tokenizer")
    source.add_argument("--lexicon", type=Path, help="lines of: word token token ...")
    parser.add_argument(
        "--lexicon-probabilities",
        action="store_true",
        help="the lexicon's lines are: word probability token token ...",
    )
    parser.add_argument(
        "--skip-unspellable",
        type=Path,
        metavar="FILE",
        help="leave out words that the tokenizer cannot spell, and write them here",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="LANG")
    args = parser.parse_args()

    prepare_lang(
        args.output,
        args.tokenizer,
        words=args.words,
        lexicon=args.lexicon,
        lexicon_probabilities=args.lexicon_probabilities,
        skip_unspellable=args.skip_unspellable,
    )
    lang = LangDir.load(args.output)
    print(
        f"{args.output}: {len(lang.tokens)} tokens, {len(lang.lexicon.words)} words, "
        f"{len(lang.lexicon)} pronunciations, {lang.num_disambig} disambiguation symbols"
    )
    if args.skip_unspellable:
        skipped = args.skip_unspellable.read_text(encoding="utf-8").splitlines()
        print(f"{args.skip_unspellable}: {len(skipped)} words left out")


if __name__ == "__main__":
    sys.exit(run_script(main))
