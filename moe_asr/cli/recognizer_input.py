"""What the commands share that stream audio through a recogniser."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moe_asr.fsa.graph import DecodingGraph
    from moe_asr.model.directory import LoadedModel
    from moe_asr.recognizer.options import RecognizerOptions

MODEL_VARIABLE = "MOE_ASR_MODEL"


def add_recognizer_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the model, the graph, and how they are used; not the chunk size."""
    from moe_asr.cli.torch_options import add_precision_argument
    from moe_asr.decode.registry import available_methods

    model = os.environ.get(MODEL_VARIABLE)
    parser.add_argument(
        "--model", type=Path, metavar="DIR", default=model and Path(model), required=not model,
        help=f"model directory or release folder (default: ${MODEL_VARIABLE}, if it is set)",
    )  # fmt: skip
    parser.add_argument(
        "--graph", type=Path, metavar="FILE", help="decoding graph (default: the release folder's)"
    )
    parser.add_argument("--left-chunks", type=int, metavar="N", help="left context, in chunks")
    parser.add_argument("--method", choices=available_methods(), help="makes final results")
    parser.add_argument(
        "--option", action="append", default=[], metavar="METHOD.NAME=VALUE",
        help="repeatable: of the method, its search included; all options are in docs/decoding.md",
    )  # fmt: skip
    parser.add_argument(
        "--full-context-final", action="store_true",
        help="encode each segment again in full context for its final result",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, help="torch threads (default: torch's choice)")
    parser.add_argument("--device", default="cpu", help="of the model: cpu (default), cuda, ...")
    add_precision_argument(parser, "float32 on a CPU")


def read_recognizer_input(
    args: argparse.Namespace,
) -> "tuple[LoadedModel, DecodingGraph, RecognizerOptions]":
    """Model, graph, and options: those of a release folder or the usual ones, and what is asked instead.

    Raises:
        ConfigError: if an option is wrong or there is no graph; others as of `load_model_dir`, `load_graph`.
    """
    from moe_asr.cli.method_options import parse_options
    from moe_asr.cli.torch_options import apply_torch_options
    from moe_asr.recognizer.options import RecognizerOptions
    from moe_asr.recognizer.release import read_release

    apply_torch_options(args)
    loaded, graph, found = read_release(args.model, args.graph, args.device, args.precision)
    options = found or RecognizerOptions()
    if args.method is not None and args.method != options.method:
        options = options.replace(method=args.method, method_options={})
    given = parse_options(args.option, [options.method])[options.method]
    options = options.replace(
        method_options={**options.method_options, **given},
        full_context_final=options.full_context_final or args.full_context_final,
    )
    if args.left_chunks is not None:
        options = with_option(options, "--left-chunks", left_chunks=args.left_chunks)
    return loaded, graph, options


def with_option(options: "RecognizerOptions", flag: str, **changes: int) -> "RecognizerOptions":
    """The options with another value; `ConfigError` naming the flag, if it is impossible."""
    from moe_asr.errors import ConfigError

    try:
        return options.replace(**changes)
    except ValueError as error:
        raise ConfigError(f"{flag}: {error}") from error
