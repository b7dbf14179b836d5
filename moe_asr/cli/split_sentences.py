"""Divides a file of sentences into train, dev and test; every word of dev and test is in train."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``split-sentences``."""
    parser.add_argument("--text", type=Path, required=True, help="a sentence a line")
    parser.add_argument("--num-dev", type=int, required=True, help="sentences of dev")
    parser.add_argument("--num-test", type=int, required=True, help="sentences of test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True, help="folder of {train,dev,test}.txt")


def run(args: argparse.Namespace) -> int:
    """Writes the three files."""
    from moe_asr.files import write_text
    from moe_asr.text.sentences import read_sentences, split_sentences

    parts = split_sentences(read_sentences(args.text), args.num_dev, args.num_test, args.seed)
    for name, sentences in parts.items():
        path = args.output / f"{name}.txt"
        write_text(path, "".join(f"{sentence}\n" for sentence in sentences))
        words = [word for sentence in sentences for word in sentence.split()]
        print(
            f"{path}: {len(sentences)} sentences, {len(words)} words ({len(set(words))} distinct)"
        )
    return 0
