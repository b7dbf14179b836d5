"""Makes cut manifests and texts of a public corpus, held against what is on disk and was published."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_asr.data.corpus import CORPORA

if TYPE_CHECKING:
    from moe_asr.data.corpus import DurationLimits, PartListing, PublicCorpus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``prepare-corpus``."""
    parser.add_argument("--corpus", choices=list(CORPORA), required=True)
    parser.add_argument("--source", type=Path, required=True, help="the corpus as unpacked")
    parser.add_argument("--output", type=Path, required=True, help="folder of the manifests")
    parser.add_argument("--parts", nargs="+", metavar="PART", help="default: all of them")
    parser.add_argument(
        "--min-seconds", type=float, default=1.0, help="shortest utterance of training (default 1)"
    )
    parser.add_argument(
        "--max-seconds", type=float, default=20.0, help="longest utterance of training (default 20)"
    )
    parser.add_argument(
        "--partial", action="store_true", help="accept parts with fewer utterances than published"
    )


def run(args: argparse.Namespace) -> int:
    """Writes ``cuts_{part}.jsonl.gz`` and ``text_{part}.txt``; prints what was left out."""
    from moe_asr.data.corpus import DurationLimits, format_reports, make_corpus, read_report

    corpus = make_corpus(args.corpus)
    limits = DurationLimits(args.min_seconds, args.max_seconds)
    parts = corpus.check_parts(args.parts or corpus.parts)
    root = corpus.locate(args.source)
    listings = {part: corpus.scan(root, part) for part in parts}  # all, before anything is made
    for part, listing in listings.items():
        if not args.partial:
            corpus.check_complete(root, part, listing)
    for part, listing in listings.items():
        make_part(corpus, root, part, listing, limits, args.output)
    for name, members in corpus.joined.items():
        chosen = [part for part in members if part in parts]
        if chosen:
            join_parts(name, chosen, args.output)
    print(format_reports([read_report(args.output, part) for part in parts]))
    return 0


def make_part(
    corpus: "PublicCorpus",
    root: Path,
    part: str,
    listing: "PartListing",
    limits: "DurationLimits",
    output: Path,
) -> None:
    """The files of a part, unless they are up to date with those of the corpus."""
    from moe_asr.config import to_dict
    from moe_asr.data.corpus import part_files, write_part
    from moe_asr.lang.provenance import make

    files = output / f"files_{part}.txt"
    listing.write(files)
    settings: dict[str, Any] = {"corpus": corpus.name, "root": str(root)}
    if corpus.parts[part].role == "train":
        settings.update(to_dict(limits))
    make(
        output,
        f"part_{part}",
        inputs={"files": files},
        outputs=part_files(part),
        settings=settings,
        build=lambda folder: write_part(corpus, root, part, listing, limits, folder),
    )


def join_parts(name: str, parts: list[str], output: Path) -> None:
    """One manifest and one text of several parts, unless they are up to date."""
    from moe_asr.data.corpus import joined_files, part_files, write_joined
    from moe_asr.lang.provenance import make

    make(
        output,
        f"joined_{name}",
        inputs={file: output / file for part in parts for file in part_files(part)},
        outputs=joined_files(name),
        settings={"parts": parts},
        build=lambda folder: write_joined(name, parts, output, folder),
    )
