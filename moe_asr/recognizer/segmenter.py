"""The segments of streams: what is kept of one, when it ends, and where it is cut.

Legend: T encoder frames of a segment, D model dimension, F feature bins.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from moe_asr.recognizer.endpoint import cut_frame, detect_endpoint
from moe_asr.recognizer.finish import EndedSegment
from moe_asr.recognizer.options import RecognizerOptions
from moe_asr.recognizer.partials import SegmentPartials
from moe_asr.recognizer.segment_search import SegmentSearch
from moe_asr.recognizer.word_timer import TokenPath, WordTimer

if TYPE_CHECKING:
    from moe_asr.fsa.context import ContextGraph
    from moe_asr.fsa.native.partial import PartialResult
    from moe_asr.fsa.native.stream import NativeStream
    from moe_asr.model.u2 import U2MoeModel

INPUT_FINISHED, MEMORY = "input_finished", "memory"
CUTS = ("rule5", MEMORY)  # endpoints that may lie in mid-speech


@dataclass(eq=False)
class Segment:
    """What a stream keeps of the segment that is being recognised.

    Attributes:
        number: in the stream, from 0.
        first_frame: of the stream's encoder frames.
        search: the state of the engine.
        context: of the phrases that the stream listens for.
        memory: [chunk] (T, D) of the encoder.
        best_tokens: [chunk] (T,) the most probable token of each frame.
        features: [chunk] (n, F), used up; kept where the segment is encoded again when it ends.
        num_frames: encoder frames so far.
        num_blanks: frames at the end whose most probable token is blank.
        partials: what makes its partial results, once there are any.
    """

    number: int
    first_frame: int
    search: "NativeStream"
    context: "ContextGraph | None" = None
    memory: list[Tensor] = field(default_factory=list)
    best_tokens: list[np.ndarray] = field(default_factory=list)
    features: list[np.ndarray] = field(default_factory=list)
    num_frames: int = 0
    num_blanks: int = 0
    partials: SegmentPartials | None = None

    @property
    def num_bytes(self) -> int:
        memory = sum(chunk.numel() * chunk.element_size() for chunk in self.memory)
        arrays = sum(part.nbytes for part in (*self.features, *self.best_tokens))
        return memory + arrays + self.search.num_bytes

    def read(self, memory: Tensor, best_tokens: np.ndarray) -> None:
        """Keeps a chunk (T, D) that has been searched, and the most probable token of each frame (T,)."""
        self.memory.append(memory.clone())  # not a view of the whole batch
        self.best_tokens.append(best_tokens)
        self.num_frames += len(memory)
        spoken = np.flatnonzero(best_tokens)
        blanks = len(best_tokens) - 1 - int(spoken[-1]) if len(spoken) else len(best_tokens)
        self.num_blanks = blanks if len(spoken) else self.num_blanks + blanks


@dataclass(frozen=True, eq=False)
class Ended:
    """How a segment has ended.

    Attributes:
        segment: what has ended.
        features: (n, F) of it, where features are kept.
        following: the segment that begins with the next frame.
    """

    segment: EndedSegment
    features: np.ndarray | None
    following: Segment


class Segmenter:
    """Begins, ends and cuts segments, by the rules of the options.

    Args:
        model, search, options: of the recogniser.
        timer: knows where words lie: none is cut.
    """

    def __init__(
        self,
        model: "U2MoeModel",
        search: SegmentSearch,
        options: RecognizerOptions,
        timer: WordTimer,
    ) -> None:
        self._model, self._search, self._options = model, search, options
        self._engine = search.engine
        self._timer = timer
        self._max_bytes = options.max_segment_megabytes * (1 << 20)
        self._subsampling = model.config.subsampling
        self._window = model.chunk_feature_frames(1)[0]  # feature frames of one encoder frame

    @cached_property
    def nothing(self) -> Segment:
        """What a stream has that has ended."""
        return self.start(None)

    def start(self, context: "ContextGraph | None") -> Segment:
        """The first segment of a stream."""
        return Segment(0, 0, self._engine.start(context), context)

    def endpoint(self, segment: Segment, status: "PartialResult") -> str:
        """Why a segment ends now; '' if it does not."""
        if segment.num_bytes > self._max_bytes:
            return MEMORY
        if not self._options.endpoint.enabled or segment.num_frames == 0:
            return ""
        silent = self._search.num_silent_frames(status)
        return detect_endpoint(
            segment.num_blanks if status.is_dead else silent,
            status.final_relative_cost,
            segment.num_frames,
            self._timer.frame_shift_seconds,
            self._options.endpoint,
        )

    def end(
        self, segment: Segment, stream_id: str, reason: str, lookahead: np.ndarray | None = None
    ) -> Ended:
        """Ends a segment at its last frame.

        Args:
            lookahead: (n, F) feature frames behind it that its last encoder frame has seen.
        """
        parts = segment.features if lookahead is None else [*segment.features, lookahead]
        return Ended(
            self._ended(segment, segment.search, segment.num_frames, stream_id, reason),
            np.concatenate(parts) if parts else None,
            self._next(segment, segment.num_frames),
        )

    def cut(
        self, segment: Segment, status: "PartialResult", stream_id: str, reason: str,
        lookahead: np.ndarray | None = None,
    ) -> Ended:  # fmt: skip
        """Ends a segment in its longest pause; what is behind that is searched again, as the next one's.

        Args: as of `end`.
        """
        words = self._timer.word_frames(TokenPath.of_status(status), segment.num_frames)
        frame = cut_frame(*words, segment.num_frames)
        assert 0 < frame <= segment.num_frames, (frame, segment.num_frames)
        if frame == segment.num_frames:
            return self.end(segment, stream_id, reason, lookahead)
        memory = self._memory(segment)
        with torch.no_grad():
            log_probs = self._model.ctc_log_probs(memory).cpu()
        search = self._engine.start(segment.context)
        self._engine.advance([search], [log_probs[:frame]], [stream_id])
        ended = self._ended(segment, search, frame, stream_id, reason)
        following = self._next(segment, frame)
        self._engine.advance([following.search], [log_probs[frame:]], [stream_id])
        following.read(memory[frame:], log_probs[frame:].argmax(1).numpy())
        features = None
        if segment.features:
            features = np.concatenate(segment.features)
            used = frame * self._subsampling
            following.features.append(features[used:].copy())
            features = features[: used - self._subsampling + self._window]
        return Ended(ended, features, following)

    def reencode(self, ended: list[Ended]) -> list[EndedSegment]:
        """Segments encoded in full context and searched again, as one batch; those without words stay."""
        result = [one.segment for one in ended]
        todo = [number for number, one in enumerate(result) if not one.lattice.is_empty]
        if not todo:
            return result
        device = self._model.device
        features = []
        for number in todo:
            rows = ended[number].features
            assert rows is not None, "the features of segments that are encoded again are kept"
            features.append(torch.from_numpy(rows))
        lengths = torch.tensor([len(rows) for rows in features], device=device)
        with torch.no_grad():
            memory, lengths = self._model.encode(
                pad_sequence(features, batch_first=True).to(device), lengths
            )
            log_probs = self._model.ctc_log_probs(memory).cpu()
        lattices = self._search.search(
            log_probs,
            lengths.tolist(),
            [result[number].utterance_id for number in todo],
            [result[number].context for number in todo],
        )
        for number, lattice, rows in zip(todo, lattices, memory, strict=True):
            frames = result[number].lattice.num_frames
            assert lattice.num_frames == frames, (lattice.num_frames, frames)
            result[number] = replace(result[number], lattice=lattice, memory=rows[:frames])
        return result

    def _ended(
        self, segment: Segment, search: "NativeStream", num_frames: int, stream_id: str, reason: str
    ) -> EndedSegment:
        best_tokens = np.concatenate([*segment.best_tokens, np.zeros(0, np.int64)])
        return EndedSegment(
            stream_id=stream_id,
            segment=segment.number,
            lattice=self._search.finish(search, best_tokens[:num_frames]),
            endpoint=reason,
            first_frame=segment.first_frame,
            memory=self._memory(segment)[:num_frames],
            context=segment.context,
        )

    def _memory(self, segment: Segment) -> Tensor:
        if segment.memory:
            return torch.cat(segment.memory)
        return torch.zeros(0, self._model.config.dim, device=self._model.device)

    def _next(self, segment: Segment, num_frames: int) -> Segment:
        return Segment(
            segment.number + 1,
            segment.first_frame + num_frames,
            self._engine.start(segment.context),
            segment.context,
        )
