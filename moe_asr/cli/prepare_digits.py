"""Makes connected digit strings from FSDD, downloaded FSDD, or synthetic digits."""

import argparse
import os
from pathlib import Path

from moe_asr.errors import DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``prepare-digits``."""
    parser.add_argument("--output", type=Path, required=True, help="folder of the strings")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--fsdd-dir", type=Path, help="FSDD (default: $FSDD_DIR, else a download)")
    source.add_argument("--synthetic", action="store_true", help="digits spoken by espeak-ng")
    parser.add_argument(
        "--corpus-dir", type=Path, help="where it is downloaded or made (default: OUTPUT/corpus)"
    )
    parser.add_argument("--no-download", action="store_true", help="synthesise instead")
    parser.add_argument("--exclude-speaker", help="train without this speaker, test on them alone")
    parser.add_argument("--num-train", type=int, default=6000)
    parser.add_argument("--num-dev", type=int, default=240)
    parser.add_argument("--num-test", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-processes", type=int, default=2)


def run(args: argparse.Namespace) -> int:
    """Writes manifests, audio and ``corpus.json``; says which corpus they come from."""
    from moe_asr.data.digit_plan import DigitStringOptions
    from moe_asr.data.digit_strings import make_digit_strings
    from moe_asr.data.fsdd import scan_recordings
    from moe_asr.files import write_json

    options = DigitStringOptions(
        num_train=args.num_train,
        num_dev=args.num_dev,
        num_test=args.num_test,
        exclude_speaker=args.exclude_speaker,
        seed=args.seed,
    )
    corpus, folder, speakers = find_corpus(args)
    recordings = scan_recordings(folder, speakers)
    print(f"corpus: {corpus}, {len(recordings)} recordings of {len(speakers)} speakers in {folder}")
    stamp = make_digit_strings(recordings, args.output, options, args.num_processes)
    summary = {
        "corpus": corpus,
        "speakers": speakers,
        "exclude_speaker": args.exclude_speaker,
        "corpus_fingerprint": stamp["corpus_fingerprint"],
        "splits": stamp["splits"],
    }
    write_json(args.output / "corpus.json", summary)
    for split, counts in stamp["splits"].items():
        strings, words = counts["num_strings"], counts["num_words"]
        print(
            f"{split}: {strings} strings, {words} words, {counts['duration_seconds'] / 3600:.2f} h"
        )
    return 0


def find_corpus(args: argparse.Namespace) -> tuple[str, Path, list[str]]:
    """``fsdd`` or ``synthetic``, its folder and its speakers."""
    from moe_asr.data.download import download_fsdd
    from moe_asr.data.fsdd import FSDD_SPEAKERS
    from moe_asr.data.synthetic_digits import SPEAKERS, synthesize_digits

    corpus_dir = args.corpus_dir or args.output / "corpus"
    given = args.fsdd_dir or os.environ.get("FSDD_DIR")
    if not args.synthetic:
        if given:
            return "fsdd", Path(given), list(FSDD_SPEAKERS)
        if not args.no_download:
            try:
                return "fsdd", download_fsdd(corpus_dir / "fsdd"), list(FSDD_SPEAKERS)
            except DataError as error:
                print(f"FSDD cannot be had: {error}")
    print("NOTE: SYNTHETIC digits (espeak-ng): error rates on them say nothing about real speech")
    folder = synthesize_digits(corpus_dir / "synthetic", num_processes=args.num_processes)
    return "synthetic", folder, [speaker.name for speaker in SPEAKERS]
