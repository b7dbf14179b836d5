#!/usr/bin/env python3
"""Draws sentences from a grammar (docs/grammar.md), one a line, with the grammar's probabilities."""

import argparse
import itertools
import random
import sys
from pathlib import Path

from tqdm import tqdm

from moe_asr.cli.script import run_script
from moe_asr.files import write_text
from moe_asr.fsa.grammar_parser import read_grammar
from moe_asr.fsa.grammar_sampler import iterate_sentences
from moe_asr.text.lines import read_lines


def positive(text: str) -> int:
    """An argument that must be a whole number above 0."""
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, found {text!r}")
    return int(text)


def main() -> None:
    """Parses the arguments and writes the sentences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grammar", type=Path, required=True)
    parser.add_argument("--num", type=positive, required=True, help="of sentences")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--distinct", action="store_true", help="no sentence twice")
    parser.add_argument(
        "--exclude", type=Path, action="append", default=[], help="a file of unwanted sentences"
    )
    parser.add_argument("--output", type=Path, required=True, help="text, a sentence a line")
    args = parser.parse_args()

    grammar = read_grammar(args.grammar)
    for warning in grammar.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    exclude = {" ".join(line.split()) for path in args.exclude for line in read_lines(path)}
    sentences = iterate_sentences(grammar, random.Random(args.seed), args.distinct, exclude)
    chosen = itertools.islice(sentences, args.num)
    bar = tqdm(chosen, total=args.num, unit="sentence", disable=args.num < 100_000)
    text = "".join(f"{sentence}\n" for sentence in bar)
    write_text(args.output, text)
    print(f"{args.output}: {args.num} sentences, {len(text.split())} words")


if __name__ == "__main__":
    sys.exit(run_script(main))
