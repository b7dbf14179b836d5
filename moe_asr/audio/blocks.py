"""Files of any length, block by block, in bounded memory."""

from collections.abc import Iterable, Iterator

import numpy as np

from moe_asr.audio.io import StreamingResampler
from moe_asr.audio.reader import AudioReader
from moe_asr.errors import AudioError
from moe_asr.files import PathLike


def total_seconds(paths: Iterable[PathLike], channel: int | None = None) -> float:
    """The duration of all files together, as their headers have it; what does not say counts as nothing."""
    total = 0.0
    for path in paths:
        try:
            with AudioReader(path, channel) as reader:
                total += (reader.num_samples or 0) / reader.sample_rate
        except AudioError:  # whoever reads it will hear about it
            continue
    return total


class AudioBlocks:
    """The waveform of a file in blocks; joined, they are ``read_audio(path, sample_rate, channel)``.

    It can be iterated over again and again; every time, the file is opened and read once, and one block is in
    memory. Where the rate is not the file's, a block is as long as the resampler makes it.

    Args:
        path: the file, of a format that `read_audio` reads.
        sample_rate: of the blocks, in Hz.
        channel: which channel of a multi-channel file, from 0; None accepts only mono files.
        block_seconds: audio that is read at a time.

    Attributes:
        path, sample_rate, channel: as given.
        file_rate: the file's own rate, in Hz.
        duration_seconds: as the header has it; None where it does not say (a stream from a pipe).

    Raises:
        AudioError: naming the file, as `AudioReader` does: at once what its header shows, while
            iterating what is wrong with its samples.
    """

    def __init__(
        self,
        path: PathLike,
        sample_rate: int,
        channel: int | None = None,
        block_seconds: float = 10.0,
    ) -> None:
        if not 0.0 < block_seconds < float("inf"):
            raise AudioError(f"{path}: blocks of {block_seconds} seconds; expected more than 0")
        self.path, self.sample_rate, self.channel = path, sample_rate, channel
        with AudioReader(path, channel) as reader:
            self.file_rate = reader.sample_rate
            num_samples = reader.num_samples
        self.duration_seconds = None if num_samples is None else num_samples / self.file_rate
        self._block_samples = max(1, round(block_seconds * self.file_rate))
        StreamingResampler(self.file_rate, sample_rate)  # rates that it refuses should fail here

    def __iter__(self) -> Iterator[np.ndarray]:
        """(num_samples,) float32 blocks, none of them empty."""
        resampler = StreamingResampler(self.file_rate, self.sample_rate)
        with AudioReader(self.path, self.channel) as reader:
            while len(samples := reader.read(self._block_samples)):
                block = resampler.process(samples)
                if len(block):
                    yield block
        rest = resampler.process(np.zeros(0, np.float32), last=True)
        if len(rest):
            yield rest
