"""One stream: audio in; what comes out, a `Recognizer` gives."""

from typing import TYPE_CHECKING

import numpy as np

from moe_asr.errors import AudioError, DataError, MoeAsrError
from moe_asr.recognizer.feature_queue import FeatureQueue
from moe_asr.recognizer.segmenter import Segment

if TYPE_CHECKING:
    from moe_asr.fsa.context import ContextGraph
    from moe_asr.recognizer.recognizer import Recognizer


class Stream:
    """One speaker's audio on its way through a `Recognizer`, which makes them (`Recognizer.create_stream`).

    Audio may be given by one thread while another decodes.

    Attributes:
        id: its name, in results and messages.
        num_frames: encoder frames decoded.
        failure: the error that ended it, if one has.
    """

    def __init__(
        self,
        recognizer: "Recognizer",
        stream_id: str,
        slot: int,
        queue: FeatureQueue,
        context: "ContextGraph | None",
        segment: Segment,
    ) -> None:
        self.id = stream_id
        self.num_frames = 0
        self.failure: MoeAsrError | None = None
        self._recognizer = recognizer
        self._slot = slot
        self._queue = queue
        self._context = context
        self._segment = segment
        self._is_finished = self._is_closed = False

    def accept_waveform(self, samples: np.ndarray, sample_rate: int) -> None:
        """Takes the next piece of audio, of any length, and computes its features.

        The rate may change from piece to piece.

        Args:
            samples: (num_samples,) floats, mono, full scale at -1 and 1.
            sample_rate: in Hz.

        Raises:
            AudioError: naming the stream, if samples are not mono, not floats, not finite or far beyond full
                scale, the rate is not positive, `input_finished` was said, or more would wait than
                `RecognizerOptions.max_backlog_seconds`. Nothing of the piece has been taken then, and the
                stream goes on.
            DataError: if the stream is closed.
        """
        self._check_open()
        try:
            self._queue.accept_waveform(samples, sample_rate)
        except AudioError as error:
            raise AudioError(f"stream {self.id}: {error}") from None

    def input_finished(self) -> None:
        """Says that the audio ends here; the rest comes out of the next calls of `Recognizer.decode`."""
        self._check_open()
        self._queue.input_finished()

    @property
    def is_finished(self) -> bool:
        """Whether its last result has been given (or it was closed, or has failed)."""
        return self._is_finished

    @property
    def num_bytes(self) -> int:
        """Memory that it has now, beside its caches (`Recognizer.memory_per_stream` states the bounds)."""
        if self._is_finished:
            return 0
        return self._queue.num_bytes + self._segment.num_bytes

    def close(self) -> None:
        """Leaves, without a final result if there was none; its caches are free for another stream."""
        self._recognizer._close(self)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self.failure is not None:
            raise DataError(f"stream {self.id} has failed: {self.failure}") from self.failure
        if self._is_closed:
            raise DataError(f"stream {self.id} is closed")
