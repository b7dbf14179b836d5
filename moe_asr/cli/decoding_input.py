"""What the commands share that decode a manifest: the model, the cuts, graph, language models, phrases."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_asr.cli.torch_options import add_precision_argument, apply_torch_options

if TYPE_CHECKING:
    from lhotse.cut import Cut

    from moe_asr.decode.registry import DecodingResources
    from moe_asr.model.directory import LoadedModel


@dataclass
class DecodingInput:
    """The model, the cuts of the manifest and their transcripts by id, and what methods need."""

    loaded: "LoadedModel"
    cuts: "list[Cut]"
    references: dict[str, str]
    resources: "DecodingResources"


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares them."""
    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    parser.add_argument("--manifest", type=Path, required=True, help="cuts (.jsonl or .jsonl.gz)")
    parser.add_argument("--graph", type=Path, help="decoding graph, for methods that search one")
    parser.add_argument(
        "--lm", type=Path, metavar="ARPA", help="n-gram model that methods of LM rescoring put in"
    )
    parser.add_argument(
        "--graph-lm", type=Path, metavar="ARPA",
        help="the one that the graph was built with, which they take out; 'none' takes nothing out (default: "
        "the one on record beside the graph)",
    )  # fmt: skip
    parser.add_argument(
        "--phrases", type=Path, metavar="FILE",
        help="listen for these: 'phrase' or 'phrase<TAB>boost' a line (docs/context.md)",
    )  # fmt: skip
    parser.add_argument(
        "--utterance-phrases", type=Path, metavar="FILE",
        help="phrases of single utterances: 'id<TAB>phrase' or 'id<TAB>phrase<TAB>boost' a line",
    )  # fmt: skip
    parser.add_argument(
        "--option", action="append", default=[], metavar="METHOD.NAME=VALUE",
        help="repeatable, one_best.search_beam=15 for instance; all.NAME=VALUE is for every method that has "
        "such an option; all options are in docs/decoding.md",
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
    add_precision_argument(parser)


def read_input(args: argparse.Namespace, lattices: Path | None = None) -> DecodingInput:
    """Reads all of it.

    Args:
        lattices: an archive whose lattices are taken instead of searching.
    """
    from moe_asr.data.manifests import read_cuts
    from moe_asr.data.validation import transcript_of
    from moe_asr.decode.phrases import contexts_of
    from moe_asr.decode.registry import DecodingResources
    from moe_asr.evaluate.wer import collect
    from moe_asr.fsa.lattice_file import LatticeArchive
    from moe_asr.lang.graph_lm import check_graph_lm, find_graph_lm
    from moe_asr.lang.load_graph import load_graph
    from moe_asr.lm.arpa import read_arpa
    from moe_asr.model.directory import load_model_dir

    apply_torch_options(args)
    cuts = list(read_cuts(args.manifest))
    references = collect(((cut.id, transcript_of(cut)) for cut in cuts), str(args.manifest))
    loaded = load_model_dir(args.model, args.device, args.precision)
    graph = load_graph(args.graph) if args.graph else None
    graph_lm = None
    if graph is not None and args.lm and str(args.graph_lm) != "none":
        graph_lm = args.graph_lm or find_graph_lm(graph, args.graph)
        check_graph_lm(graph, graph_lm, str(args.graph))
    resources = DecodingResources(
        tokenizer=loaded.tokenizer,
        graph=graph,
        device=args.device,
        model=loaded.model,
        lm=read_arpa(args.lm) if args.lm else None,
        graph_lm=read_arpa(graph_lm) if graph_lm else None,
        references=references,
        context_of=contexts_of(
            args.phrases, args.utterance_phrases, graph, loaded.tokenizer, references
        ),
        archive=LatticeArchive(lattices) if lattices else None,
    )
    return DecodingInput(loaded, cuts, references, resources)


def describe(args: argparse.Namespace) -> dict[str, Any]:
    """The input's names, for the record."""
    names = (
        "model",
        "manifest",
        "graph",
        "lm",
        "graph_lm",
        "phrases",
        "utterance_phrases",
        "precision",
    )
    return {name: str(getattr(args, name)) for name in names if getattr(args, name) is not None}
