"""The search of segments: the engine's, with an idea of what silence is."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from moe_asr.fsa.lattice import Lattice
from moe_asr.text.normalize import SPACE

if TYPE_CHECKING:
    from moe_asr.fsa.context import ContextGraph
    from moe_asr.fsa.native import NativeEngine
    from moe_asr.fsa.native.partial import PartialResult
    from moe_asr.fsa.native.stream import NativeStream
    from moe_asr.text.tokenizer import Tokenizer


ENOUGH, WITHIN = 4, 25  # tokens that noise seldom makes within so many frames


class SegmentSearch:
    """Lattices of segments, empty where nothing was said.

    Many a graph has no way to say nothing: an n-gram's has one for the empty sentence only if that was in
    its training text. There, silence would be the cheapest word, and a token or two that a model sees in
    noise would be completed to one. So a segment has no words if no word was heard:

    - the best path, before the scores of ending are added, has passed none, and its tokens spell none;
    - and nowhere does the model itself see `ENOUGH` tokens within `WITHIN` frames (its most probable ones).
      The best path leaves a word unfinished that is dear to the language model, which counts whole words.

    Separators (``▁`` alone) are nothing: models put the one of the first word into the silence before it, and
    also where no word follows. On graphs of tokens, and with tokens that spell no words, any other token of
    the best path is heard.

    Args:
        engine: of the graph.
        tokenizer: of its tokens.
        ends_anywhere: whether a segment whose words cannot end where it ends has the best that there are.
    """

    def __init__(self, engine: "NativeEngine", tokenizer: "Tokenizer", ends_anywhere: bool) -> None:
        self.engine, self.ends_anywhere = engine, ends_anywhere
        self._tokenizer = tokenizer
        self._knows_words = engine.graph.kind in ("LG", "HLG") and tokenizer.spells_words
        self._separator = engine.graph.token_table.get(SPACE, -1)

    def num_silent_frames(self, status: "PartialResult") -> int:
        """Frames at the end of the best path in which nothing is heard; all, if nothing is in any."""
        for token, end in zip(reversed(status.tokens), reversed(status.token_ends), strict=True):
            if token != self._separator:
                return max(status.num_frames - 1 - end, 0)
        return status.num_frames

    def finish(self, state: "NativeStream", best_tokens: np.ndarray) -> Lattice:
        """Ends the search of a segment, whose frames' most probable tokens are ``best_tokens`` (T,)."""
        status = self.engine.partial(state)
        lattice = self.engine.finish(state, self.ends_anywhere)
        return lattice if self._is_heard(status, best_tokens) else Lattice.empty(status.num_frames)

    def _is_heard(self, status: "PartialResult", best_tokens: np.ndarray) -> bool:
        if self.num_silent_frames(status) < status.num_frames:
            if status.words or not self._knows_words:
                return True
            # the label of a word may stand behind its last token
            spelled = self._tokenizer.decode(list(status.tokens)).split()
            if any(word in self.engine.graph.word_table for word in spelled):
                return True
        return self._knows_words and self._num_tokens(best_tokens) >= ENOUGH

    def _num_tokens(self, best_tokens: np.ndarray) -> int:
        """The most that begin within `WITHIN` frames."""
        begins = np.diff(best_tokens, prepend=0) != 0
        begins &= (best_tokens != 0) & (best_tokens != self._separator)
        frames = np.flatnonzero(begins)
        return int(
            (np.searchsorted(frames, frames + WITHIN) - np.arange(len(frames))).max(initial=0)
        )

    def search(
        self,
        log_probs: Tensor,
        lengths: Sequence[int],
        segment_ids: Sequence[str],
        contexts: "Sequence[ContextGraph | None]",
    ) -> list[Lattice]:
        """The lattices of whole segments.

        Args:
            log_probs: (N, T, V) float32.
            lengths: frames of each, 0..T.
            segment_ids: for messages.
            contexts: phrases of each.

        Raises:
            DataError: naming a segment whose log-probabilities hold NaN or infinity.
        """
        states = [self.engine.start(context) for context in contexts]
        rows = [log_probs[n, :length] for n, length in enumerate(lengths)]
        self.engine.advance(states, rows, segment_ids)
        best = [row.argmax(1).numpy() if len(row) else np.zeros(0, np.int64) for row in rows]
        return [self.finish(state, tokens) for state, tokens in zip(states, best, strict=True)]
