"""Files in, transcripts out: offline, each segment with the context that the mode gives it.

Long files are cut at pauses. The segments of many files are batched by duration from a buffer that is filled,
emptied and filled again, so that memory does not grow with the files or their number.
"""

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from moe_asr.audio.blocks import AudioBlocks
from moe_asr.audio.fbank import make_batch_fbank
from moe_asr.audio.silence import SilenceOptions, cut_at_silence
from moe_asr.decode.runner import DecodingMode, make_batches
from moe_asr.errors import ConfigError, DataError, GraphError, MoeAsrError
from moe_asr.files import PathLike
from moe_asr.fsa.lattice import Lattice
from moe_asr.recognizer.finish import EndedSegment
from moe_asr.recognizer.free_memory import return_free_memory
from moe_asr.recognizer.results import Result, Transcript

if TYPE_CHECKING:
    from moe_asr.fsa.context import ContextGraph
    from moe_asr.fsa.context_phrases import Phrase
    from moe_asr.recognizer.recognizer import Recognizer

Progress = Callable[[float], object]
OnError = Literal["raise", "report"]
_LOOK_AHEAD = 8  # batches that the buffer holds


@dataclass(frozen=True)
class Failure:
    """What there is of a file that could not be transcribed.

    Attributes:
        name: what the file was called.
        error: why; its message names the file.
    """

    name: str
    error: MoeAsrError


def transcribe(
    recognizer: "Recognizer",
    files: Sequence[PathLike],
    max_batch_seconds: float = 60.0,
    cut: SilenceOptions | None = None,
    mode: str | DecodingMode = "full",
    channel: int | None = None,
    phrases: "Sequence[Phrase] | None" = None,
    progress: Progress | None = None,
    on_error: OnError = "raise",
    num_alternatives: int | None = None,
) -> list[Transcript | Failure]:
    """All outcomes of `transcribe_files`, in the order of the files.

    Args:
        on_error: ``raise`` the first error; ``report``: a file that fails has a `Failure` in its place.

    Raises:
        AudioError: naming the file that cannot be read.
        DataError: naming the file on which the model's output is not finite.
        ConfigError, TextError: as `transcribe_files`.
    """
    check_on_error(on_error)
    found = transcribe_files(
        recognizer, files, max_batch_seconds, cut, mode, channel, phrases, progress,
        num_alternatives,
    )  # fmt: skip
    return collect_outcomes(found, on_error)


def transcribe_files(
    recognizer: "Recognizer",
    files: Iterable[PathLike],
    max_batch_seconds: float = 60.0,
    cut: SilenceOptions | None = None,
    mode: str | DecodingMode = "full",
    channel: int | None = None,
    phrases: "Sequence[Phrase] | None" = None,
    progress: Progress | None = None,
    num_alternatives: int | None = None,
) -> Generator[Transcript | Failure, None, None]:
    """Transcribes files, each outcome as soon as it is there, in the order of the files.

    A file up to ``cut.max_segment_seconds`` is one segment; a longer one is cut at its pauses. What a file
    gets does not depend on the others, but for the rounding of sums.

    Args:
        recognizer: its method makes the results; its chunk size, endpoints and streams are not used.
        files: of any format that `read_audio` reads.
        max_batch_seconds: padded duration of a batch; a longer segment is a batch of its own. Eight batches
            are in memory.
        cut: how long files are cut.
        mode: the encoder's context: ``full``, ``chunk16``, ``chunk16-left4``, ...
        channel: of files with several, from 0.
        phrases: that all files are searched with, see docs/context.md.
        progress: is called with the seconds of audio that have been transcribed since the last call.
        num_alternatives: entries of n-best lists that results keep; None: all. They are most of what there is
            in memory of a long file's results.

    Yields:
        A transcript, or the failure of a file that cannot be read to its end.

    Raises:
        ConfigError: on an unknown mode, or batches of no length.
        TextError: naming a phrase that the graph cannot recognise.
    """
    check_num_alternatives(num_alternatives)
    if not max_batch_seconds > 0.0:
        raise ConfigError(f"max_batch_seconds must be positive, found {max_batch_seconds}")
    mode = DecodingMode.parse(mode) if isinstance(mode, str) else mode
    decoder = _BatchDecoder(recognizer, mode, phrases, num_alternatives)
    return _transcribe(
        decoder, files, max_batch_seconds, cut or SilenceOptions(), channel, progress
    )


def check_on_error(on_error: str) -> None:
    """`ConfigError` on what is no `OnError`."""
    if on_error not in ("raise", "report"):
        raise ConfigError(f"on_error must be 'raise' or 'report', found '{on_error}'")


