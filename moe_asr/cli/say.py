"""Says a text by espeak-ng and writes it as audio: something to transcribe, without a microphone."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``say``."""
    parser.add_argument("text", nargs="+", metavar="TEXT", help="words; several are one sentence")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help=".wav, .flac, .ogg or .mp3"
    )
    parser.add_argument(
        "--voice", default="en-us", metavar="NAME",
        help="of espeak-ng: a language and, optionally, a variant: en-us+m3, en+f1, de; default en-us",
    )  # fmt: skip
    parser.add_argument("--rate", type=int, default=150, help="words per minute; default 150")
    parser.add_argument(
        "--sample-rate", type=int, default=16000, metavar="HZ", help="default 16000"
    )
    parser.add_argument(
        "--silence",
        type=float,
        default=0.3,
        metavar="SECONDS",
        help="before and after; default 0.3",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the file; says how long it is."""
    from moe_asr.audio.io import write_audio
    from moe_asr.data.speaking import say_text

    samples = say_text(" ".join(args.text), args.voice, args.sample_rate, args.rate, args.silence)
    write_audio(args.output, samples, args.sample_rate)
    print(f"{args.output}: {len(samples) / args.sample_rate:.2f} s, {args.sample_rate} Hz")
    return 0
