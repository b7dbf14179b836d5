#!/usr/bin/env python3
"""Divides distinct sentences into train, dev and test; every word of dev and test is in train."""

import argparse
import sys
from pathlib import Path

from moe_asr.cli.script import run_script
from moe_asr.files import write_text
from moe_asr.text.sentences import read_sentences, split_sentences


def main() -> None:
    """Writes train.txt, dev.txt and test.txt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True, help="UTF-8, one sentence a line")
    parser.add_argument("--num-dev", type=int, required=True, help="sentences of dev")
    parser.add_argument("--num-test", type=int, required=True, help="sentences of test")
    parser.add_argument(
        "--min-count", type=int, default=2, help="sentences of train with each word; default 2"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()

    parts = split_sentences(
        read_sentences(args.text), args.num_dev, args.num_test, args.seed, args.min_count
    )
    for name, sentences in parts.items():
        path = args.output / f"{name}.txt"
        write_text(path, "".join(f"{sentence}\n" for sentence in sentences))
        words = [word for sentence in sentences for word in sentence.split()]
        print(
            f"{path}: {len(sentences)} sentences, {len(words)} words ({len(set(words))} distinct)"
        )


if __name__ == "__main__":
    sys.exit(run_script(main))