def check_num_alternatives(number: int | None) -> None:
    """`ConfigError` on fewer than none."""
    if number is not None and number < 0:
        raise ConfigError(f"num_alternatives must be at least 0, found {number}")


def collect_outcomes(
    found: Generator[Transcript | Failure, None, None], on_error: OnError
) -> list[Transcript | Failure]:
    """All of them; the first error is raised, if it is to be, and the rest left alone."""
    outcomes = []
    with closing(found):
        for outcome in found:
            if isinstance(outcome, Failure) and on_error == "raise":
                raise outcome.error
            outcomes.append(outcome)
    return outcomes


class StreamIds:
    """Names of streams: those of their files; of a file that comes again, with a number."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._given: set[str] = set()

    def of(self, path: PathLike) -> str:
        """The name of the next stream."""
        name = found = str(path)
        while found in self._given:  # "a (2)" may also be a file's name
            self._seen[name] += 1
            found = f"{name} ({self._seen[name] + 1})"
        self._given.add(found)
        return found


@dataclass(eq=False)
class _File:
    """A file that is being transcribed; `results` are those of its segments, by number."""

    name: str
    stream_id: str
    results: dict[int, Result] = field(default_factory=dict)
    seconds: float = 0.0
    is_read: bool = False
    error: MoeAsrError | None = None

    @property
    def outcome(self) -> Transcript | Failure:
        if self.error is not None:
            return Failure(self.name, self.error)
        ordered = tuple(self.results[number] for number in range(len(self.results)))
        return Transcript(self.name, self.seconds, ordered)


@dataclass(frozen=True, eq=False)
class _Segment:
    """A piece of a file: its number in it, when it starts, and (num_samples,) float32."""

    file: _File
    number: int
    start_seconds: float
    samples: np.ndarray
    duration: float  # seconds


def _transcribe(
    decoder: "_BatchDecoder",
    files: Iterable[PathLike],
    max_batch_seconds: float,
    cut: SilenceOptions,
    channel: int | None,
    progress: Progress | None,
) -> Generator[Transcript | Failure, None, None]:
    waiting: list[_File] = []  # whose outcomes have not been given, in order
    buffer: list[_Segment] = []
    held = 0.0

    def empty() -> None:
        nonlocal held
        alive = [segment for segment in buffer if segment.file.error is None]
        for batch in make_batches(alive, max_batch_seconds):
            _decode(decoder, batch)
            if progress is not None:
                progress(sum(segment.duration for segment in batch))
        buffer.clear()
        held = 0.0
        return_free_memory()

    ids = StreamIds()
    for path in files:
        file = _File(str(path), ids.of(path))
        waiting.append(file)
        for segment in _segments(file, path, decoder.sample_rate, cut, channel):
            buffer.append(segment)
            held += segment.duration
            if held >= _LOOK_AHEAD * max_batch_seconds:
                empty()
                while waiting and waiting[0].is_read:
                    yield waiting.pop(0).outcome
            if file.error is not None:  # of a segment: the rest need not be read
                break
        file.is_read = True
        while waiting and waiting[0].error is not None:
            yield waiting.pop(0).outcome
    empty()
    for file in waiting:
        yield file.outcome


def _segments(
    file: _File, path: PathLike, sample_rate: int, cut: SilenceOptions, channel: int | None
) -> Iterator[_Segment]:
    """The segments of a file, read as they are asked for; what is wrong with it becomes its error."""
    try:
        blocks = iter(AudioBlocks(path, sample_rate, channel))
        first: list[np.ndarray] = []
        while sum(map(len, first)) <= cut.max_segment_seconds * sample_rate:
            block = next(blocks, None)
            if block is None:
                pieces = iter([(0, np.concatenate([np.zeros(0, np.float32), *first]))])
                break
            first.append(block)
        else:
            pieces = cut_at_silence(chain(first, blocks), sample_rate, cut)
        for number, (start, samples) in enumerate(pieces):
            duration = len(samples) / sample_rate
            file.seconds = start / sample_rate + duration
            yield _Segment(file, number, start / sample_rate, samples, duration)
    except MoeAsrError as error:
        file.error = error
    file.is_read = True


def _decode(decoder: "_BatchDecoder", batch: Sequence[_Segment]) -> None:
    """Decodes a batch; where that fails, its segments one by one, to find whose fault it is."""
    try:
        decoder.decode(batch)
    except (DataError, GraphError) as error:
        if len(batch) > 1:
            for segment in batch:
                _decode(decoder, [segment])
        else:
            file = batch[0].file
            named = str(error) if file.name in str(error) else f"{file.name}: {error}"
            file.error = type(error)(named)


class _BatchDecoder:
    """Segments in, results out, by a recogniser's model, engine and second pass."""

    def __init__(
        self,
        recognizer: "Recognizer",
        mode: DecodingMode,
        phrases: "Sequence[Phrase] | None",
        num_alternatives: int | None,
    ) -> None:
        self._recognizer, self._mode = recognizer, mode
        self._num_alternatives = num_alternatives
        self.sample_rate = recognizer.sample_rate
        self._fbank = make_batch_fbank(recognizer.fbank_options, str(recognizer.model.device))
        self._context: ContextGraph | None = (
            recognizer._compile(tuple(phrases)) if phrases else None
        )

    def decode(self, batch: Sequence[_Segment]) -> None:
        """Puts the results of the segments, or the error of one, into their files."""
        since = time.perf_counter()
        features = self._fbank.batch_tensors([segment.samples for segment in batch])
        self._spent("features", since)
        long: list[tuple[_Segment, Tensor]] = []
        short: list[tuple[_Segment, Tensor]] = []
        for segment, matrix in zip(batch, features, strict=True):
            has_frames = self._recognizer.model.output_length(len(matrix)) > 0
            (long if has_frames else short).append((segment, matrix))
        found = [(segment, self._nothing(segment)) for segment, _ in short]
        found += self._search(long) if long else []
        since = time.perf_counter()
        with self._recognizer._lock:
            results = self._recognizer._finisher.finish([ended for _, ended in found])
        self._spent("second_pass", since)
        for (segment, _), result in zip(found, results, strict=True):
            kept = with_alternatives(result, self._num_alternatives)
            segment.file.results[segment.number] = _moved(kept, segment)

    @torch.no_grad()
    def _search(
        self, given: Sequence[tuple[_Segment, Tensor]]
    ) -> list[tuple[_Segment, EndedSegment]]:
        """Encodes and searches segments and their features; those whose output is not finite have failed."""
        batch, features = zip(*given, strict=True)
        recognizer, mode = self._recognizer, self._mode
        model, since = recognizer.model, time.perf_counter()
        lengths = torch.tensor([len(matrix) for matrix in features], device=model.device)
        padded = pad_sequence(list(features), batch_first=True).to(model.device)
        memory, lengths = model.encode(padded, lengths, mode.chunk_size, mode.left_chunks)
        log_probs, lengths = model.ctc_log_probs(memory).cpu(), lengths.cpu()
        self._spent("encoder", since)
        finite = (log_probs < float("inf")).all(2).all(1)  # not of NaN; -inf is a probability of 0
        for row in torch.nonzero(~finite)[:, 0].tolist():
            file = batch[row].file
            file.error = DataError(f"{file.name}: the model's output is not finite")
        rows = torch.nonzero(finite)[:, 0].tolist()
        if not rows:
            return []
        since = time.perf_counter()
        lattices = recognizer.search.search(
            log_probs[rows],
            lengths[rows].tolist(),
            [batch[row].file.stream_id for row in rows],
            [self._context] * len(rows),
        )
        self._spent("search", since)
        return [
            (batch[row], self._ended(batch[row], memory[row, : int(lengths[row])], lattice))
            for row, lattice in zip(rows, lattices, strict=True)
        ]

    def _nothing(self, segment: _Segment) -> EndedSegment:
        """A segment that is too short for a frame of the encoder."""
        model = self._recognizer.model
        memory = torch.zeros(0, model.config.dim, device=model.device)
        return self._ended(segment, memory, Lattice.empty(0))

    def _ended(self, segment: _Segment, memory: Tensor, lattice: Lattice) -> EndedSegment:
        return EndedSegment(
            stream_id=segment.file.stream_id,
            segment=segment.number,
            lattice=lattice,
            memory=memory,
            context=self._context,
            first_frame=0,
            endpoint="",
        )

    def _spent(self, stage: str, since: float) -> None:
        self._recognizer._spent(stage, time.perf_counter() - since)


def with_alternatives(result: Result, number: int | None) -> Result:
    """The result with so many entries of its n-best list at most; None: all."""
    return replace(result, alternatives=result.alternatives[:number])


def _moved(result: Result, segment: _Segment) -> Result:
    """The result with times from the start of the file, none behind the end of the segment."""
    start, end = segment.start_seconds, segment.start_seconds + segment.duration
    words = tuple(
        replace(
            word,
            start_seconds=min(start + word.start_seconds, end),
            end_seconds=min(start + word.end_seconds, end),
        )
        for word in result.words
    )
    return replace(result, words=words, start_seconds=start, end_seconds=end)
