"""Decodes a manifest by one or more methods and modes, and prints error rates."""

import argparse
from pathlib import Path
from typing import Any

from moe_asr.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``decode``."""
    from moe_asr.decode.registry import available_methods

    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    parser.add_argument("--manifest", type=Path, required=True, help="cuts (.jsonl or .jsonl.gz)")
    parser.add_argument(
        "--method", action="append", choices=available_methods(), help="repeatable (ctc_greedy)"
    )
    parser.add_argument(
        "--mode", action="append", metavar="MODE",
        help="repeatable: full (default), chunk16, chunk16-left4, ...",
    )  # fmt: skip
    parser.add_argument("--graph", type=Path, help="decoding graph, for methods that search one")
    parser.add_argument(
        "--option", action="append", default=[], metavar="METHOD.NAME=VALUE",
        help="repeatable, one_best.search_beam=15 for instance; all are in docs/search.md",
    )  # fmt: skip
    parser.add_argument(
        "--streaming",
        action="store_true",
        help="in chunk modes, feed the encoder chunk by chunk instead of masking a full pass",
    )
    parser.add_argument(
        "--unit", choices=["word", "char", "mixed"], default="word",
        help="count errors in words (default), in characters without spaces, or in Chinese "
        "characters and the words of other languages",
    )  # fmt: skip
    parser.add_argument("--max-batch-seconds", type=float, default=60.0, help="default 60")
    parser.add_argument(
        "--threads",
        type=int,
        help="torch threads (default: torch's choice); one_best.num_threads is of the search",
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--lattices", action="store_true", help="keep them: DIR/MODE/lattices_METHOD.safetensors"
    )


def run(args: argparse.Namespace) -> int:
    """Writes references, hypotheses, alignments and results.json for each mode and method."""
    import torch

    from moe_asr.cli.method_options import parse_options
    from moe_asr.data.manifests import read_cuts
    from moe_asr.data.validation import transcript_of
    from moe_asr.decode.lattice_archive import keep_lattices
    from moe_asr.decode.registry import DecodingResources, make_method
    from moe_asr.decode.runner import DecodingMode, decode_cuts
    from moe_asr.evaluate.report import evaluate_run, format_table
    from moe_asr.evaluate.wer import collect
    from moe_asr.files import write_json
    from moe_asr.lang.load_graph import load_graph
    from moe_asr.model.directory import load_model_dir

    if args.threads is not None:
        if args.threads < 1:
            raise ConfigError(f"--threads must be at least 1, found {args.threads}")
        torch.set_num_threads(args.threads)
    names = list(dict.fromkeys(args.method or ["ctc_greedy"]))
    modes = [DecodingMode.parse(name) for name in dict.fromkeys(args.mode or ["full"])]
    options = parse_options(args.option, names)
    cuts = list(read_cuts(args.manifest))
    references = collect(((cut.id, transcript_of(cut)) for cut in cuts), str(args.manifest))
    try:
        torch.zeros(1, device=args.device)
    except (AssertionError, RuntimeError) as error:
        raise ConfigError(f"--device {args.device}: {str(error).splitlines()[0]}") from error
    loaded = load_model_dir(args.model, args.device)
    graph = load_graph(args.graph) if args.graph else None
    resources = DecodingResources(loaded.tokenizer, graph, args.device)
    methods = [make_method(name, resources, options[name]) for name in names]
    results: dict[str, dict[str, Any]] = {}
    for mode in modes:
        folder = args.output / mode.name
        with keep_lattices(methods, folder if args.lattices else None, {"mode": mode.name}):
            decoded = decode_cuts(
                loaded, cuts, methods, mode, args.streaming, args.max_batch_seconds
            )
        results[mode.name] = evaluate_run(decoded, references, folder, loaded.tokenizer, args.unit)
    write_json(args.output / "results.json", results)
    print(format_table(results))
    print(f"written: {args.output / 'results.json'}")
    return 0
