#!/usr/bin/env python3
"""Compiles a grammar (docs/grammar.md) into an acceptor G over the words of a words.txt."""

import argparse
import random
import sys
from pathlib import Path

from moe_asr.cli.script import run_script
from moe_asr.errors import ConfigError
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.grammar_compiler import MAX_ARCS, compile_grammar
from moe_asr.fsa.grammar_parser import read_grammar
from moe_asr.fsa.grammar_sampler import sample_paths
from moe_asr.lang.provenance import make
from moe_asr.text.symbol_table import SymbolTable


def main() -> None:
    """Parses the arguments; writes G beside its record of provenance, unless it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grammar", type=Path, required=True)
    parser.add_argument("--words", type=Path, required=True, help="words.txt")
    parser.add_argument("--output", type=Path, required=True, help="G.safetensors")
    parser.add_argument(
        "--sample", type=int, default=0, metavar="N", help="prints N sentences of G"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--max-arcs", type=int, default=MAX_ARCS, help="a larger grammar is refused"
    )
    args = parser.parse_args()
    if args.output.suffix != ".safetensors":
        raise ConfigError(f"--output {args.output}: expected a name that ends in .safetensors")

    grammar = read_grammar(args.grammar)  # for the files to watch; the step reads it again

    def build(folder: Path) -> None:
        fst, report = compile_grammar(args.grammar, SymbolTable.read(args.words), args.max_arcs)
        for warning in report.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        print(report)
        metadata = {"kind": "G", "source": "grammar", "start": grammar.start}
        fst.save(folder / args.output.name, metadata)

    make(
        args.output.parent,
        args.output.name,
        inputs={"words": args.words, **{str(path): path for path in grammar.files}},
        outputs=[args.output.name],
        settings={},
        build=build,
    )
    if args.sample:
        fst, words = Fst.load(args.output)[0], SymbolTable.read(args.words)
        for path in sample_paths(fst, args.sample, random.Random(args.seed)):
            print(f"{path.score:8.3f}  {' '.join(words.symbol(word) for word in path.words)}")


if __name__ == "__main__":
    sys.exit(run_script(main))
