#!/usr/bin/env python3
"""Says how large a grammar (docs/grammar.md) and its language are; lists its words and its rules."""

import argparse
import sys
from pathlib import Path

from moe_asr.cli.script import run_script
from moe_asr.files import write_text
from moe_asr.fsa.grammar_ast import format_grammar
from moe_asr.fsa.grammar_compiler import compile_grammar, grammar_words
from moe_asr.fsa.grammar_parser import read_grammar
from moe_asr.text.symbol_table import SymbolTable


def main() -> None:
    """Parses the arguments and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grammar", type=Path, required=True)
    parser.add_argument("--words", type=Path, help="writes all words there, one a line, sorted")
    parser.add_argument(
        "--flat", type=Path, help="writes the grammar there as one file, imports and lists included"
    )
    args = parser.parse_args()

    grammar = read_grammar(args.grammar)
    words = grammar_words(grammar)
    _, report = compile_grammar(grammar, SymbolTable(["<eps>", *words, "#0"], "its words"))
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{args.grammar} ({len(grammar.files)} files): {report}")
    if args.words is not None:
        write_text(args.words, "".join(f"{word}\n" for word in words))
    if args.flat is not None:
        write_text(args.flat, format_grammar(grammar))


if __name__ == "__main__":
    sys.exit(run_script(main))
