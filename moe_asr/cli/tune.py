"""Sweeps the scales of a method on a dev set, and writes the best to a file for `moe-asr decode --scales`."""

import argparse
from pathlib import Path

from moe_asr.cli.decoding_input import add_input_arguments
from moe_asr.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``tune``."""
    from moe_asr.decode.registry import available_methods

    add_input_arguments(parser)
    parser.add_argument("--method", required=True, choices=available_methods())
    parser.add_argument(
        "--mode", action="append", metavar="MODE",
        help="repeatable: full (default), chunk16, ...; each is tuned by itself",
    )  # fmt: skip
    parser.add_argument(
        "--grid", action="append", default=[], metavar="NAME=V1,V2,...",
        help="repeatable: a scale and the values to try; NAME alone: the usual ones (default: all scales of "
        "the method)",
    )  # fmt: skip
    parser.add_argument(
        "--lattices", type=Path, metavar="FILE",
        help="of `moe-asr decode --lattices` on the same manifest and mode: nothing is searched again",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="scales file (.json)"
    )


def run(args: argparse.Namespace) -> int:
    """Writes FILE, and for each mode a picture of the sweep beside it: FILE without .json, .MODE.png."""
    from moe_asr.cli.decoding_input import read_input
    from moe_asr.cli.method_options import parse_grid, parse_options
    from moe_asr.decode.draw_sweep import draw_sweep
    from moe_asr.decode.registry import make_method
    from moe_asr.decode.runner import DecodingMode
    from moe_asr.decode.scales import scales_record
    from moe_asr.decode.tune import tune
    from moe_asr.evaluate.wer import UNITS
    from moe_asr.files import write_json

    modes = list(dict.fromkeys(args.mode or ["full"]))
    for mode in modes:
        DecodingMode.parse(mode)
    if args.lattices and len(modes) > 1:
        raise ConfigError("--lattices are of one mode: tune one at a time")
    if args.output.suffix != ".json":
        raise ConfigError(f"--output {args.output}: expected a name that ends in .json")
    options = parse_options(args.option, [args.method])[args.method]
    grid = parse_grid(args.grid)
    given = read_input(args, args.lattices)
    method = make_method(args.method, given.resources, options)
    sweeps = {
        mode: tune(
            given.loaded, given.cuts, given.references, args.method, given.resources, options,
            grid or None, mode, args.streaming, args.unit, args.max_batch_seconds,
        )
        for mode in modes
    }  # fmt: skip
    for mode, sweep in sweeps.items():
        draw_sweep(sweep, args.output.with_suffix(f".{mode}.png"))
        rate = UNITS[sweep.unit]
        found = " ".join(f"{name}={value:g}" for name, value in sweep.best.items())
        print(
            f"{mode}: {rate} {sweep.rate(sweep.default_errors):.2f} -> "
            f"{sweep.rate(sweep.best_errors):.2f} % of {sweep.num_units} with {found} "
            f"({sweep.errors.size} points)"
        )
        for name in sweep.at_edge():
            print(f"{mode}: {name}={sweep.best[name]:g} is at the end of the grid: widen it")
    write_json(
        args.output, scales_record(sweeps, method.options, given.references, str(args.manifest))
    )
    print(f"written: {args.output}")
    return 0
