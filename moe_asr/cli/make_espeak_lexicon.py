"""Writes a pronunciation lexicon with probabilities, from espeak-ng's accents."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``make-espeak-lexicon``."""
    parser.add_argument("--words", type=Path, help="a word a line")
    parser.add_argument(
        "--accents", default="en-us,en-gb", help="comma-separated; 'training': those of training"
    )
    parser.add_argument(
        "--manifest",
        type=Path,
        help="a spoken corpus: pronunciations in it come before the accents'",
    )
    parser.add_argument("--min-share", type=float, default=0.02, help="of a pronunciation in it")
    parser.add_argument(
        "--sum-to-one", action="store_true", help="probabilities of a word; default: largest is 1"
    )
    parser.add_argument("--output", type=Path, required=True, help="'word prob phone ...' lines")


def run(args: argparse.Namespace) -> int:
    """Writes the lexicon; prints its size and its phones."""
    from moe_asr.data.espeak_phones import espeak_lexicon, spoken_lexicon, write_lexicon
    from moe_asr.data.manifests import read_cuts
    from moe_asr.data.voices import SEEN_ACCENTS
    from moe_asr.errors import ConfigError
    from moe_asr.text.word_list import read_word_list

    if args.words is None and args.manifest is None:
        raise ConfigError("expected --words, --manifest, or both")
    accents = SEEN_ACCENTS if args.accents == "training" else args.accents.split(",")
    spoken = spoken_lexicon(read_cuts(args.manifest), args.min_share) if args.manifest else []
    known = {word for word, _, _ in spoken}
    words = read_word_list(args.words) if args.words else sorted(known)
    missing = [word for word in words if word not in known]
    wanted = set(words)
    lexicon = [entry for entry in spoken if entry[0] in wanted]
    lexicon += espeak_lexicon(missing, accents) if missing else []
    lexicon.sort(key=lambda entry: (entry[0], -entry[2], entry[1]))
    write_lexicon(lexicon, args.output, max_normalized=not args.sum_to_one)
    phones = sorted({phone for _, entry, _ in lexicon for phone in entry})
    print(
        f"{args.output}: {len(lexicon)} pronunciations of {len(wanted)} words "
        f"({len(missing)} from accents alone), {len(phones)} phones: {' '.join(phones)}"
    )
    return 0
