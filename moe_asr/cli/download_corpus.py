"""Downloads a public corpus by lhotse, resumed where it was cut, and files that belong to it."""

import argparse
from pathlib import Path

from moe_asr.data.corpus import CORPORA

OPENSLR = "https://www.openslr.org/resources"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``download-corpus``."""
    parser.add_argument("--corpus", choices=list(CORPORA), required=True)
    parser.add_argument("--output", type=Path, required=True, help="archives and corpus go here")
    parser.add_argument(
        "--parts", nargs="*", metavar="PART", help="default: all of them; none after it: no audio"
    )
    parser.add_argument(
        "--lm-files", nargs="*", default=[], metavar="FILE",
        help="LibriSpeech: lexicon, vocabulary, text and language models of openslr.org/11 "
        "(into OUTPUT/lm)",
    )  # fmt: skip
    parser.add_argument(
        "--base-url", default=OPENSLR, help=f"a mirror's 'resources' (default {OPENSLR})"
    )


def run(args: argparse.Namespace) -> int:
    """Downloads what is not there yet; says where it is."""
    from moe_asr.data.corpus import make_corpus
    from moe_asr.data.fetch import fetch
    from moe_asr.data.librispeech import LM_FILES
    from moe_asr.errors import DataError

    corpus = make_corpus(args.corpus)
    known = LM_FILES if corpus.name == "librispeech" else ()
    for name in args.lm_files:
        if name not in known:
            raise DataError(
                f"{corpus.name} has no file '{name}'; known: {', '.join(known) or 'none'}"
            )
    parts = corpus.check_parts(corpus.parts if args.parts is None else args.parts)
    for name in args.lm_files:
        print(f"there: {fetch(f'{args.base_url}/11/{name}', args.output / 'lm' / name)}")
    if parts:
        print(f"there: {corpus.download(args.output, parts, args.base_url)}: {', '.join(parts)}")
    return 0
