"""Transcribes audio files, of any length and number; streaming, if they are to be heard as if live."""

import argparse
from pathlib import Path

from moe_asr.cli.recognizer_input import add_recognizer_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``transcribe``."""
    from moe_asr.recognizer.formats import FORMATS

    add_recognizer_arguments(parser)
    parser.add_argument("files", nargs="+", metavar="FILE", help="WAV, FLAC, MP3, Ogg, Opus, ...")
    parser.add_argument(
        "--streaming", action="store_true", help="chunk by chunk, cut by the endpoint rules"
    )
    parser.add_argument(
        "--chunk-size", type=int, metavar="N",
        help="encoder frames; without --streaming, of the chunk mask (default: full context)",
    )  # fmt: skip
    parser.add_argument(
        "--scales", type=Path, action="append", default=[], metavar="FILE",
        help="scales that `moe-asr tune` found: the method's file, or their folder",
    )  # fmt: skip
    parser.add_argument("--phrases", type=Path, metavar="FILE", help="listen for these phrases")
    parser.add_argument("--format", choices=list(FORMATS), default="text", help="default: text")
    parser.add_argument(
        "--alternatives", type=int, default=10, metavar="N",
        help="entries of n-best lists in JSON; default 10",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="a document for each file (default: print them)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="leave out files whose document is in --output"
    )
    parser.add_argument("--channel", type=int, metavar="N", help="of files with several, from 0")
    parser.add_argument(
        "--max-segment-seconds", type=float, default=30.0, metavar="SECONDS",
        help="without --streaming, longer files are cut at pauses; default 30",
    )  # fmt: skip
    parser.add_argument(
        "--min-silence-seconds", type=float, default=0.5, metavar="SECONDS",
        help="a pause that ends a segment of a longer file; default 0.5",
    )  # fmt: skip
    parser.add_argument("--max-batch-seconds", type=float, default=60.0, help="default 60")
    parser.add_argument(
        "--max-streams", type=int, default=16, metavar="N", help="of --streaming; default 16"
    )


def run(args: argparse.Namespace) -> int:
    """Writes or prints what was recognised; 1 if any file could not be transcribed."""
    import sys

    from tqdm import tqdm

    from moe_asr.audio.blocks import total_seconds
    from moe_asr.cli.transcriber import make_transcriber
    from moe_asr.errors import ConfigError
    from moe_asr.files import write_text
    from moe_asr.recognizer.formats import get_format, printable
    from moe_asr.recognizer.transcribe import Failure
    from moe_asr.recognizer.transcript_files import document_paths, print_document

    form = get_format(args.format)
    if args.resume and not args.output:
        raise ConfigError("--resume goes with --output")
    documents = document_paths(args.files, form, args.output)
    files = [file for file, path in documents.items() if not (args.resume and path.exists())]
    transcribe = make_transcriber(args)
    failed = False
    with tqdm(total=round(total_seconds(files, args.channel)), unit=" s of audio") as bar:
        seconds = 0.0

        def advance(more: float) -> None:
            nonlocal seconds
            seconds += more
            bar.update(round(seconds) - bar.n)

        for outcome in transcribe(files, advance):
            if isinstance(outcome, Failure):
                failed = True
                bar.write(f"moe-asr transcribe: error: {outcome.error}", file=sys.stderr)
            elif args.output:
                document = documents[outcome.name]
                try:
                    write_text(document, form.write(outcome))
                except OSError as error:
                    failed = True
                    reason = f"{document}: cannot be written: {error.strerror}"
                    bar.write(f"moe-asr transcribe: error: {reason}", file=sys.stderr)
                    continue
                bar.write(f"written: {printable(str(document))}", file=sys.stdout)
            else:
                bar.write(print_document(outcome, form, len(documents)), file=sys.stdout, end="")
            sys.stdout.flush()  # a pipe's reader need not wait for the others
    return int(failed)
