"""Sweeps the scales of a method on a dev set, and writes the best to a file for `moe-asr decode --scales`."""

import argparse
from pathlib import Path

from moe_asr.cli.decoding_input import add_input_arguments
from moe_asr.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``tune``."""
    from moe_asr.decode.registry import available_methods

    add_input_arguments(parser)
    parser.add_argument(
        "--method", required=True, action="append", choices=available_methods(), help="repeatable"
    )
    parser.add_argument(
        "--mode", action="append", metavar="MODE",
        help="repeatable: full (default), chunk16, ...; each is tuned by itself",
    )  # fmt: skip
    parser.add_argument(
        "--grid", action="append", default=[], metavar="METHOD.NAME=V1,V2,...",
        help="repeatable: a scale and the values to try; METHOD.NAME alone: the usual ones (default: all "
        "scales of a method)",
    )  # fmt: skip
    parser.add_argument(
        "--lattices", type=Path, metavar="FILE",
        help="of `moe-asr decode --lattices` on the same manifest and mode: nothing is searched again",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")


def run(args: argparse.Namespace) -> int:
    """Writes DIR/METHOD.json, and for each mode a picture of the sweep, DIR/METHOD.MODE.png."""
    from moe_asr.cli.decoding_input import read_input
    from moe_asr.cli.method_options import parse_grids, parse_options
    from moe_asr.decode.registry import make_method
    from moe_asr.decode.runner import DecodingMode
    from moe_asr.evaluate.draw_sweep import draw_sweep
    from moe_asr.evaluate.scales import scales_record
    from moe_asr.evaluate.tune import tune
    from moe_asr.evaluate.wer import UNITS
    from moe_asr.files import write_json

    names = list(dict.fromkeys(args.method))
    modes = list(dict.fromkeys(args.mode or ["full"]))
    for mode in modes:
        DecodingMode.parse(mode)
    if args.lattices and len(modes) > 1:
        raise ConfigError("--lattices are of one mode: tune one at a time")
    options = parse_options(args.option, names)
    grids = parse_grids(args.grid, names)
    given = read_input(args, args.lattices)
    if given.resources.archive is not None:
        mode = given.resources.archive.metadata.get("mode", modes[0])
        if mode != modes[0]:
            raise ConfigError(f"{args.lattices}: lattices of mode {mode}, not of {modes[0]}")
    sweeps = {
        mode: tune(
            given.loaded, given.cuts, given.references, given.resources, names, options, grids, mode,
            args.streaming, args.unit, args.max_batch_seconds,
        )
        for mode in modes
    }  # fmt: skip
    args.output.mkdir(parents=True, exist_ok=True)
    for name in names:
        for mode in modes:
            sweep = sweeps[mode][name]
            draw_sweep(sweep, args.output / f"{name}.{mode}.png")
            found = " ".join(f"{scale}={value:g}" for scale, value in sweep.best.items())
            print(
                f"{name}, {mode}: {UNITS[sweep.unit]} {sweep.rate(sweep.default_errors):.2f} -> "
                f"{sweep.rate(sweep.best_errors):.2f} % of {sweep.num_units} with {found} "
                f"({sweep.errors.size} points)"
            )
            for scale in sweep.at_edge():
                print(f"  {scale}={sweep.best[scale]:g} is at the end of the grid: widen it")
        of_method = {mode: sweeps[mode][name] for mode in modes}
        before = make_method(name, given.resources, options[name]).options
        record = scales_record(of_method, before, given.references, str(args.manifest))
        write_json(args.output / f"{name}.json", record)
    print(f"written: {args.output}")
    return 0
