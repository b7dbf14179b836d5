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
    from moe_asr.data.corpus import DurationLimits, PartReport, make_corpus
    from moe_asr.files import read_json

    corpus = make_corpus(args.corpus)
    limits = DurationLimits(args.min_seconds, args.max_seconds)
    parts = corpus.check_parts(args.parts or corpus.parts)
    root = corpus.locate(args.source)
    listings = {part: corpus.scan(root, part) for part in parts}  # all, before anything is made
    for part, listing in listings.items():
        if not args.partial:
            corpus.check_complete(root, part, listing)
    for part, listing in listings.items():
        make_part(corpus, root, part, listing, args.output, limits)
    for name, members in corpus.joined.items():
        chosen = [part for part in members if part in parts]
        if chosen:
            join_parts(name, chosen, args.output)
    reports = [PartReport(**read_json(args.output / f"report_{part}.json")) for part in parts]
    print(
        f"{'part':<17}{'published':>10}{'on disk':>9}{'no text':>9}{'too short':>11}{'too long':>10}"
        f"{'kept':>8}{'hours':>9}{'longest s':>11}"
    )
    for row in reports:
        print(
            f"{row.part:<17}{row.published:>10}{row.found:>9}{row.without_transcript:>9}"
            f"{row.too_short:>11}{row.too_long:>10}{row.kept:>8}{row.hours:>9.2f}"
            f"{row.longest_seconds:>11.2f}"
        )
    return 0


def make_part(
    corpus: "PublicCorpus",
    root: Path,
    part: str,
    listing: "PartListing",
    output: Path,
    limits: "DurationLimits",
) -> None:
    """The manifest of a part, unless it is up to date with the files on disk."""
    from moe_asr.config import to_dict
    from moe_asr.data.corpus import prepare_part
    from moe_asr.data.manifests import write_cuts
    from moe_asr.files import write_json, write_text
    from moe_asr.lang.provenance import make

    files = output / f"files_{part}.txt"
    listing.write(files)

    def build(folder: Path) -> None:
        cuts, report = prepare_part(corpus, root, part, listing, limits)
        write_cuts(cuts, folder / f"cuts_{part}.jsonl.gz")
        write_text(
            folder / f"text_{part}.txt", "".join(f"{listing.texts[cut.id]}\n" for cut in cuts)
        )
        write_json(folder / f"report_{part}.json", report.as_dict())

    outputs = [f"cuts_{part}.jsonl.gz", f"text_{part}.txt", f"report_{part}.json"]
    training = corpus.parts[part].role == "train"
    settings: dict[str, Any] = {"corpus": corpus.name, "root": str(root)}
    if training:
        settings.update(to_dict(limits))
    make(output, f"part_{part}", {"files": files}, outputs, settings, build)


def join_parts(name: str, parts: list[str], output: Path) -> None:
    """One manifest and one text of several parts."""
    from moe_asr.data.corpus import join_cuts
    from moe_asr.data.manifests import read_cuts, write_cuts
    from moe_asr.files import write_text
    from moe_asr.lang.provenance import make

    def build(folder: Path) -> None:
        cuts = join_cuts((read_cuts(output / f"cuts_{part}.jsonl.gz") for part in parts), name)
        write_cuts(cuts, folder / f"cuts_{name}.jsonl.gz")
        texts = [(output / f"text_{part}.txt").read_text(encoding="utf-8") for part in parts]
        write_text(folder / f"text_{name}.txt", "".join(texts))

    inputs = {
        f"{kind} of {part}": output / f"{kind}_{part}{ending}"
        for part in parts
        for kind, ending in (("cuts", ".jsonl.gz"), ("text", ".txt"))
    }
    outputs = [f"cuts_{name}.jsonl.gz", f"text_{name}.txt"]
    make(output, f"joined_{name}", inputs, outputs, {"parts": parts}, build)
