"""The search of segments: the engine's, with an idea of what silence is."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from moe_asr.fsa.lattice import Lattice
from moe_asr.text.normalize import SPACE

if TYPE_CHECKING:
    from moe_asr.fsa.context import ContextGraph
    from moe_asr.fsa.native import NativeEngine
    from moe_asr.fsa.native.partial import PartialResult
    from moe_asr.fsa.native.stream import NativeStream
    from moe_asr.text.tokenizer import Tokenizer


class SegmentSearch:
    """Lattices of segments, empty where nothing was said.

    Many a graph has no way to say nothing: an n-gram's has one for the empty sentence only if that was in
    its training text. There, silence would be the cheapest word, and a token or two that a model sees in
    noise would be completed to one. So a segment has no words if in its best path, before the scores of
    ending are added, no word was heard: the path has passed none, and its tokens spell none. Separators
    (``▁`` alone) are nothing: models put the one of the first word into the silence before it, and also where
    no word follows. (On graphs of tokens, and with tokens that spell no words, any other token is heard.)

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

    def finish(self, state: "NativeStream") -> Lattice:
        """Ends the search of a segment."""
        status = self.engine.partial(state)
        lattice = self.engine.finish(state, self.ends_anywhere)
        return lattice if self._is_heard(status) else Lattice.empty(status.num_frames)

    def _is_heard(self, status: "PartialResult") -> bool:
        if self.num_silent_frames(status) == status.num_frames:
            return False
        if status.words or not self._knows_words:
            return True
        # the label of a word may stand behind its last token
        spelled = self._tokenizer.decode(list(status.tokens)).split()
        return any(word in self.engine.graph.word_table for word in spelled)

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
        return [self.finish(state) for state in states]
