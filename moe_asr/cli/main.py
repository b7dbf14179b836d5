"""The ``moe-asr`` command: one subcommand a module, imported only when it is called."""

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from moe_asr import __version__
from moe_asr.errors import MoeAsrError

INTERRUPTED = 130  # 128 and the number of SIGINT

# subcommand -> (module with `add_arguments(parser)` and `run(args) -> int`, help line)
COMMANDS: dict[str, tuple[str, str]] = {
    "prepare-digits": (
        "moe_asr.cli.prepare_digits",
        "make connected digit strings from recordings",
    ),
    "prepare-voice-commands": (
        "moe_asr.cli.prepare_voice_commands",
        "make a spoken corpus from sentences: voices, noise, rooms",
    ),
    "say": ("moe_asr.cli.say", "say a text by espeak-ng, as audio to transcribe"),
    "make-espeak-lexicon": (
        "moe_asr.cli.make_espeak_lexicon",
        "pronunciations with probabilities from espeak-ng's accents",
    ),
    "download-corpus": ("moe_asr.cli.download_corpus", "download LibriSpeech or AISHELL by lhotse"),
    "prepare-corpus": ("moe_asr.cli.prepare_corpus", "make manifests of LibriSpeech or AISHELL"),
    "compute-cmvn": (
        "moe_asr.cli.compute_cmvn",
        "global mean and variance of a manifest's features",
    ),
    "train": ("moe_asr.cli.train", "train a model, or resume its training"),
    "export": ("moe_asr.cli.export", "average checkpoints into a model directory"),
    "convert-model": (
        "moe_asr.cli.convert_model",
        "store a model's weights in fewer bits: float16, int8",
    ),
    "release": ("moe_asr.cli.release", "a folder of model, graph and options to recognise with"),
    "build-hlg": ("moe_asr.cli.build_hlg", "build an HLG from a lexicon and a word loop"),
    "decode": ("moe_asr.cli.decode", "decode a manifest with a model, print its WER"),
    "transcribe": ("moe_asr.cli.transcribe", "transcribe audio files: text, JSON, ctm, subtitles"),
    "tune": ("moe_asr.cli.tune", "find the scales of a method on a dev set"),
    "score": ("moe_asr.cli.score", "score hypotheses: WER, CER, intervals, alignments"),
    "align": ("moe_asr.cli.align", "align known texts with audio: ctm, TextGrids, pictures"),
    "score-times": ("moe_asr.cli.score_times", "errors of word times against known ones"),
    "graph": ("moe_asr.cli.graph", "look at graphs: figures, pictures, paths; convert them"),
    "lattice": ("moe_asr.cli.lattice", "look at lattices: figures, pictures; Kaldi's text"),
    "score-lattices": (
        "moe_asr.cli.score_lattices",
        "oracles, sizes and confidences of lattices against references",
    ),
    "live": ("moe_asr.cli.live", "recognise speech from a microphone or a pipe while it is spoken"),
    "latency": (
        "moe_asr.cli.latency",
        "how late words are shown, how often they change, what each stage takes",
    ),
    "info": ("moe_asr.cli.info", "describe a preset or a model directory"),
}


def main(argv: list[str] | None = None) -> int:
    """Runs one subcommand; returns its exit status.

    Errors in the input, and files that cannot be read or written, print what is wrong and return 2. SIGINT
    returns 130, as a shell's own commands do.
    """
    argv = sys.argv[1:] if argv is None else argv
    chosen = next((word for word in argv if not word.startswith("-")), None)
    try:
        return _main(argv, chosen)
    except KeyboardInterrupt:
        print(f"moe-asr {chosen}: interrupted", file=sys.stderr)
        return INTERRUPTED


def _main(argv: list[str], chosen: str | None) -> int:
    parser = argparse.ArgumentParser(prog="moe-asr", description=__doc__)
    parser.add_argument("--version", action="version", version=f"moe-asr {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    # Before torch is imported: idle threads of GNU OpenMP spin for some 10 us, then sleep. By default
    # they spin for milliseconds, and fight the data loader and everybody else for the cores.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    for name, (module_name, help_line) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=help_line, description=help_line)
        if name == chosen:
            module = importlib.import_module(module_name)
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    try:
        with log_on_stderr():
            status = int(args.run(args) or 0)
            sys.stdout.flush()
            return status
    except MoeAsrError as error:
        print(f"moe-asr {args.command}: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has seen enough: `moe-asr score ... | head`
        _discard_stdout()
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        print(f"moe-asr {args.command}: error: {where}{error.strerror or error}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except (
            OSError
        ):  # what cannot be written would be tried again at exit, with a status of its own
            _discard_stdout()
        return 2


def _discard_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def log_on_stderr() -> Iterator[None]:
    """While the block runs, the package's own log, such as why the first search took so long, is shown."""
    logger, handler = logging.getLogger("moe_asr"), logging.StreamHandler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


if __name__ == "__main__":
    sys.exit(main())
