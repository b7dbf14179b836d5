"""Whether streams give what a whole utterance gives under the same chunk mask: text, scores, lattices.

    python -m benchmarks.streaming_equality --model DIR --graph G --manifest CUTS [--utterances 200]
        [--chunk-sizes 4,8,16,32] [--left-chunks 8,1] [--method lattice_attention_rescoring]

Every utterance is a stream of its own that joins and leaves at random, is fed pieces of random sizes, and is
decoded in batches of random streams (`benchmarks.random_streams`), without endpoints. The reference encodes
whole utterances under the chunk mask, several in a padded batch, and searches them whole. Lattices are the
same if their arcs match as `benchmarks.lattice_difference` says; an arc that only one has must lie at the
edge of the output beam. Ends with status 1 if anything differs. The last line is one JSON object:
``{"cells": [{"chunk_size", "left_chunks", "utterances", "texts", "lattices", "arcs", "arcs_at_edge",
"arcs_different", "score", "arc_score"}]}``; see `Equality`.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from benchmarks.lattice_difference import compare_lattices
from benchmarks.random_streams import stream_randomly
from benchmarks.second_pass import whole_numbers
from moe_asr.audio.fbank import make_fbank
from moe_asr.data.dataset import load_waveform
from moe_asr.data.manifests import read_cuts
from moe_asr.decode.registry import DecodingResources, EncodedBatch, Hypothesis, make_method
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lattice import Lattice
from moe_asr.model.directory import LoadedModel, load_model_dir
from moe_asr.recognizer.endpoint import EndpointOptions
from moe_asr.recognizer.options import SECOND_PASS, RecognizerOptions
from moe_asr.recognizer.recognizer import Recognizer
from moe_asr.recognizer.results import Result

Offline = dict[str, tuple[Hypothesis, Lattice]]
Waveforms = Mapping[str, np.ndarray]
BATCH = 8


def decode_whole(
    loaded: LoadedModel, graph: DecodingGraph, options: RecognizerOptions, waveforms: Waveforms
) -> Offline:
    """By name, what the method of the options finds in each whole utterance under their chunk mask."""
    resources = DecodingResources(loaded.tokenizer, graph, model=loaded.model)
    method = make_method(options.method, resources, {"partial": True, **options.method_options})
    assert method.first_pass is not None, options.method
    found: Offline = {}
    for batch in _encoded(loaded, options, waveforms):
        lattices = method.first_pass.lattices(batch)
        hypotheses = method.decode(batch)
        found.update(zip(batch.utterance_ids, zip(hypotheses, lattices, strict=True), strict=True))
    return found


@torch.no_grad()
def _encoded(
    loaded: LoadedModel, options: RecognizerOptions, waveforms: Waveforms
) -> Iterator[EncodedBatch]:
    fbank = make_fbank(loaded.fbank_options)
    names = sorted(waveforms, key=lambda name: len(waveforms[name]))
    for begin in range(0, len(names), BATCH):
        some = names[begin : begin + BATCH]
        features = [torch.from_numpy(fbank(waveforms[name])) for name in some]
        lengths = torch.tensor([len(matrix) for matrix in features])
        memory, lengths = loaded.model.encode(
            pad_sequence(features, batch_first=True),
            lengths,
            options.chunk_size,
            options.num_left_chunks,
        )
        yield EncodedBatch(loaded.model.ctc_log_probs(memory), lengths, some, memory)


def stream_all(
    recognizer: Recognizer, waveforms: Waveforms, rng: np.random.Generator, **streams: Any
) -> tuple[dict[str, Result], dict[str, Lattice]]:
    """By name, the one final result of each stream and its lattice; ``streams`` as of `stream_randomly`."""
    lattices: dict[str, Lattice] = {}
    first_pass = recognizer.method.first_pass
    assert first_pass is not None
    first_pass.lattice_sink = lattices.__setitem__
    try:
        run = stream_randomly(recognizer, waveforms, recognizer.sample_rate, rng, **streams)
    finally:
        first_pass.lattice_sink = None
    finals = {name: run.finals(name) for name in waveforms}
    assert all(len(found) == 1 for found in finals.values()), (
        "a stream without endpoints is one segment"
    )
    by_stream = {name.rpartition("-")[0]: lattice for name, lattice in lattices.items()}
    return {name: found[0] for name, found in finals.items()}, by_stream


@dataclass
class Equality:
    """Of the utterances of one chunk size.

    Attributes:
        texts, lattices: numbers of those that differ.
        arcs: of the lattices of whole utterances.
        arcs_at_edge: that only one side has, at the edge of the output beam.
        arcs_different: that only one side has, elsewhere.
        score: the largest difference of the scores of final results.
        arc_score: of the scores of an arc that both sides have.
    """

    chunk_size: int
    left_chunks: int
    utterances: int = 0
    texts: int = 0
    lattices: int = 0
    arcs: int = 0
    arcs_at_edge: int = 0
    arcs_different: int = 0
    score: float = 0.0
    arc_score: float = 0.0
    different: list[str] = field(default_factory=list)

    def add(
        self,
        name: str,
        result: Result,
        lattice: Lattice | None,
        whole: tuple[Hypothesis, Lattice],
        beam: float,
    ) -> None:
        """Compares an utterance. One in which no word was heard has no lattice: its text is compared."""
        hypothesis, expected = whole
        if lattice is None:
            self.utterances += 1
            self.texts += hypothesis.text != ""
            if hypothesis.text:
                self.different.append(f"{name}: nothing was heard, whole: '{hypothesis.text}'")
            return
        difference = compare_lattices(lattice, expected, beam)
        self.utterances += 1
        self.texts += result.text != hypothesis.text
        self.lattices += not difference.is_same
        self.arcs += expected.num_arcs
        self.arcs_at_edge += difference.num_at_edge
        self.arcs_different += difference.num_different
        self.arc_score = max(self.arc_score, difference.largest_score)
        if result.text == hypothesis.text and hypothesis.score is not None:
            self.score = max(self.score, abs((result.score or 0.0) - hypothesis.score))
        if result.text != hypothesis.text or not difference.is_same:
            self.different.append(
                f"{name}: '{result.text}', whole: '{hypothesis.text}'; {difference}"
            )


def compare_streams(
    loaded: LoadedModel,
    graph: DecodingGraph,
    options: RecognizerOptions,
    waveforms: Waveforms,
    rng: np.random.Generator,
    **streams: Any,
) -> Equality:
    """Streams and whole utterances under the options, which have no endpoints."""
    assert not options.endpoint.enabled and not options.full_context_final, options
    recognizer = Recognizer(loaded, graph, options)
    whole = decode_whole(loaded, graph, options, waveforms)
    results, lattices = stream_all(recognizer, waveforms, rng, **streams)
    equality = Equality(options.chunk_size, options.num_left_chunks)
    for name in waveforms:
        beam = recognizer.engine.options.output_beam
        equality.add(name, results[name], lattices.get(name), whole[name], beam)
    return equality


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--utterances", type=int, default=200)
    parser.add_argument("--chunk-sizes", type=whole_numbers, default=[4, 8, 16, 32])
    parser.add_argument(
        "--left-chunks", type=whole_numbers, default=[None], help="default: 128 frames"
    )
    parser.add_argument("--method", default=SECOND_PASS)
    parser.add_argument("--streams", type=int, default=12, help="at a time, at most")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    loaded, graph = load_model_dir(args.model), DecodingGraph.load(args.graph)
    cuts = list(read_cuts(args.manifest))[: args.utterances]
    rate = loaded.fbank_options.sample_rate
    waveforms = {cut.id: load_waveform(cut, rate) for cut in cuts}
    seconds = sum(map(len, waveforms.values())) / rate
    print(
        f"{len(cuts)} utterances, {seconds:.0f} s\n{'chunk':>5}{'left':>6}{'texts':>7}{'lattices':>10}"
        f"{'arcs':>10}{'at edge':>9}{'different':>11}{'score':>10}{'arc score':>11}{'s':>7}"
    )
    cells = []
    for left_chunks in args.left_chunks:
        for chunk_size in args.chunk_sizes:
            options = RecognizerOptions(
                chunk_size, left_chunks, max_streams=args.streams, method=args.method,
                endpoint=EndpointOptions(enabled=False), partial_results=False,
            )  # fmt: skip
            since = time.perf_counter()
            cell = compare_streams(
                loaded, graph, options, waveforms, np.random.default_rng(chunk_size),
                most_streams=args.streams,
            )  # fmt: skip
            print(
                f"{chunk_size:>5}{cell.left_chunks:>6}{cell.texts:>7}{cell.lattices:>10}{cell.arcs:>10}"
                f"{cell.arcs_at_edge:>9}{cell.arcs_different:>11}{cell.score:>10.1e}"
                f"{cell.arc_score:>11.1e}{time.perf_counter() - since:>7.1f}",
                flush=True,
            )
            for line in cell.different:
                print(f"  {line}")
            cells.append(cell)
    print(json.dumps({"cells": [summary(cell) for cell in cells]}))
    return int(any(cell.texts or cell.lattices for cell in cells))


def summary(cell: Equality) -> dict[str, Any]:
    """As it is in the last line."""
    return {key: value for key, value in vars(cell).items() if key != "different"}


if __name__ == "__main__":
    sys.exit(main())
