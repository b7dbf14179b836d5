"""Forced alignment: when each token and word of a known text was said.

Exact Viterbi over all alignments of all spellings of the text (`moe_asr.fsa.text_graph`); the CTC topology is
implied. Legend: N utterances, T frames, C tokens.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from moe_asr.errors import DataError, TextError
from moe_asr.fsa.align_kernels import best_states, occupancy
from moe_asr.fsa.log_probs import check_log_probs, name_of
from moe_asr.fsa.text_graph import TextGraph, text_graph
from moe_asr.fsa.topology import check_topology
from moe_asr.text.spelling import Speller

INTERVAL = 1024  # frames between the points at which the first pass is kept


@dataclass(frozen=True)
class AlignedToken:
    """A token of an alignment.

    Attributes:
        token: its id.
        first_frame, last_frame: the frames that it is the label of, both included.
        log_prob: the sum of its log-probabilities in these frames.
        is_separator: a mark of a word boundary, which belongs to no word.
    """

    token: int
    first_frame: int
    last_frame: int
    log_prob: float
    is_separator: bool = False


@dataclass(frozen=True)
class AlignedWord:
    """A word of an alignment.

    Attributes:
        word: as the text has it.
        first_frame, last_frame: of its tokens, both included.
        tokens: their places among the tokens: the first, and the one after the last; a separator is left out.
        confidence: the mean posterior of the tokens in their frames: the mean over all frames of these tokens
            of the probability that the model gives the token there, 0..1.
    """

    word: str
    first_frame: int
    last_frame: int
    tokens: tuple[int, int]
    confidence: float


@dataclass(frozen=True)
class Alignment:
    """The best alignment of an utterance.

    Attributes:
        utterance_id: as given, or the place in the batch.
        num_frames: T of the utterance.
        tokens: in order.
        words: all words of the text, in order.
        acoustic: the log-probabilities of the labels of all frames, blanks included.
        graph: the log probability of the spellings that were chosen.
    """

    utterance_id: str
    num_frames: int
    tokens: tuple[AlignedToken, ...]
    words: tuple[AlignedWord, ...]
    acoustic: float
    graph: float

    @property
    def score(self) -> float:
        """The natural log probability of the alignment, ``acoustic + graph``."""
        return self.acoustic + self.graph


@dataclass(frozen=True)
class ExpectedTimes:
    """Times of words over all alignments instead of the best one.

    Attributes:
        log_prob: natural log of the text's probability, summed over its alignments and spellings.
        starts, ends: of each word, in frames from the utterance's start (not whole ones): the mean, over all
            alignments weighted by their probability, of the word's first frame and of the frame after its
            last one.
    """

    log_prob: float
    starts: tuple[float, ...]
    ends: tuple[float, ...]


class TextAligner:
    """Aligns texts with CTC log-probabilities.

    Args:
        speller: of the model's tokens.
        topology: of CTC, ``standard`` or ``modified`` (no blank needed between equal neighbours).
        interval: frames between the points at which the first pass is kept; it changes memory and time, not
            the result (`moe_asr.fsa.align_kernels.best_states`).

    Raises:
        GraphError: on another topology.
    """

    def __init__(
        self, speller: Speller, topology: str = "standard", interval: int = INTERVAL
    ) -> None:
        check_topology(topology)
        if interval < 1:
            raise ValueError(f"interval must be at least 1, found {interval}")
        self.speller = speller
        self._topology = topology
        self._interval = interval

    def align(
        self,
        log_probs: Tensor,
        lengths: Tensor,
        texts: Sequence[str],
        utterance_ids: Sequence[str] | None = None,
    ) -> list[Alignment]:
        """The best alignment of each utterance; of several equally good ones, one.

        Args:
            log_probs: (N, T, C) float32, natural log, blank = 0; -inf is allowed. What is behind an
                utterance's length is not looked at.
            lengths: (N,) frames of each utterance.
            texts: N.
            utterance_ids: for messages and results.

        Raises:
            DataError: naming the utterance: a word has no spelling, there are too few frames for the text,
                every alignment has a log-probability of -inf, or one is NaN or +inf; or if C is not the
                number of tokens.
        """
        alignments = []
        for name, rows, graph in self._inputs(log_probs, lengths, texts, utterance_ids):
            splits, entering = graph.entering
            states = best_states(
                rows, graph.src, graph.dst, graph.token, graph.score, graph.leaving, splits, entering,
                self._is_modified, self._interval,
            )  # fmt: skip
            if len(states) < max(len(rows), min(graph.num_arcs, 1)):
                raise DataError(self._no_alignment(name, rows, graph))
            alignments.append(_alignment(name, rows, graph, states))
        return alignments

    def expected_times(
        self,
        log_probs: Tensor,
        lengths: Tensor,
        texts: Sequence[str],
        utterance_ids: Sequence[str] | None = None,
    ) -> list[ExpectedTimes]:
        """The expected times of the words of each utterance, by the forward-backward algorithm.

        Time is that of a few exponentials for each frame and each pair of neighbouring tokens, memory
        16 (A + V) sqrt(T) bytes: for utterances, not for hours.

        Args, Raises: see `align`.
        """
        results = []
        for name, rows, graph in self._inputs(log_probs, lengths, texts, utterance_ids):
            begun, ended = _words_passed(graph)
            splits, entering = graph.entering
            total, begun_frames, ended_frames = occupancy(
                rows, graph.dst, graph.token, graph.score, graph.leaving, splits, entering,
                self._is_modified, begun, ended, len(graph.words), max(1, round(len(rows) ** 0.5)),
            )  # fmt: skip
            if not total > -np.inf:
                raise DataError(self._no_alignment(name, rows, graph))
            starts, ends = np.cumsum(begun_frames[:-1]), np.cumsum(ended_frames[:-1])
            results.append(ExpectedTimes(total, tuple(starts.tolist()), tuple(ends.tolist())))
        return results

    @property
    def _is_modified(self) -> bool:
        return self._topology == "modified"

    def _inputs(
        self,
        log_probs: Tensor,
        lengths: Tensor,
        texts: Sequence[str],
        utterance_ids: Sequence[str] | None,
    ) -> list[tuple[str, np.ndarray, TextGraph]]:
        frames = check_log_probs(log_probs, lengths, None, utterance_ids)
        num_tokens = len(self.speller.tokens)
        if log_probs.shape[2] != num_tokens:
            raise DataError(
                f"log_probs are of {log_probs.shape[2]} tokens; {self.speller.tokens.source} has "
                f"{num_tokens}"
            )
        if len(texts) != len(frames):
            raise DataError(f"found {len(texts)} texts of {len(frames)} utterances")
        values = log_probs.detach().to("cpu", torch.float32)
        inputs = []
        for index, (length, text) in enumerate(zip(frames, texts, strict=True)):
            name = name_of(index, utterance_ids)
            try:
                graph = text_graph(self.speller.spell(text), self.speller.tokens)
            except TextError as error:
                raise DataError(f"utterance {name}: {error}") from error
            inputs.append((name, values[index, :length].contiguous().numpy(), graph))
        return inputs

    def _no_alignment(self, name: str, rows: np.ndarray, graph: TextGraph) -> str:
        needed = graph.min_frames(self._topology)
        if len(rows) < needed:
            return (
                f"utterance {name}: too few frames for its text: {len(rows)}, and its "
                f"{len(graph.words)} words need at least {needed}"
            )
        return f"utterance {name}: every alignment of its text has a log-probability of -inf"


def _alignment(name: str, rows: np.ndarray, graph: TextGraph, states: np.ndarray) -> Alignment:
    labels = np.zeros(len(rows), np.int32)
    is_token = states < graph.num_arcs
    labels[is_token] = graph.token[states[is_token]]
    scores = rows[np.arange(len(rows)), labels].astype(np.float64)
    tokens: list[AlignedToken] = []
    arcs: list[int] = []
    frame = 0
    for state, run in itertools.groupby(states.tolist()):
        end = frame + len(list(run))
        if state < graph.num_arcs:
            tokens.append(
                AlignedToken(
                    int(graph.token[state]),
                    frame,
                    end - 1,
                    float(scores[frame:end].sum()),
                    bool(graph.is_separator[state]),
                )
            )
            arcs.append(state)
        frame = end
    words = []
    end = 0
    for number, word in enumerate(graph.words):
        begin = end
        while end < len(arcs) and graph.word[arcs[end]] == number:
            end += 1
        begin += tokens[begin].is_separator
        own = tokens[begin:end]
        posteriors = np.concatenate(
            [np.exp(scores[token.first_frame : token.last_frame + 1]) for token in own]
        )
        words.append(
            AlignedWord(
                word, own[0].first_frame, own[-1].last_frame, (begin, end), float(posteriors.mean())
            )
        )
    return Alignment(
        name,
        len(rows),
        tuple(tokens),
        tuple(words),
        float(scores.sum()),
        float(graph.score[arcs].sum()),
    )


def _words_passed(graph: TextGraph) -> tuple[np.ndarray, np.ndarray]:
    """(A + V,) int32, twice: the words that have begun, and ended, in each state of the kernels."""
    nodes = np.arange(graph.num_nodes)
    whole = np.searchsorted(graph.word_nodes, nodes, side="right") - 1  # words before the node
    entered = np.zeros(graph.num_nodes, bool)
    entered[graph.dst[~graph.is_separator]] = True  # by a token of the word's own
    inside = entered & (graph.word_nodes[whole] < nodes)
    begun = np.concatenate([graph.word + ~graph.is_separator, whole + inside])
    return begun.astype(np.int32), np.concatenate([graph.word, whole]).astype(np.int32)
