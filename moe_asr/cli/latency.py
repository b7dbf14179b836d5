"""Streams a manifest with true word times as live audio, and measures latencies, instability and work."""

import argparse
from pathlib import Path

from moe_asr.cli.recognizer_input import add_recognizer_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``latency``."""
    add_recognizer_arguments(parser)
    parser.add_argument(
        "--manifest", type=Path, required=True, help="cuts (.jsonl or .jsonl.gz) with audio"
    )
    parser.add_argument(
        "--word-times", type=Path, metavar="FILE",
        help="true word times: a ctm file, or another manifest (default: those of the manifest)",
    )  # fmt: skip
    parser.add_argument(
        "--chunk-size", type=int, nargs="+", metavar="N", help="encoder frames; one or several"
    )
    parser.add_argument("--piece-ms", type=float, default=100.0, help="audio that comes at a time")
    parser.add_argument(
        "--tail-seconds", type=float, default=1.5,
        help="background noise after each cut, in which endpoints are found (1.5)",
    )  # fmt: skip
    parser.add_argument("--limit", type=int, metavar="N", help="the first N cuts only")
    parser.add_argument(
        "--no-work", action="store_true",
        help="work takes no time on the clock: latencies of the algorithm, the same on every machine",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")


def run(args: argparse.Namespace) -> int:
    """Prints tables; writes latency.json and latency.png."""
    import os

    from moe_asr.cli.recognizer_input import read_recognizer_input, with_option
    from moe_asr.data.manifests import read_cuts
    from moe_asr.errors import ConfigError
    from moe_asr.evaluate.timing import read_word_times
    from moe_asr.files import writable_directory, write_json
    from moe_asr.fsa.lattice_canvas import write_figure
    from moe_asr.recognizer.draw_latency import latency_figure
    from moe_asr.recognizer.latency import measure_latency
    from moe_asr.recognizer.latency_table import format_latency
    from moe_asr.recognizer.recognizer import Recognizer

    for name, least in (("piece_ms", 0.1), ("tail_seconds", 0.0), ("limit", 1)):
        value = getattr(args, name)
        if value is not None and not least <= value < float("inf"):
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag} must be at least {least:g}, found {value}")
    writable_directory(args.output)
    references = read_word_times(args.word_times or args.manifest)
    cuts = list(read_cuts(args.manifest))[: args.limit]
    loaded, graph, options = read_recognizer_input(args)
    reports, left_chunks = {}, {}
    for size in dict.fromkeys(args.chunk_size or [options.chunk_size]):
        sized = with_option(options, "--chunk-size", chunk_size=size, max_streams=1)
        recognizer = Recognizer(loaded, graph, sized)
        left_chunks[size] = sized.num_left_chunks
        reports[size] = measure_latency(
            recognizer, cuts, references, args.piece_ms / 1000.0, args.tail_seconds, not args.no_work,
            f"chunk {size}",
        )  # fmt: skip
    frame_seconds = recognizer.frame_shift_seconds
    figures = {size: report.figures() for size, report in reports.items()}
    record = {
        "model": str(args.model),
        "graph": str(args.graph or args.model),
        "manifest": str(args.manifest),
        "method": options.method,
        "method_options": dict(options.method_options),
        "left_chunks": {str(size): count for size, count in left_chunks.items()},
        "full_context_final": options.full_context_final,
        "piece_ms": args.piece_ms,
        "tail_seconds": args.tail_seconds,
        "counts_work": not args.no_work,
        "precision": args.precision,
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "frame_ms": 1000.0 * frame_seconds,
        "chunk_sizes": {str(size): found for size, found in figures.items()},
    }
    print(format_latency(figures, frame_seconds))
    write_json(args.output / "latency.json", record)
    write_figure(latency_figure(reports, frame_seconds), args.output / "latency.png")
    print(f"\nwritten: {args.output / 'latency.json'}")
    return 0
