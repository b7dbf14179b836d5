"""Prints figures of lattices: sizes, density, number of paths, the best path.

Of one lattice everything, of several a line each. The log score of all paths is in the log semiring.
"""

import argparse
import json

from moe_asr.cli.lattice_input import add_input_arguments, read_lattices, read_tables


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``lattice info``."""
    add_input_arguments(parser)
    parser.add_argument("--json", action="store_true", help="a JSON object for each, a line each")


def run(args: argparse.Namespace) -> int:
    """Prints the figures."""
    from moe_asr.fsa.lattice_file import LatticeArchive
    from moe_asr.fsa.lattice_info import (
        format_lattice_info,
        format_lattice_table,
        lattice_info,
        names_of,
    )

    with LatticeArchive(args.lattices) as archive:
        tokens, words = read_tables(args, archive)
        scales = args.acoustic_scale, args.graph_scale
        infos = [(name, lattice_info(x, *scales)) for name, x in read_lattices(args, archive)]
        if args.json:
            for name, info in infos:
                if info["best"] is not None and words is not None:
                    info["best"]["text"] = names_of(info["best"]["words"], words)
                print(json.dumps({"utterance": name, **info}, ensure_ascii=False))
        elif len(infos) == 1:
            about = [
                ("file", f"{args.lattices} (of {len(archive):,} lattices)"),
                ("utterance", infos[0][0]),
                *(
                    (f"  {key}", value if isinstance(value, str) else json.dumps(value))
                    for key, value in archive.metadata.items()
                ),
            ]
            print(format_lattice_info(infos[0][1], about, tokens, words))
        else:
            print(format_lattice_table(infos, words))
    return 0
