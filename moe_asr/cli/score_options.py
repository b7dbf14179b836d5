"""Arguments of ``moe-asr score``, and what they read."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moe_asr.evaluate.compare import Comparison


# fmt: off
def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    from moe_asr.evaluate.compare import MISSING
    from moe_asr.evaluate.normalize import NORMAL_FORMS
    from moe_asr.evaluate.transcripts import FORMATS
    from moe_asr.evaluate.units import UNITS

    add = parser.add_argument
    add("ref", type=Path, metavar="REF", help="references: 'id text' lines, sclite's trn or ctm")
    add("hyp", type=Path, nargs="+", metavar="HYP", help="hypotheses of a system, or of several")
    add("--ref-format", choices=FORMATS, help="default: what the file's name tells")
    add("--hyp-format", choices=FORMATS, help="likewise, of all hypotheses")
    add("--unit", choices=UNITS, default="word", help="what errors are counted in; default word")
    add("--missing", choices=MISSING, default="refuse",
        help="references without hypothesis: refuse (default), take for empty, or score what is common")
    add = parser.add_argument_group("normalisation, of both sides, in this order").add_argument
    add("--form", choices=NORMAL_FORMS, default="NFC", help="Unicode normal form; default NFC")
    add("--fold-case", action="store_true", help="Unicode case folding")
    add("--remove-punctuation", action="store_true", help="but for apostrophes in words, %%&@#")
    add("--alternatives", action=argparse.BooleanOptionalAction,
        help="{ a / b } in texts are alternatives, @ is nothing; or they are words; default: refused")
    add("--glm", type=Path, metavar="FILE", help="rules, 'pattern => replacement'")
    group = parser.add_argument_group("speakers and intervals")
    add, one = group.add_argument, group.add_mutually_exclusive_group().add_argument
    one("--utt2spk", type=Path, metavar="FILE", help="lines of: utterance speaker")
    one("--speaker-regex", metavar="REGEX", help="finds the speaker (first group) in utterance ids")
    add("--bootstrap", type=int, default=10000, metavar="N",
        help="samples for intervals; 0 for none; default 10000")
    add("--level", type=float, default=0.95, help="of intervals; default 0.95")
    add("--seed", type=int, default=0, help="of the bootstrap; default 0")
    add("--blocks", choices=("utterance", "speaker"),
        help="what is drawn in the bootstrap; default: speakers where they are given")
    add = parser.add_argument_group("output").add_argument
    add("--top", type=int, default=10, metavar="N", help="most frequent errors to print; default 10")
    add("--text", type=Path, metavar="FILE", help="all alignments as text")
    add("--html", type=Path, metavar="FILE", help="totals and alignments as a web page")
    add("--html-limit", type=int, default=1000, metavar="N",
        help="utterances on that page, those with most errors; default 1000")
    add("--json", type=Path, metavar="FILE", help="all figures")
    add("--write-trn", type=Path, metavar="DIR", help="what was scored, as sclite's trn files")
# fmt: on


def read_and_compare(args: argparse.Namespace) -> "Comparison":
    """Reads and normalises the transcripts, and scores them.

    Raises:
        ConfigError: if arguments do not go together.
        DataError: if a file is malformed or sets of utterances differ.
    """
    from moe_asr.errors import ConfigError
    from moe_asr.evaluate.compare import CompareOptions, compare
    from moe_asr.evaluate.normalize import NormalizeOptions, TextNormalizer
    from moe_asr.evaluate.speakers import read_utt2spk, speakers_by_pattern
    from moe_asr.evaluate.transcripts import read_transcript_sets

    options = CompareOptions(args.unit, args.missing, args.bootstrap, args.level, args.seed)
    has_speakers = args.utt2spk is not None or args.speaker_regex is not None
    if args.blocks == "speaker" and not has_speakers:
        raise ConfigError("--blocks speaker: needs --utt2spk or --speaker-regex")
    names = [str(path) for path in args.hyp]
    if len(set(names)) < len(names):
        raise ConfigError(f"a hypothesis is given twice: {', '.join(names)}")
    if args.html_limit < 1 or args.top < 0:
        raise ConfigError("--html-limit must be at least 1, and --top not negative")
    _check_outputs(args)

    normalizer = TextNormalizer(
        NormalizeOptions(args.form, args.fold_case, args.remove_punctuation, args.alternatives),
        args.glm,
        args.unit,
    )
    references, *hypotheses = (
        normalizer.texts(texts, str(path))
        for path, texts in zip(
            [args.ref, *args.hyp],
            read_transcript_sets(
                [args.ref, *args.hyp], [args.ref_format, *[args.hyp_format] * len(args.hyp)]
            ),
            strict=True,
        )
    )
    speakers = None
    if args.utt2spk is not None:
        speakers = read_utt2spk(args.utt2spk, references)
    elif args.speaker_regex is not None:
        speakers = speakers_by_pattern(references, args.speaker_regex)
    systems = dict(zip(names, hypotheses, strict=True))
    return compare(
        references, systems, options, speakers, args.blocks != "utterance" and has_speakers
    )


def system_suffixes(num_systems: int) -> list[str]:
    """What the names of each system's trn files end in."""
    return [""] if num_systems == 1 else [str(number) for number in range(1, num_systems + 1)]


def _check_outputs(args: argparse.Namespace) -> None:
    """`ConfigError` if what is written would take the place of what is read, or of something else written."""
    from moe_asr.errors import ConfigError
    from moe_asr.evaluate.transcripts import scored_paths

    read = [path for path in (args.ref, *args.hyp, args.glm, args.utt2spk) if path]
    written = [path for path in (args.text, args.html, args.json) if path]
    if args.write_trn:
        for suffix in system_suffixes(len(args.hyp)):
            written += scored_paths(args.write_trn, suffix)
    taken = {path.resolve() for path in read}
    for path in written:
        if path.resolve() in taken:
            raise ConfigError(f"{path}: is read, or written twice: write to another file")
        taken.add(path.resolve())
