"""Recognises speech from a microphone, or raw audio from standard input, while it is spoken."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from moe_asr.cli.recognizer_input import add_recognizer_arguments

if TYPE_CHECKING:
    from moe_asr.recognizer.live_audio import LiveAudio


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``live``."""
    from moe_asr.recognizer.live_audio import FORMATS

    add_recognizer_arguments(parser)
    parser.add_argument("--chunk-size", type=int, metavar="N", help="encoder frames")
    parser.add_argument("--phrases", type=Path, metavar="FILE", help="listen for these phrases")
    parser.add_argument(
        "--microphone", metavar="NAME", help="number or part of the name (default: the system's)"
    )
    parser.add_argument(
        "--list-microphones", action=_ListMicrophones, help="print the microphones and exit"
    )
    parser.add_argument("--stdin", action="store_true", help="raw mono audio from standard input")
    parser.add_argument(
        "--sample-rate", type=int, metavar="HZ", help="of --stdin; default: the model's"
    )
    parser.add_argument(
        "--format",
        choices=list(FORMATS),
        default="s16le",
        help="of --stdin: s16le (default), f32le",
    )
    parser.add_argument("--json", action="store_true", help="all results as lines of JSON")
    parser.add_argument("--times", action="store_true", help="print the times of final results")


class _ListMicrophones(argparse.Action):
    """Like ``--help``: nothing else need be given."""

    def __init__(self, option_strings: list[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from moe_asr.errors import MoeAsrError
        from moe_asr.recognizer.microphone import list_microphones

        try:
            print(list_microphones())
        except MoeAsrError as error:
            parser.exit(2, f"{parser.prog}: error: {error}\n")
        parser.exit(0)


def run(args: argparse.Namespace) -> int:
    """Shows results until the audio ends, or SIGINT or SIGTERM ends it."""
    import sys

    from moe_asr.cli.recognizer_input import read_recognizer_input, with_option
    from moe_asr.fsa.context_phrases import read_phrases
    from moe_asr.recognizer.display import make_display
    from moe_asr.recognizer.live import recognize_live
    from moe_asr.recognizer.recognizer import Recognizer
    from moe_asr.train.interrupt import stop_on_signals

    phrases = read_phrases(args.phrases) if args.phrases else None
    loaded, graph, options = read_recognizer_input(args)
    size = options.chunk_size if args.chunk_size is None else args.chunk_size
    options = with_option(options, "--chunk-size", chunk_size=size, max_streams=1)
    recognizer = Recognizer(loaded, graph, options)
    audio = _open_audio(args, recognizer.sample_rate)
    display = make_display(sys.stdout, sys.stderr, args.json, args.times)
    display.note(f"listening at {audio.sample_rate} Hz, Ctrl-C ends")
    with stop_on_signals() as stop:
        recognize_live(recognizer, audio, display, lambda: bool(stop), phrases)
    return 0


def _open_audio(args: argparse.Namespace, model_rate: int) -> "LiveAudio":
    import functools
    import os
    import sys

    from moe_asr.errors import ConfigError
    from moe_asr.recognizer.live_audio import PcmInput
    from moe_asr.recognizer.microphone import Microphone

    if args.stdin:
        if sys.stdin is None or sys.stdin.isatty():
            found = "nothing" if sys.stdin is None else "a terminal"
            raise ConfigError(f"--stdin: expected raw audio from a pipe or file, found {found}")
        read = functools.partial(os.read, sys.stdin.fileno())
        rate = model_rate if args.sample_rate is None else args.sample_rate
        return PcmInput(read, rate, args.format)
    if args.sample_rate is not None:
        raise ConfigError("--sample-rate goes with --stdin")
    name = args.microphone
    return Microphone(int(name) if name and name.isdecimal() else name, model_rate)
