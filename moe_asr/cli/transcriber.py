"""What transcribes files as the command line says: options, tuned scales, phrases, and the right function."""

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from moe_asr.cli.recognizer_input import read_recognizer_input, with_option
from moe_asr.errors import ConfigError

if TYPE_CHECKING:
    from moe_asr.files import PathLike
    from moe_asr.recognizer.options import RecognizerOptions
    from moe_asr.recognizer.results import Transcript
    from moe_asr.recognizer.transcribe import Failure, Progress

    Transcriber = Callable[[Iterable[PathLike], Progress], Iterator[Transcript | Failure]]


def make_transcriber(args: argparse.Namespace) -> "Transcriber":
    """Loads all that is needed, and checks it.

    Returns:
        ``(files, progress) -> outcomes``: `transcribe_files` or `stream_files`.

    Raises:
        ConfigError: if an option is wrong, or fits no other; others as `read_release` and `read_phrases`.
    """
    from moe_asr.audio.silence import SilenceOptions
    from moe_asr.fsa.context_phrases import read_phrases
    from moe_asr.recognizer.recognizer import Recognizer
    from moe_asr.recognizer.transcribe import transcribe_files
    from moe_asr.recognizer.transcribe_streaming import stream_files

    if args.full_context_final and not args.streaming:
        raise ConfigError("--full-context-final goes with --streaming")
    try:
        cut = SilenceOptions(args.max_segment_seconds, args.min_silence_seconds)
    except ValueError as error:
        raise ConfigError(f"how files are cut: {error}") from error
    phrases = read_phrases(args.phrases) if args.phrases else None
    loaded, graph, options = read_recognizer_input(args)
    options = options.replace(partial_results=False)
    if args.chunk_size is not None:
        options = with_option(options, "--chunk-size", chunk_size=args.chunk_size)
    max_streams = args.max_streams if args.streaming else 1
    options = with_option(options, "--max-streams", max_streams=max_streams)
    mode = f"chunk{options.chunk_size}-left{options.num_left_chunks}"
    is_full = options.full_context_final if args.streaming else args.chunk_size is None
    options = _with_scales(args, options, ["full"] if is_full else [mode, mode.partition("-")[0]])
    recognizer = Recognizer(loaded, graph, options, args.threads or 1)
    common = {
        "channel": args.channel,
        "phrases": phrases,
        "num_alternatives": args.alternatives if args.format == "json" else 0,
    }
    if args.streaming:
        return lambda files, progress: stream_files(
            recognizer, files, max_streams, progress=progress, **common
        )
    return lambda files, progress: transcribe_files(
        recognizer,
        files,
        args.max_batch_seconds,
        cut,
        "full" if is_full else mode,
        progress=progress,
        **common,
    )


def _with_scales(
    args: argparse.Namespace, options: "RecognizerOptions", modes: Sequence[str]
) -> "RecognizerOptions":
    """The options with the scales, if any are given, that were tuned in the first of the modes."""
    from moe_asr.cli.method_options import parse_options
    from moe_asr.evaluate.scales import read_scales

    if not args.scales:
        return options
    scales = read_scales(args.scales, [options.method])[options.method]
    mode = next((mode for mode in modes if mode in scales.modes), modes[0])
    tuned = scales.options(mode, parse_options(args.option, [options.method])[options.method])
    return options.replace(method_options={**options.method_options, **tuned})
