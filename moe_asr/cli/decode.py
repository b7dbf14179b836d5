"""Decodes a manifest by one or more methods and modes, and prints error rates."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from moe_asr.cli.decoding_input import add_input_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``decode``."""
    from moe_asr.decode.registry import available_methods

    add_input_arguments(parser)
    parser.add_argument(
        "--method", action="append", choices=available_methods(), help="repeatable (ctc_greedy)"
    )
    parser.add_argument(
        "--mode", action="append", metavar="MODE",
        help="repeatable: full (default), chunk16, chunk16-left4, ...",
    )  # fmt: skip
    parser.add_argument(
        "--scales", type=Path, action="append", default=[], metavar="FILE",
        help="repeatable: scales that `moe-asr tune` found on a dev set: a method's file, or their folder",
    )  # fmt: skip
    parser.add_argument(
        "--scales-mode", metavar="MODE",
        help="take the scales that were tuned in this mode in all modes (default: in each its own)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--ctm", action="store_true",
        help="of methods with lattices, the words with their times: DIR/MODE/hyp_METHOD.ctm",
    )  # fmt: skip
    parser.add_argument(
        "--time-correction", type=Path, metavar="FILE",
        help="of these times: what `moe-asr align --fit-correction` wrote",
    )  # fmt: skip
    parser.add_argument(
        "--lattices", action="store_true", help="keep them: DIR/MODE/lattices_METHOD.safetensors"
    )


def run(args: argparse.Namespace) -> int:
    """Writes references, hypotheses, n-best lists, alignments and results.json for each mode and method."""
    from moe_asr.cli.decoding_input import describe, read_input
    from moe_asr.cli.method_options import parse_options
    from moe_asr.decode.lattice_archive import keep_lattices
    from moe_asr.decode.registry import make_method
    from moe_asr.decode.runner import DecodingMode, decode_cuts
    from moe_asr.evaluate.report import evaluate_run, format_table
    from moe_asr.evaluate.run_ctm import word_graph_of, write_run_ctm
    from moe_asr.evaluate.scales import options_by_mode, read_scales
    from moe_asr.files import write_json
    from moe_asr.fsa.time_correction import TimeCorrection

    names = list(dict.fromkeys(args.method or ["ctc_greedy"]))
    modes = [DecodingMode.parse(name) for name in dict.fromkeys(args.mode or ["full"])]
    options = parse_options(args.option, names)
    scales = read_scales(args.scales, names)
    in_mode = options_by_mode([mode.name for mode in modes], options, scales, args.scales_mode)
    correction = TimeCorrection.load(args.time_correction) if args.time_correction else None
    given = read_input(args)
    if args.ctm:
        word_graph_of(given.resources.graph)
        given.resources = replace(given.resources, keep_paths=True)
    results: dict[str, dict[str, Any]] = {}
    for mode in modes:
        methods = [make_method(name, given.resources, in_mode[mode.name][name]) for name in names]
        folder = args.output / mode.name
        with keep_lattices(methods, folder if args.lattices else None, {"mode": mode.name}):
            decoded = decode_cuts(
                given.loaded, given.cuts, methods, mode, args.streaming, args.max_batch_seconds
            )
        results[mode.name] = evaluate_run(
            decoded, given.references, folder, given.loaded.tokenizer, args.unit
        )
        if args.ctm:
            durations = {cut.id: float(cut.duration) for cut in given.cuts}
            graph = given.resources.graph
            write_run_ctm(decoded, folder, given.loaded, graph, durations, correction)
        for name, found in scales.items():
            results[mode.name][name]["scales"] = found.modes[args.scales_mode or mode.name]
            results[mode.name][name]["tuned_on_this_set"] = found.is_of(given.references)
    write_json(args.output / "results.json", results)
    write_json(args.output / "options.json", {"input": describe(args), "options": in_mode})
    print(format_table(results))
    print(f"written: {args.output / 'results.json'}")
    return 0
