"""Makes a release folder: a model, its graph and its options, to be given away and recognised with."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``release``."""
    from moe_asr.model.storage import STORAGES
    from moe_asr.recognizer.options import SECOND_PASS, RecognizerOptions

    defaults = RecognizerOptions()
    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--graph", type=Path, required=True, metavar="PATH",
        help="a decoding graph, or a folder with LG and HLG: the one that takes fewer bytes",
    )  # fmt: skip
    parser.add_argument(
        "--other-graph", action="append", default=[], metavar="NAME=FILE",
        help="repeatable: a further one, graph_NAME.safetensors",
    )  # fmt: skip
    parser.add_argument(
        "--about", type=Path, required=True, metavar="YAML",
        help="title, description, data_licence, examples",
    )  # fmt: skip
    parser.add_argument(
        "--storage", choices=STORAGES, help="default: as the model directory has it"
    )
    parser.add_argument(
        "--method", default=SECOND_PASS, help=f"of final results; default {SECOND_PASS}"
    )
    parser.add_argument(
        "--scales", type=Path, metavar="PATH", help="of the method, as `moe-asr tune` found them"
    )
    parser.add_argument(
        "--mode", default="chunk16", help="in which they were found; default chunk16"
    )
    parser.add_argument(
        "--option", action="append", default=[], metavar="METHOD.NAME=VALUE", help="repeatable"
    )
    parser.add_argument(
        "--correction", type=Path, metavar="FILE",
        help="of word times: what `moe-asr align --fit-correction` wrote",
    )  # fmt: skip
    parser.add_argument(
        "--chunk-sizes", type=int, nargs="+", default=[defaults.chunk_size], metavar="FRAMES",
        help="that it is made for, the default of recognisers first",
    )  # fmt: skip
    parser.add_argument(
        "--left-chunks", type=int, help="of left context; default: as many as make 128 frames"
    )
    parser.add_argument(
        "--results", type=Path, action="append", default=[], metavar="DIR",
        help="repeatable: what `moe-asr decode` wrote with this model and graph",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")


def run(args: argparse.Namespace) -> int:
    """Writes the folder; says what is in it."""
    from moe_asr.cli.method_options import parse_options
    from moe_asr.config import from_dict
    from moe_asr.errors import ConfigError
    from moe_asr.evaluate.scales import read_scales
    from moe_asr.files import read_yaml
    from moe_asr.fsa.time_correction import TimeCorrection
    from moe_asr.recognizer.options import RecognizerOptions
    from moe_asr.recognizer.release import ReleaseAbout
    from moe_asr.recognizer.write_release import write_release

    about = from_dict(ReleaseAbout, read_yaml(args.about), str(args.about))
    method_options = parse_options(args.option, [args.method])[args.method]
    sources, values = {}, {"chunk_size": args.chunk_sizes[0], "left_chunks": args.left_chunks}
    if args.scales:
        scales = read_scales([args.scales], [args.method])[args.method]
        method_options = scales.options(args.mode, method_options)
        sources["scales"] = Path(scales.source)
    options = from_dict(
        RecognizerOptions,
        {**values, "method": args.method, "method_options": method_options},
        "--chunk-sizes, --left-chunks",
    )
    if args.correction:
        options = options.replace(correction=TimeCorrection.load(args.correction))
        sources["correction"] = args.correction
    graphs = dict(one.partition("=")[::2] for one in args.other_graph)
    if not all(name and path for name, path in graphs.items()):
        raise ConfigError(f"--other-graph: expected NAME=FILE, found {args.other_graph}")
    info = write_release(
        args.output, args.model, args.graph, about, options, storage=args.storage,
        chunk_sizes=args.chunk_sizes, other_graphs=graphs, results=args.results, sources=sources,
    )  # fmt: skip
    for name, part in info.parts.items():
        print(f"{name:<22}{part.bytes:>12,}")
    total = sum(part.bytes for part in info.parts.values())
    print(f"written: {args.output} ({total / 1e6:.2f} MB)")
    return 0
