"""Lattices of many arcs as CTC decoding makes them: what the lattice benchmarks share. Deterministic.

The native engine searches a bigram LG over the words of `benchmarks.big_graph`, on posteriors simulated for a
text of that bigram.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch

from benchmarks.big_graph import BigInputs, make_inputs
from moe_asr.fsa.build import build_lg
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lexicon_fst import lexicon_fst
from moe_asr.fsa.native import NativeEngine, NativeSearchOptions


@dataclass(frozen=True, eq=False)
class CtcLattice:
    """A lattice, the words that were said (ids), and the beam that its arcs are within."""

    lattice: Lattice
    reference: list[int]
    beam: float


def make_ctc_lattices(
    beams: Sequence[float], num_frames: int = 600, num_words: int = 800, seed: int = 0
) -> list[CtcLattice]:
    """For each output beam the lattice of one utterance.

    By default it is a hard one: 5 errors in 25 words. A beam of 5.7 leaves 10 thousand arcs, one of 9.875 a
    hundred thousand.
    """
    with tempfile.TemporaryDirectory() as directory:
        inputs = make_inputs(Path(directory), num_words, 10 * num_words, vocab_size=120)
    tokens = inputs.tokenizer.tokens
    l_disambig = lexicon_fst(inputs.lexicon, tokens, inputs.words)
    graph = build_lg(l_disambig, inputs.g, tokens, inputs.words)
    rng = np.random.RandomState(seed)  # its stream is the same in every version of numpy
    log_probs, reference = simulate_posteriors(inputs, num_frames, rng)
    lattices = []
    for beam in beams:
        options = NativeSearchOptions(search_beam=20.0, output_beam=beam, max_active=1_000_000)
        (lattice,) = NativeEngine(graph, options).search(
            torch.from_numpy(log_probs)[None], torch.tensor([num_frames])
        )
        lattices.append(CtcLattice(lattice, reference, beam))
    return lattices


def simulate_posteriors(
    inputs: BigInputs, num_frames: int, rng: np.random.RandomState, peak: float = 3.0
) -> tuple[np.ndarray, list[int]]:
    """(T, C) log-probabilities of an utterance of sentences of the text, and its words (ids).

    A token wins 1 or 2 frames, 2 to 5 frames of blank follow; the logits of all labels are normal with
    deviation 1.5, that of the winner has ``peak`` more.
    """
    words: list[str] = []
    labels: list[int] = []
    for word in (word for number in count() for word in inputs.text.sentence(number)):
        spelled: list[int] = []
        for token in inputs.tokenizer.encode(word):
            spelled += [token] * rng.randint(1, 3) + [0] * rng.randint(2, 6)
        if len(labels) + len(spelled) > num_frames:
            break
        words.append(word)
        labels += spelled
    labels += [0] * (num_frames - len(labels))
    logits = 1.5 * rng.standard_normal((num_frames, len(inputs.tokenizer.tokens)))
    logits[np.arange(num_frames), labels] += peak
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return log_probs.astype(np.float32), [inputs.words[word] for word in words]
