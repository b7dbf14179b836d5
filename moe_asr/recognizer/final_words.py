"""When the words of a hypothesis were said, and how sure the lattice is of them, at a bounded cost."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from moe_asr.decode.first_pass import LatticeMethod, LmScaleOptions, smallest_lattice
from moe_asr.decode.registry import Hypothesis
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.time_correction import TimedWord
from moe_asr.fsa.word_times import Span
from moe_asr.recognizer.word_timer import TokenPath, WordTimer

if TYPE_CHECKING:
    from moe_asr.fsa.context import ContextGraph
    from moe_asr.fsa.nbest import NBestPath

# Larger lattices are pruned before confidences are computed, and fewer columns followed than is usual: an
# ordinary lattice is not touched, and the largest takes some ten milliseconds (docs/endpointing.md). Segments
# longer than that are taken piece by piece, or the work would grow with the square of their length.
MAX_ARCS, ARCS_A_FRAME, MAX_COLUMNS = 3000, 5, 50
LONG_FRAMES, PIECE_FRAMES = 1000, 250
_MAX_CELLS = 1 << 25  # of columns times words

TimedWords = list[tuple[TimedWord[str], float | None]]


class FinalWords:
    """Times and confidences for what a method has found.

    Times are those of the tokens of its path. A method without paths (``mbr``) gives words: the best path of
    these is looked for among the n best; words that are on none of those are put where, on average, the paths
    have what stands in their place.

    Confidences are a method's own, where it has them; else they are computed (`moe_asr.fsa.confidence`) from
    the first pass's lattice, with the method's ``lm_scale`` and ``length_bonus``, so that scores of a second
    pass do not count. A word of a graph of tokens has the least of its tokens'.

    Args:
        method: whose hypotheses they are.
        timer: of its graph.
        confidences: whether they are wanted.
    """

    def __init__(self, method: LatticeMethod, timer: WordTimer, confidences: bool = True) -> None:
        from moe_asr.decode.lm_rescoring import LatticeLmOptions, NBestLmOptions

        self._method, self._timer = method, timer
        self._wanted = confidences
        options = method.options
        self._weights: LmScaleOptions | None = None
        if isinstance(options, LmScaleOptions):
            self._weights = options
            # where another model takes the place of the graph's, lm_scale is that one's weight
            if isinstance(options, (LatticeLmOptions, NBestLmOptions)):
                self._weights = replace(options, lm_scale=1.0)
        self._acoustic_scale = float(getattr(options, "acoustic_scale", 1.0))
        self._aligned(smallest_lattice(), [1])  # compiles

    def words(
        self, lattice: Lattice, hypothesis: Hypothesis, context: "ContextGraph | None" = None
    ) -> TimedWords:
        """The words, in seconds from the lattice's first frame, with confidences or None.

        Args:
            lattice: that the method has decoded.
            hypothesis: what it found.
            context: of the phrases that the search listened for.

        Raises:
            GraphError: if words and tokens of the path do not fit together.
        """
        if not hypothesis.words:
            return []
        weighted = self._weights.weighted(lattice, context) if self._weights else lattice
        path = hypothesis.path or self._find(weighted, hypothesis)
        if path is None:
            return self._placed(weighted, hypothesis)
        given = TokenPath(
            path.words, path.tokens, path.token_frames, path.token_ends, lattice.is_partial
        )
        words, spans = self._timer.timed(given, lattice.num_frames)
        confidences: Sequence[float | None] = [None] * len(words)
        if self._wanted and hypothesis.confidences is not None:
            confidences = hypothesis.confidences
        elif self._wanted:
            confidences = self._of_words(self._sure(weighted, path), spans)
        return list(zip(words, confidences, strict=True))

    def _find(self, weighted: Lattice, hypothesis: Hypothesis) -> "NBestPath | None":
        from moe_asr.fsa.nbest import nbest

        n = int(getattr(self._method.options, "n", 1))
        for path in nbest(weighted, n, acoustic_scale=self._acoustic_scale):
            if self._text(path.words) == hypothesis.text:
                return path
        return None

    def _text(self, words: tuple[int, ...]) -> str:
        if self._timer.has_words:
            return " ".join(self._method.graph.word_symbols(words))
        return self._method.resources.tokenizer.decode(words)

    def _placed(self, weighted: Lattice, hypothesis: Hypothesis) -> TimedWords:
        timer = self._timer
        if timer.has_words:
            ids = [self._method.graph.word_table[word] for word in hypothesis.words]
        else:
            ids = self._method.resources.tokenizer.encode(hypothesis.text)
        confidences, frames = self._aligned(weighted, ids)
        at = np.maximum.accumulate(np.nan_to_num(frames, nan=0.0)).astype(int).tolist()
        if timer.has_words:
            spans = [(place, place + 1) for place in range(len(ids))]
            ends = [
                min(frame + 1, later)
                for frame, later in zip(at, [*at[1:], at[-1] + 1], strict=True)
            ]
            words = [
                TimedWord(word, timer.seconds(frame), timer.seconds(end))
                for word, frame, end in zip(hypothesis.words, at, ends, strict=True)
            ]
        else:
            path = TokenPath((), tuple(ids), tuple(at), tuple(at))
            words, spans = timer.timed(path, weighted.num_frames)
        if not self._wanted:
            return [(word, None) for word in words]
        own = hypothesis.confidences
        known = self._of_words(confidences, spans) if own is None else own
        return list(zip(words, known, strict=True))

    def _sure(self, weighted: Lattice, path: "NBestPath") -> np.ndarray:
        """(W,) the confidences of the words of a path."""
        if weighted.num_frames <= LONG_FRAMES:
            return self._aligned(weighted, path.words)[0]
        from moe_asr.fsa.lattice_join import split_lattice

        pieces = split_lattice(self._bounded(weighted), PIECE_FRAMES)
        begins = [int(piece.frame[0]) for piece in pieces[1:]]
        piece_of = np.searchsorted(begins, path.word_frames, side="right")
        ids = np.array(path.words, np.int64)
        found = [
            self._aligned(piece, ids[piece_of == number])[0] for number, piece in enumerate(pieces)
        ]
        return np.concatenate(found)

    def _bounded(self, weighted: Lattice) -> Lattice:
        from moe_asr.fsa.lattice_scores import prune_to_size

        max_arcs = max(MAX_ARCS, ARCS_A_FRAME * weighted.num_frames)
        return prune_to_size(weighted, max_arcs, self._acoustic_scale)

    def _aligned(
        self, weighted: Lattice, ids: Sequence[int] | np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(W,) the confidence of each id, and the mean frame of what paths have in its place, or NaN."""
        from moe_asr.fsa.expected_errors import ExpectedErrors
        from moe_asr.fsa.label_distribution import label_distribution

        distribution = label_distribution(self._bounded(weighted), "word", self._acoustic_scale)
        cells = distribution.num_states * (len(ids) + 1)
        columns = max(min(MAX_COLUMNS, _MAX_CELLS // cells), 1)
        aligned = ExpectedErrors(distribution, columns).align(ids)  # type: ignore[arg-type]
        return aligned.confidences, aligned.frame

    def _of_words(self, confidences: np.ndarray, spans: Sequence[Span]) -> list[float]:
        if self._timer.has_words:
            return confidences.tolist()
        return [float(confidences[begin:end].min()) for begin, end in spans]
