#!/usr/bin/env python3
"""Makes a tokenizer's directory: characters, BPE, both, or the phones of a lexicon."""

import argparse
import sys
from pathlib import Path

from moe_asr.cli.script import run_script
from moe_asr.lang.tokenizer import make_tokenizer
from moe_asr.text.tokenizer import load_tokenizer, tokenizer_kinds


def main() -> None:
    """Writes tokenizer.yaml, tokens.txt, and the kind's own files; prints the number of tokens."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=tokenizer_kinds(), required=True)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", type=Path, help="UTF-8 text, one transcript a line, no ids")
    source.add_argument(
        "--manifest", type=Path, help="lhotse cuts; their supervisions have the text"
    )
    source.add_argument("--lexicon", type=Path, help="of a phone tokenizer: word phone phone ...")
    parser.add_argument(
        "--lexicon-probabilities",
        action="store_true",
        help="the lexicon's lines are: word probability phone phone ...",
    )
    parser.add_argument(
        "--vocab-size", type=int, help="of bpe and mixed: number of tokens, special ones included"
    )
    parser.add_argument(
        "--no-dummy-prefix",
        action="store_true",
        help="of bpe: do not start every text with a space mark",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()

    make_tokenizer(
        args.output,
        args.kind,
        text=args.text,
        manifest=args.manifest,
        lexicon=args.lexicon,
        lexicon_probabilities=args.lexicon_probabilities,
        vocab_size=args.vocab_size,
        add_dummy_prefix=not args.no_dummy_prefix,
    )
    print(f"{args.output}: {load_tokenizer(args.output).vocab_size} tokens")


if __name__ == "__main__":
    sys.exit(run_script(main))
