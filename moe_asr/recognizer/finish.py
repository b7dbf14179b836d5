"""From the lattices of ended segments to final results: the second pass, word times, confidences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from moe_asr.decode.first_pass import LatticeMethod
from moe_asr.decode.registry import (
    DecodingMethod,
    DecodingResources,
    EncodedBatch,
    Hypothesis,
    available_methods,
    get_method,
    make_method,
)
from moe_asr.errors import ConfigError, DataError, GraphError
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.time_correction import TimeCorrection
from moe_asr.recognizer.final_words import FinalWords
from moe_asr.recognizer.results import Result, Word
from moe_asr.recognizer.word_timer import WordTimer

if TYPE_CHECKING:
    from moe_asr.fsa.context import ContextGraph
    from moe_asr.lm.model import NgramModel
    from moe_asr.model.directory import LoadedModel


@dataclass(frozen=True, eq=False)
class EndedSegment:
    """A segment whose search has ended: T frames.

    Attributes:
        stream_id, segment: as in the result.
        lattice: of its frames; may have no path.
        endpoint: why it ended, as in the result.
        first_frame: of the segment in its stream.
        memory: (T, D), the encoder's output, for methods that need it.
        context: of the phrases that its search listened for.
    """

    stream_id: str
    segment: int
    lattice: Lattice
    endpoint: str = ""
    first_frame: int = 0
    memory: Tensor | None = None
    context: "ContextGraph | None" = None

    @property
    def utterance_id(self) -> str:
        """The name that methods, and the lattices that are kept, know it by."""
        return f"{self.stream_id}-{self.segment}"


class SegmentFinisher:
    """Makes final results of segments, those of a batch in one call of the method. One call at a time.

    Args:
        method: works on lattices; of resources with ``keep_paths``.
        timer: of its graph.
        contexts: what the ``context_of`` of its resources looks up: by utterance id, filled while a batch is
            decoded. Without it no segment may have a context.
        confidences: whether words are to have them, see `FinalWords`.

    Raises:
        ConfigError: if the method does not work on lattices, or does not keep paths.
    """

    def __init__(
        self,
        method: DecodingMethod,
        timer: WordTimer,
        contexts: "dict[str, ContextGraph] | None" = None,
        confidences: bool = True,
    ) -> None:
        _check_type(type(method))
        assert isinstance(method, LatticeMethod)
        if not method.resources.keep_paths:
            raise ConfigError(
                f"{method.name} was made without keep_paths: words would have no times"
            )
        self.method, self.timer = method, timer
        self._contexts = contexts
        self._final = FinalWords(method, timer, confidences)

    @classmethod
    def of_model(
        cls,
        loaded: "LoadedModel",
        graph: DecodingGraph,
        method: str,
        method_options: Mapping[str, Any] | None = None,
        correction: TimeCorrection | None = None,
        confidences: bool = True,
        lm: "NgramModel | None" = None,
        graph_lm: "NgramModel | None" = None,
    ) -> "SegmentFinisher":
        """With a method of its own.

        Args:
            loaded: the model.
            graph: that is searched.
            method, method_options: as of `make_method`.
            correction: of word times.
            lm, graph_lm: see `DecodingResources`.

        Raises:
            ConfigError: if there is no such method, it does not work on lattices, needs what is not given, or
                has no such option.
            GraphError, MissingDependencyError: as `FirstPass`.
        """
        _check_type(get_method(method))
        contexts: dict[str, ContextGraph] = {}
        resources = DecodingResources(
            loaded.tokenizer, graph, model=loaded.model, lm=lm, graph_lm=graph_lm,
            context_of=contexts.get, keep_paths=True,
        )  # fmt: skip
        made = make_method(method, resources, method_options)
        shift = loaded.fbank_options.frame_shift_ms / 1000.0 * loaded.model.config.subsampling
        timer = WordTimer(graph, loaded.tokenizer, shift, correction)
        return cls(made, timer, contexts, confidences)

    def finish(self, segments: Sequence[EndedSegment]) -> list[Result]:
        """The final results of segments, in their order; one without frames, or without a path, has no words.

        Raises:
            DataError: naming the segment, if its encoder output is missing or of another number of frames; or
                one is given twice.
            GraphError: naming the segment whose words are not spelled by its tokens.
        """
        names = [segment.utterance_id for segment in segments]
        if len(set(names)) != len(names):
            raise DataError(f"a segment was given twice: {', '.join(names)}")
        found = [s for s in segments if s.lattice.num_frames and not s.lattice.is_empty]
        hypotheses = dict(zip((s.utterance_id for s in found), self._decode(found), strict=True))
        return [self._result(segment, hypotheses.get(segment.utterance_id)) for segment in segments]

    def _decode(self, segments: Sequence[EndedSegment]) -> list[Hypothesis]:
        if not segments:
            return []
        for segment in segments:
            self._check(segment)
        names = [segment.utterance_id for segment in segments]
        lattices = [segment.lattice for segment in segments]
        lengths = torch.tensor([lattice.num_frames for lattice in lattices])
        memory = None
        if self.method.needs_memory:
            memory = pad_sequence([s.memory for s in segments], batch_first=True)  # type: ignore[misc]
        # methods do not look at the log-probabilities of frames whose lattices are put before them: a view
        # of one zero takes no memory
        log_probs = torch.zeros(1).expand(len(segments), int(lengths.max()), 1)
        batch = EncodedBatch(log_probs, lengths, names, memory)
        contexts = {} if self._contexts is None else self._contexts
        contexts.update({s.utterance_id: s.context for s in segments if s.context is not None})
        try:
            self.method.first_pass.put(batch, lattices)
            return self.method.decode(batch)
        finally:
            contexts.clear()

    def _check(self, segment: EndedSegment) -> None:
        name = f"stream {segment.stream_id}, segment {segment.segment}"
        if segment.context is not None and self._contexts is None:
            raise DataError(f"{name}: phrases, but the method was made without")
        if self.method.needs_memory:
            if segment.memory is None:
                raise DataError(f"{name}: {self.method.name} needs the encoder's output")
            if len(segment.memory) != segment.lattice.num_frames:
                raise DataError(
                    f"{name}: encoder output of {len(segment.memory)} frames, a lattice of "
                    f"{segment.lattice.num_frames}"
                )

    def _result(self, segment: EndedSegment, hypothesis: Hypothesis | None) -> Result:
        start = self.timer.seconds(segment.first_frame)
        result = Result(
            stream_id=segment.stream_id,
            segment=segment.segment,
            is_final=True,
            text="",
            words=(),
            num_stable=0,
            start_seconds=start,
            end_seconds=self.timer.seconds(segment.first_frame + segment.lattice.num_frames),
            endpoint=segment.endpoint,
        )
        if hypothesis is None:
            return result
        try:
            words = self._final.words(segment.lattice, hypothesis, segment.context)
        except GraphError as error:
            raise GraphError(
                f"stream {segment.stream_id}, segment {segment.segment}: {error}"
            ) from error
        return replace(
            result,
            text=hypothesis.text,
            words=tuple(
                Word(
                    word.word,
                    min(start + word.start_seconds, result.end_seconds),  # sums are rounded
                    min(start + word.end_seconds, result.end_seconds),
                    confidence,
                )
                for word, confidence in words
            ),
            num_stable=len(words),
            score=hypothesis.score,
            alternatives=hypothesis.alternatives,
        )


def _check_type(method: type[DecodingMethod]) -> None:
    """`ConfigError` if methods of this type do not work on lattices."""
    if not issubclass(method, LatticeMethod):
        possible = [
            name for name in available_methods() if issubclass(get_method(name), LatticeMethod)
        ]
        raise ConfigError(
            f"{method.name} does not work on lattices, which are what a stream's search gives: choose one of "
            f"{', '.join(possible)}"
        )
