"""Whether streams give what a whole utterance gives under the same chunk mask: text, scores, lattices.

    python -m benchmarks.streaming_equality --model DIR --graph G --manifest CUTS [--utterances 200]
        [--chunk-sizes 4,8,16,32] [--left-chunks 8] [--method lattice_attention_rescoring]

Every utterance is a stream of its own that joins and leaves at random, is fed pieces of random sizes, and is
decoded in batches of random streams (`benchmarks.random_streams`), without endpoints. The reference encodes
whole utterances under the chunk mask, several in a padded batch, and searches them whole. Lattices are the
same if their arcs match as `benchmarks.lattice_difference` says; an arc that only one has must lie at the edge
of the output beam. Ends with status 1 if anything differs. The last line is one JSON object:
``{"cells": [{"chunk_size", "utterances", "texts", "lattices", "arcs", "arcs_at_edge", ...}]}``, where texts and
lattices are numbers of those that differ.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from benchmarks.lattice_difference import compare_lattices
from benchmarks.random_streams import stream_randomly
from moe_asr.audio.fbank import make_fbank
from moe_asr.decode.registry import DecodingResources, EncodedBatch, Hypothesis, make_method
from moe_asr.fsa.lattice import Lattice
from moe_asr.recognizer.endpoint import EndpointOptions
from moe_asr.recognizer.options import SECOND_PASS, RecognizerOptions

if TYPE_CHECKING:
    from moe_asr.fsa.graph import DecodingGraph
    from moe_asr.model.directory import LoadedModel
    from moe_asr.recognizer.recognizer import Recognizer

Offline = dict[str, tuple[Hypothesis, Lattice]]
Waveforms = Mapping[str, np.ndarray]
BATCH = 8


def decode_whole(
    loaded: "LoadedModel", graph: "DecodingGraph", options: RecognizerOptions, waveforms: Waveforms
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
    loaded: "LoadedModel", options: RecognizerOptions, waveforms: Waveforms
) -> Iterator[EncodedBatch]:
    fbank = make_fbank(loaded.fbank_options)
    names = sorted(waveforms, key=lambda name: len(waveforms[name]))
    for begin in range(0, len(names), BATCH):
        some = names[begin : begin + BATCH]
        features = [torch.from_numpy(fbank(waveforms[name])) for name in some]
        lengths = torch.tensor([len(matrix) for matrix in features])
        memory, lengths = loaded.model.encode(
            pad_sequence(features, batch_first=True), lengths, options.chunk_size, options.left_chunks
        )
        yield EncodedBatch(loaded.model.ctc_log_probs(memory), lengths, some, memory)
