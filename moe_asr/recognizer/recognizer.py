"""The recogniser: many streams through one encoder, one graph and one second pass.

Legend: N streams of a call, C chunk size, D model dimension, V tokens.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from moe_asr.errors import ConfigError, DataError, MoeAsrError
from moe_asr.files import PathLike
from moe_asr.fsa.context import ContextGraph, compile_context
from moe_asr.fsa.context_phrases import Phrase
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.recognizer.feature_queue import FeatureQueue
from moe_asr.recognizer.finish import SegmentFinisher
from moe_asr.recognizer.options import RecognizerOptions
from moe_asr.recognizer.partials import SegmentPartials
from moe_asr.recognizer.results import Result
from moe_asr.recognizer.segment_search import SegmentSearch
from moe_asr.recognizer.segmenter import CUTS, INPUT_FINISHED, Ended, Segmenter
from moe_asr.recognizer.stream import Stream

if TYPE_CHECKING:
    from moe_asr.audio.silence import SilenceOptions
    from moe_asr.fsa.native.partial import PartialResult
    from moe_asr.lm.model import NgramModel
    from moe_asr.model.directory import LoadedModel
    from moe_asr.recognizer.results import Transcript
    from moe_asr.recognizer.transcribe import Failure, OnError

STAGES = ("features", "encoder", "search", "second_pass")
Chunk = tuple[
    Stream, Tensor, Tensor
]  # the stream, its encoder output (T, D), its log-probabilities (T, V)


@dataclass(frozen=True)
class StreamMemory:
    """The most memory that a stream takes, in bytes.

    Attributes:
        caches: of the encoder, allocated with the recogniser.
        segment: what is kept of the segment that is being recognised; it is looked at after every chunk, so a
            chunk's worth may come on top.
        backlog: features that wait to be decoded.
    """

    caches: int
    segment: int
    backlog: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.caches + self.segment + self.backlog


class Recognizer:
    """Audio in, results out, for any number of streams up to `RecognizerOptions.max_streams`.

    Streams share encoder calls: `decode` takes the next chunk of every stream that has one, so that the
    weights of the model are read once for all of them. What a stream gets does not depend on who shares its
    calls, but for the rounding of sums.

    All methods may be called from any thread. Calls of `decode` wait for one another, and `create_stream` and
    `Stream.close` for them; `Stream.accept_waveform` waits for nobody.

    Args:
        loaded: the model.
        graph: HLG, LG, HT or T over its tokens.
        options: see there.
        num_threads: streams searched at a time, if ``method_options`` do not say it. The encoder's threads
            are torch's.
        lm, graph_lm: of methods that rescore with a language model, see `DecodingResources`.

    Attributes:
        seconds: wall time by stage (`STAGES`), of all streams together.
        sample_rate: of the features, in Hz; audio of other rates is resampled.
        frame_shift_seconds: of encoder frames.
        method, engine, search, graph: what finds the words.

    Raises:
        ConfigError: if the method does not work on lattices that are searched in a stream, its options are
            wrong, or ``max_backlog_seconds`` is less than two chunks.
        GraphError: if the graph is not over the model's tokens.
    """

    def __init__(
        self,
        loaded: "LoadedModel",
        graph: DecodingGraph,
        options: RecognizerOptions | None = None,
        num_threads: int = 1,
        lm: "NgramModel | None" = None,
        graph_lm: "NgramModel | None" = None,
    ) -> None:
        from moe_asr.fsa.native import NativeEngine

        self.options = options = options or RecognizerOptions()
        self.loaded, self.model, self.tokenizer = loaded, loaded.model, loaded.tokenizer
        self.fbank_options = loaded.fbank_options
        self.sample_rate = loaded.fbank_options.sample_rate
        subsampling = loaded.model.config.subsampling
        self.frame_shift_seconds = loaded.fbank_options.frame_shift_ms / 1000.0 * subsampling
        method_options = {"num_threads": num_threads, "partial": True, **options.method_options}
        finisher = SegmentFinisher.of_model(
            loaded, graph, options.method, method_options, options.correction, options.confidences,
            lm, graph_lm,
        )  # fmt: skip
        method = finisher.method
        engine = method.first_pass.engine
        if not isinstance(engine, NativeEngine):
            raise ConfigError("streams are searched by the native engine (engine: native)")
        self.method, self.engine, self.graph = method, engine, method.first_pass.graph
        self._finisher, self._timer = finisher, finisher.timer
        self.search = SegmentSearch(engine, loaded.tokenizer, method.options.partial)
        self._segmenter = Segmenter(loaded.model, self.search, options, self._timer)
        self._pool = loaded.model.new_pool(
            options.max_streams, options.chunk_size, options.num_left_chunks
        )
        chunk_seconds = self._pool.window * loaded.fbank_options.frame_shift_ms / 1000.0
        if options.max_backlog_seconds < 2.0 * chunk_seconds:
            raise ConfigError(
                f"max_backlog_seconds is {options.max_backlog_seconds:g}; a chunk of {options.chunk_size} "
                f"frames needs {chunk_seconds:.2f} s of audio: at least twice that must be allowed to wait"
            )
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._numbers = itertools.count()
        self._names: set[str] = set()  # of the streams that are open
        self._lock, self._clock = threading.RLock(), threading.Lock()
        self._compile = lru_cache(maxsize=64)(self._compile_phrases)

    @classmethod
    def from_dir(
        cls,
        model_dir: PathLike,
        graph: "PathLike | DecodingGraph | None" = None,
        options: RecognizerOptions | None = None,
        device: str = "cpu",
        num_threads: int = 1,
        precision: str | None = None,
    ) -> "Recognizer":
        """A recogniser of a model directory or a release folder.

        Args:
            model_dir: either; a release folder has its graph and options in it.
            graph: instead of the folder's.
            options: instead of the folder's (without any: `RecognizerOptions`).
            device: where the model runs. The search runs on the CPU.
            num_threads: streams searched at a time.
            precision: "float32" or "int8" on the packed kernels of the CPU, or "torch" for its modules. None:
                float32 on a CPU, torch elsewhere.

        Raises:
            ConfigError: if there is no graph, or an option is wrong.
            CheckpointError, GraphError, TextError: naming the file that is damaged or does not fit.
        """
        from moe_asr.recognizer.release import read_release

        loaded, found, release_options = read_release(model_dir, graph, device, precision)
        return cls(loaded, found, options or release_options, num_threads)

    @property
    def memory_per_stream(self) -> StreamMemory:
        """What a stream may take."""
        options = self.options
        features = options.max_backlog_seconds * 1000.0 / self.fbank_options.frame_shift_ms
        return StreamMemory(
            caches=self._pool.bytes_per_slot,
            segment=int(options.max_segment_megabytes * (1 << 20)),
            backlog=int(features + 1) * self.fbank_options.num_bins * 4,
        )

    @property
    def num_streams(self) -> int:
        """Streams that are open."""
        return self.options.max_streams - self._pool.num_free

    def create_stream(
        self, stream_id: str | None = None, phrases: Sequence[Phrase] | None = None
    ) -> Stream:
        """A new stream.

        Args:
            stream_id: its name; None numbers them.
            phrases: that it listens for, see docs/context.md.

        Raises:
            DataError: if `RecognizerOptions.max_streams` are open, or one of this name.
            TextError: naming a phrase that the graph cannot recognise.
        """
        context = self._compile(tuple(phrases)) if phrases else None
        segment = self._segmenter.start(context)
        queue = FeatureQueue(
            self.fbank_options,
            self.options.max_backlog_seconds,
            lambda seconds: self._spent("features", seconds),
        )
        with self._lock:
            if stream_id is None:
                numbered = (f"stream{number}" for number in self._numbers)
                stream_id = next(name for name in numbered if name not in self._names)
            if stream_id in self._names:
                raise DataError(f"a stream with the name {stream_id} is open")
            slot = self._pool.open()
            if slot is None:
                raise DataError(
                    f"{self.options.max_streams} streams are open: max_streams allows no more"
                )
            self._names.add(stream_id)
            return Stream(self, stream_id, slot, queue, context, segment)

    def is_ready(self, stream: Stream) -> bool:
        """Whether `decode` would advance the stream: a chunk of it waits, or its input is finished."""
        if stream.is_finished:
            return False
        waiting, finished = stream._queue.waiting
        return finished or self._pool.chunk_frames(waiting, finished)[0] > 0

    def decode(self, streams: Sequence[Stream]) -> list[list[Result]]:
        """Takes the next chunk of each of the streams that have one, as one batch.

        Where a segment ends, the second pass of all that do is made in the same call.

        Args:
            streams: different ones of this recogniser; those that are not ready wait.

        Returns:
            [stream][result]: for each stream the new results in order: none, a partial or a final one; after
            a cut in mid-speech, a final one and the partial one of what follows.

        Raises:
            DataError: on a stream given twice, or of another recogniser. (A stream that fails by itself does
                not disturb others: see `Stream.failure`.)
            Exception: whatever stops the work on the whole batch (no memory for it, say). The streams that
                were ready have failed then, as their chunks are lost; others are as they were.
        """
        if len({id(stream) for stream in streams}) != len(streams):
            raise DataError("a stream was given twice in one call")
        for stream in streams:
            if stream._recognizer is not self:
                raise DataError(f"stream {stream.id} is of another recogniser")
        with self._lock:
            ready = [stream for stream in streams if self.is_ready(stream)]
            try:
                found = self._step(ready)
            except BaseException as error:
                for stream in ready:
                    self._fail(stream, error)
                raise
        return [found.get(id(stream), []) for stream in streams]

    def close(self) -> None:
        """Ends the threads of the search; they come back when it is used again."""
        self.engine.close()

    def transcribe(
        self,
        files: Sequence[PathLike],
        max_batch_seconds: float = 60.0,
        cut: "SilenceOptions | None" = None,
        mode: str = "full",
        channel: int | None = None,
        phrases: Sequence[Phrase] | None = None,
        progress: Callable[[float], object] | None = None,
        on_error: "OnError" = "raise",
        num_alternatives: int | None = None,
    ) -> "list[Transcript | Failure]":
        """Transcribes whole files, in full context: see `moe_asr.recognizer.transcribe.transcribe`."""
        from moe_asr.recognizer.transcribe import transcribe

        return transcribe(
            self, files, max_batch_seconds, cut, mode, channel, phrases, progress, on_error,
            num_alternatives,
        )  # fmt: skip

    def _step(self, streams: list[Stream]) -> dict[int, list[Result]]:
        last = self._read_chunks(streams)
        ended: list[tuple[Stream, Ended]] = []
        partials: list[tuple[Stream, PartialResult]] = []
        since = time.perf_counter()
        for stream, is_last in zip(streams, last, strict=True):
            if stream.failure is not None:
                continue
            with self._alone(stream):
                if is_last:
                    ended.append((stream, self._end(stream, INPUT_FINISHED)))
                    continue
                status = self.engine.partial(stream._segment.search)
                reason = self._segmenter.endpoint(stream._segment, status)
                if reason in CUTS:
                    ended.append((stream, self._end(stream, reason, status)))
                    status = self.engine.partial(stream._segment.search)
                elif reason:
                    ended.append((stream, self._end(stream, reason)))
                if reason in CUTS or not reason:
                    partials.append((stream, status))
        self._spent("search", time.perf_counter() - since)
        results: dict[int, list[Result]] = {id(stream): [] for stream in streams}
        finals = self._finish([segment for _, segment in ended])
        for (stream, _), result in zip(ended, finals, strict=True):
            if isinstance(result, Exception):
                self._fail(stream, result)
            else:
                results[id(stream)].append(result)
        if self.options.partial_results:
            since = time.perf_counter()
            for stream, status in partials:
                if stream.failure is None:
                    with self._alone(stream):
                        results[id(stream)].append(self._partials(stream).result(status))
            self._spent("search", time.perf_counter() - since)
        return results

    def _read_chunks(self, streams: list[Stream]) -> list[bool]:
        """Encodes and searches the next chunk of each; whether it was the stream's last."""
        since = time.perf_counter()
        last, with_chunk, windows = [], [], []
        for stream in streams:
            waiting, finished = stream._queue.waiting
            frames, used = self._pool.chunk_frames(waiting, finished)
            window = stream._queue.take(used, max(used, self._pool.window))
            last.append(finished and used == waiting)
            if self.options.full_context_final:
                stream._segment.features.append(window[:used])
            if frames:
                with_chunk.append(stream)
                windows.append(window)
        if not with_chunk:
            return last
        device = self.model.device
        with torch.no_grad():
            rows = self.model.cmvn(torch.from_numpy(np.concatenate(windows)).to(device))
            features = rows.split([len(one) for one in windows])
            memory = self._pool.encode([stream._slot for stream in with_chunk], features)
            log_probs = self.model.ctc_log_probs(torch.cat(memory)).cpu()  # (frames, V)
        now = time.perf_counter()
        self._spent("encoder", now - since)
        chunks = log_probs.split([len(one) for one in memory])
        alive = self._without_failures(list(zip(with_chunk, memory, chunks, strict=True)))
        self.engine.advance(
            [stream._segment.search for stream, _, _ in alive],
            [chunk for _, _, chunk in alive],
            [stream.id for stream, _, _ in alive],
        )
        for stream, one, chunk in alive:
            stream._segment.read(one, chunk.argmax(1).numpy())
            stream.num_frames += len(one)
        self._spent("search", time.perf_counter() - now)
        return last

    def _without_failures(self, chunks: list[Chunk]) -> list[Chunk]:
        """The streams without NaN in their log-probabilities; the others have failed and are closed."""
        alive = []
        for stream, memory, log_probs in chunks:
            if bool((log_probs < float("inf")).all()):  # not of NaN; -inf is a probability of 0
                alive.append((stream, memory, log_probs))
                continue
            seconds = stream.num_frames * self.frame_shift_seconds
            message = f"the model's output is not finite after {seconds:.2f} s"
            self._fail(stream, DataError(f"stream {stream.id}: {message}"))
        return alive

    @contextmanager
    def _alone(self, stream: Stream) -> Iterator[None]:
        """What goes wrong here is the end of this stream, and of no other."""
        try:
            yield
        except Exception as error:
            self._fail(stream, error)

    def _fail(self, stream: Stream, error: BaseException) -> None:
        """The stream has ended by an error, which it keeps."""
        name = f"stream {stream.id}"
        if isinstance(error, MoeAsrError) and str(error).startswith(name):
            stream.failure = error
        else:
            if isinstance(error, MoeAsrError):
                stream.failure = type(error)(f"{name}: {error}")
            else:
                stream.failure = DataError(f"{name}: {type(error).__name__}: {error}")
            stream.failure.__cause__ = error
        if not stream.is_finished:
            self._release(stream)

    def _end(self, stream: Stream, reason: str, status: "PartialResult | None" = None) -> Ended:
        """Ends the segment; ``status`` says where to cut it, if it is to be cut."""
        segment, lookahead = stream._segment, None
        if self.options.full_context_final and reason != INPUT_FINISHED:
            lookahead = stream._queue.take(0, self._pool.window - self._pool.step)
        if status is not None:
            ended = self._segmenter.cut(segment, status, stream.id, reason, lookahead)
        else:
            ended = self._segmenter.end(segment, stream.id, reason, lookahead)
        if reason == INPUT_FINISHED:
            self._release(stream)
            return ended
        stream._segment = ended.following
        if reason not in CUTS and not self.options.keep_left_context:
            self._pool.reset(stream._slot)
        return ended

    def _finish(self, ended: list[Ended]) -> list[Result | Exception]:
        """The final results of all; where they cannot be made together, each has its own, or its error."""
        try:
            return [*self._finish_together(ended)]
        except Exception as error:
            if len(ended) == 1:
                return [error]
            return [result for one in ended for result in self._finish([one])]

    def _finish_together(self, ended: list[Ended]) -> list[Result]:
        since = time.perf_counter()
        segments = [one.segment for one in ended]
        if self.options.full_context_final:
            segments = self._segmenter.reencode(ended)
            now = time.perf_counter()
            self._spent("encoder", now - since)
            since = now
        results = self._finisher.finish(segments)
        self._spent("second_pass", time.perf_counter() - since)
        return results

    def _partials(self, stream: Stream) -> SegmentPartials:
        segment = stream._segment
        if segment.partials is None:
            segment.partials = SegmentPartials(
                self._timer, stream.id, segment.number, segment.first_frame
            )
        return segment.partials

    def _release(self, stream: Stream) -> None:
        """Its slot is free, and what it kept is forgotten."""
        stream._is_finished = True
        stream._segment = self._segmenter.nothing
        stream._queue.clear()
        self._pool.close(stream._slot)
        self._names.discard(stream.id)

    def _close(self, stream: Stream) -> None:
        with self._lock:
            stream._is_closed = True
            if not stream.is_finished:
                self._release(stream)

    def _spent(self, stage: str, seconds: float) -> None:
        with self._clock:
            self.seconds[stage] += seconds

    def _compile_phrases(self, phrases: tuple[Phrase, ...]) -> ContextGraph:
        return compile_context(phrases, self.graph, tokenizer=self.tokenizer)
