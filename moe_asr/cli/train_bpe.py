"""Trains a sentencepiece byte-pair encoding on transcripts."""

import argparse
from collections.abc import Iterator
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``train-bpe``."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--manifest", type=Path, help="lhotse cuts; their supervisions have the text"
    )
    source.add_argument("--text", type=Path, help="UTF-8 text, one transcript a line, no ids")
    parser.add_argument(
        "--vocab-size", type=int, required=True, help="tokens, special ones included"
    )
    parser.add_argument("--output", type=Path, required=True, help="tokenizer directory")
    parser.add_argument(
        "--no-dummy-prefix", action="store_true", help="do not start every text with a space mark"
    )


def run(args: argparse.Namespace) -> int:
    """Writes ``bpe.model``, ``tokens.txt`` and ``tokenizer.yaml``."""
    from moe_asr.text.bpe import train_bpe

    texts = text_lines(args.text) if args.text is not None else cut_texts(args.manifest)
    tokenizer = train_bpe(texts, args.vocab_size, args.output, not args.no_dummy_prefix)
    print(f"{args.output}: {tokenizer.vocab_size} tokens")
    return 0


def text_lines(path: Path) -> list[str]:
    """The lines of a text file; TextError if it cannot be read."""
    from moe_asr.errors import ConfigError, TextError
    from moe_asr.files import read_text

    try:
        return read_text(path).splitlines()
    except ConfigError as error:
        raise TextError(str(error)) from error


def cut_texts(manifest: Path) -> Iterator[str]:
    """The texts of all supervisions; DataError naming a cut that has none."""
    from tqdm import tqdm

    from moe_asr.data.manifests import read_cuts
    from moe_asr.errors import DataError

    for cut in tqdm(read_cuts(manifest), unit="cut", disable=None):
        for supervision in cut.supervisions:
            if not isinstance(supervision.text, str):
                raise DataError(f"{manifest}: cut {cut.id}: a supervision without text")
            yield supervision.text
