"""Files in, transcripts out, as if they were live: in chunks, with endpoints, many files at a time."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from moe_asr.audio.blocks import AudioBlocks
from moe_asr.errors import ConfigError, MoeAsrError
from moe_asr.files import PathLike
from moe_asr.recognizer.results import Result, Transcript
from moe_asr.recognizer.transcribe import (
    Failure,
    OnError,
    Progress,
    StreamIds,
    check_num_alternatives,
    check_on_error,
    collect_outcomes,
    with_alternatives,
)

if TYPE_CHECKING:
    from moe_asr.fsa.context_phrases import Phrase
    from moe_asr.recognizer.recognizer import Recognizer

_BLOCK_SECONDS = 2.0
MAX_STREAMS = 16


def transcribe_streaming(
    recognizer: "Recognizer",
    files: Sequence[PathLike],
    max_streams: int | None = None,
    channel: int | None = None,
    phrases: "Sequence[Phrase] | None" = None,
    progress: Progress | None = None,
    on_error: OnError = "raise",
    num_alternatives: int | None = None,
) -> list[Transcript | Failure]:
    """All outcomes of `stream_files`, in the order of the files.

    Args:
        on_error: ``raise`` the first error; ``report``: a file that fails has a `Failure` in its place.

    Raises:
        AudioError: naming the file that cannot be read.
        DataError: naming the file whose stream has failed.
        ConfigError, TextError: as `stream_files`.
    """
    check_on_error(on_error)
    found = stream_files(
        recognizer, files, max_streams, channel, phrases, progress, num_alternatives
    )
    return collect_outcomes(found, on_error)


def stream_files(
    recognizer: "Recognizer",
    files: Iterable[PathLike],
    max_streams: int | None = None,
    channel: int | None = None,
    phrases: "Sequence[Phrase] | None" = None,
    progress: Progress | None = None,
    num_alternatives: int | None = None,
) -> Generator[Transcript | Failure, None, None]:
    """Transcribes files as streams, each outcome as soon as it is there, in the order of the files.

    The chunks of up to ``max_streams`` files are encoded together; when one ends, the next begins. A file is
    read two seconds at a time, so that memory does not grow with its length.

    Args:
        recognizer: all of its options hold. Its other streams are left alone.
        files: of any format that `read_audio` reads.
        max_streams: None: as many as the recogniser has free, 16 at most.
        channel: of files with several, from 0.
        phrases: that all files are searched with, see docs/context.md.
        progress: is called with the seconds of audio that have been read since the last call.
        num_alternatives: entries of n-best lists that results keep; None: all.

    Yields:
        A transcript, or the failure of a file that cannot be read to its end.

    Raises:
        ConfigError: if ``max_streams`` is less than 1, or the recogniser has not so many left.
        TextError: naming a phrase that the graph cannot recognise.
    """
    check_num_alternatives(num_alternatives)
    free = recognizer.options.max_streams - recognizer.num_streams
    if max_streams is None:
        max_streams = max(1, min(free, MAX_STREAMS))
    if not 1 <= max_streams <= free:
        raise ConfigError(
            f"max_streams must be between 1 and what the recogniser has free, {free}; found {max_streams}"
        )
    ids = StreamIds()
    streams = (
        _FileStream(recognizer, path, ids.of(path), channel, phrases, num_alternatives)
        for path in files
    )
    return _stream(recognizer, streams, max_streams, progress)


def _stream(
    recognizer: "Recognizer",
    files: "Iterator[_FileStream]",
    max_streams: int,
    progress: Progress | None,
) -> Generator[Transcript | Failure, None, None]:
    in_order: deque[_FileStream] = deque()  # whose outcomes have not been given
    active: list[_FileStream] = []
    more = True
    try:
        while more or in_order:
            while more and len(active) < max_streams:
                opened = next(files, None)
                if opened is None:
                    more = False
                    break
                in_order.append(opened)
                active += [opened] if opened.outcome is None else []
            for file in active:
                file.feed(progress)
            found = recognizer.decode([file.stream for file in active])
            for file, results in zip(active, found, strict=True):
                file.take(results)
            active = [file for file in active if file.outcome is None]
            while in_order and (outcome := in_order[0].outcome) is not None:
                in_order.popleft()
                yield outcome
    finally:
        for file in active:
            file.stream.close()


class _FileStream:
    """A file, its stream, and its outcome, when it has one."""

    def __init__(
        self,
        recognizer: "Recognizer",
        path: PathLike,
        stream_id: str,
        channel: int | None,
        phrases: "Sequence[Phrase] | None",
        num_alternatives: int | None,
    ) -> None:
        self._num_alternatives = num_alternatives
        self._recognizer, self._name = recognizer, str(path)
        self._rate = recognizer.sample_rate
        self._num_samples = 0
        self._finals: list[Result] = []
        self.outcome: Transcript | Failure | None = None
        try:
            block = min(_BLOCK_SECONDS, recognizer.options.max_backlog_seconds / 4)
            self._blocks = iter(AudioBlocks(path, self._rate, channel, block))
        except MoeAsrError as error:
            self.outcome = Failure(self._name, error)
            return
        self.stream = recognizer.create_stream(stream_id, phrases)

    def feed(self, progress: Progress | None) -> None:
        """Reads until the stream has a chunk to decode, or the file ends or fails."""
        try:
            while not self.stream.is_finished and not self._recognizer.is_ready(self.stream):
                block = next(self._blocks, None)
                if block is None:
                    self.stream.input_finished()
                    return
                self.stream.accept_waveform(block, self._rate)
                self._num_samples += len(block)
                if progress is not None:
                    progress(len(block) / self._rate)
        except MoeAsrError as error:
            self.stream.close()
            self.outcome = Failure(self._name, error)

    def take(self, results: Sequence[Result]) -> None:
        """Takes what was decoded."""
        self._finals += [
            with_alternatives(result, self._num_alternatives)
            for result in results
            if result.is_final
        ]
        if self.outcome is None and self.stream.is_finished:
            seconds = self._num_samples / self._rate
            failure = self.stream.failure
            self.outcome = (
                Transcript(self._name, seconds, tuple(self._finals))
                if failure is None
                else Failure(self._name, failure)
            )
