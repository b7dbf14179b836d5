"""Live audio: pipes, a pretended sound system, what is dropped, and how it ends."""

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.errors import AudioError, ConfigError, DataError, MissingDependencyError
from moe_asr.fsa.context_phrases import Phrase
from moe_asr.recognizer import live_audio
from moe_asr.recognizer.display import Display, FinalLines
from moe_asr.recognizer.live import recognize_live
from moe_asr.recognizer.live_audio import BlockQueue, PcmInput
from moe_asr.recognizer.microphone import Microphone, list_microphones
from moe_asr.recognizer.results import Result
from moe_asr.train.interrupt import stop_on_signals
from tests.recognizer.fakes import FakeRecognizer, FakeSound, FakeStream, result

RATE = 1000
SCRIPT = [
    [result("one")],
    [result("one two", final=True)],
    [result("three", final=True, segment=1)],
]


class Recorded(Display):
    """Keeps what it is to show."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.notes: list[str] = []
        self.is_closed = False

    def show(self, result: Result) -> None:
        self.results.append(result)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def close(self) -> None:
        self.is_closed = True


def run_live(audio: Any, fake: FakeRecognizer, **rest: Any) -> Recorded:
    display = Recorded()
    recognize_live(fake, audio, display, **rest)  # type: ignore[arg-type]
    assert display.is_closed and fake.streams[0].is_closed
    return display


def cut_up(data: bytes, sizes: Sequence[int]) -> Callable[[int], bytes]:
    """A read function that gives ``data`` in pieces of any sizes, as a pipe may."""
    file, left = io.BytesIO(data), list(sizes)
    return lambda most: file.read(min(left.pop(0) if left else most, most))


@given(
    st.lists(st.integers(-32768, 32767), max_size=300),
    st.lists(st.integers(1, 20), max_size=20),
    st.sampled_from(["s16le", "f32le"]),
    st.booleans(),
)
def test_samples_of_a_pipe_arrive_whole(
    values: list[int], sizes: list[int], format: str, torn: bool
) -> None:
    integers = np.array(values, "<i2")
    expected = integers.astype(np.float32) / 32768
    data = integers.tobytes() if format == "s16le" else expected.astype("<f4").tobytes()
    audio = PcmInput(cut_up(data + b"x" * torn, sizes), RATE, format)
    fake = FakeRecognizer([], 1)
    display = run_live(audio, fake)
    assert np.array_equal(fake.streams[0].samples, expected)
    assert set(fake.streams[0].rates) <= {RATE}
    assert display.notes == ["standard input ends within a sample: 1 byte(s) left over"] * torn


def test_results_come_as_the_audio_does_and_the_rest_at_its_end() -> None:
    fake = FakeRecognizer(SCRIPT, 100)
    audio, phrases = PcmInput(cut_up(bytes(2 * 150), []), RATE), [Phrase("one")]
    display = run_live(audio, fake, phrases=phrases)
    assert display.results == [one for (one,) in SCRIPT]
    assert fake.streams[0].has_ended and fake.phrases is phrases


def test_pipe_is_made_to_wait_and_loses_nothing() -> None:
    """Ten seconds come at once; two may wait."""
    samples = np.arange(10 * RATE, dtype=np.float32) / RATE
    fake = FakeRecognizer([], 1)
    audio = PcmInput(cut_up(samples.astype("<f4").tobytes(), []), RATE, "f32le")
    run_live(audio, fake)
    assert np.array_equal(fake.streams[0].samples, samples)


def test_what_does_not_fit_is_dropped_and_counted() -> None:
    queue = BlockQueue(100)
    blocks = [np.full(size, size, np.float32) for size in (150, 1, 60, 40, 30)]
    assert [queue.put(block) for block in blocks] == [True, False, False, False, False]
    assert queue.take_dropped() == 131 and queue.take_dropped() == 0
    assert queue.get(0.0) is blocks[0] and queue.get(0.0) is None
    assert [queue.put(block) for block in blocks[1:]] == [True, True, False, True]
    assert queue.take_dropped() == 40
    queue.close(AudioError("gone"))
    assert not queue.put(blocks[1]) and not queue.put_waiting(blocks[1])
    assert queue.take_dropped() == 0  # after the end nothing is missing
    assert [queue.get(0.0) is block for block in (blocks[1], blocks[2], blocks[4])] == [True] * 3
    with pytest.raises(AudioError, match="gone"):
        queue.get(0.0)


def test_a_pipe_that_breaks_is_told_after_its_last_result() -> None:
    calls = iter([bytes(200)])

    def read(most: int) -> bytes:
        for data in calls:
            return data
        raise OSError(5, "Input/output error")

    fake, display = FakeRecognizer(SCRIPT, 100), Recorded()
    with pytest.raises(AudioError, match="standard input: cannot be read: Input/output error"):
        recognize_live(fake, PcmInput(read, RATE), display)  # type: ignore[arg-type]
    assert display.results == [one for (one,) in SCRIPT] and display.is_closed


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("of whatever kind")])
def test_no_error_of_the_thread_that_reads_is_waited_for(error: Exception) -> None:
    """The one that recognises raises it, after the last result."""

    def read(most: int) -> bytes:
        raise error

    display = Recorded()
    with pytest.raises(type(error)):
        recognize_live(FakeRecognizer(SCRIPT, 100), PcmInput(read, RATE), display)  # type: ignore[arg-type]
    assert display.is_closed


def test_reads_are_of_a_bounded_size() -> None:
    sizes: list[int] = []
    audio = PcmInput(lambda most: sizes.append(most) or b"", 10**12)  # type: ignore[func-returns-value]
    run_live(audio, FakeRecognizer([], 1))
    assert sizes == [live_audio.READ_BYTES]


def test_a_stream_that_fails_is_told() -> None:
    fake = FakeRecognizer(SCRIPT, 100)
    make = fake.create_stream

    def failing(*args: Any, **rest: Any) -> FakeStream:
        stream = make(*args, **rest)
        stream.failure = DataError("stream live: not finite")
        return stream

    fake.create_stream = failing  # type: ignore[method-assign]
    with pytest.raises(DataError, match="not finite"):
        run_live(PcmInput(cut_up(bytes(20), []), RATE), fake)


def test_ctrl_c_gives_the_last_result_of_a_pipe_that_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live_audio, "POLL_SECONDS", 0.01)
    reading, writing = os.pipe()
    os.write(writing, bytes(2 * 150))
    fake, out = FakeRecognizer(SCRIPT, 100), io.StringIO()
    decode = fake.decode

    def interrupted(streams: Sequence[FakeStream]) -> list[list[Result]]:
        if not streams[0].decoded:
            os.kill(os.getpid(), signal.SIGINT)
        return decode(streams)

    fake.decode = interrupted  # type: ignore[method-assign]
    try:
        with stop_on_signals() as stop:
            audio = PcmInput(lambda most: os.read(reading, most), RATE)
            recognize_live(fake, audio, FinalLines(out, out), lambda: bool(stop))  # type: ignore[arg-type]
    finally:
        os.close(writing)  # the thread that reads ends with it
    assert stop.signal_name == "SIGINT"
    assert out.getvalue() == "one two\nthree\n"
    assert len(fake.streams[0].samples) <= 150 and fake.streams[0].has_ended


def test_wrong_formats_and_rates() -> None:
    with pytest.raises(ConfigError, match="format must be one of s16le, f32le, found 'mp3'"):
        PcmInput(lambda most: b"", RATE, "mp3")
    with pytest.raises(ConfigError, match="sample rate must be at least 1 Hz, found 0"):
        PcmInput(lambda most: b"", 0)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    yield lambda module: monkeypatch.setitem(sys.modules, "sounddevice", module)


def test_microphone_until_it_is_stopped(install: Callable[[Any], None]) -> None:
    blocks = [(np.full(50, i / 8, np.float32), i == 2) for i in range(6)]
    sound = FakeSound(blocks)
    install(sound)
    audio = Microphone(None, RATE)
    assert audio.sample_rate == RATE
    fake = FakeRecognizer(SCRIPT, 100)
    display = run_live(audio, fake, is_stopped=sound.given.is_set)
    assert np.array_equal(fake.streams[0].samples, np.concatenate([block for block, _ in blocks]))
    assert display.notes == [
        "the default microphone: overrun, the sound system lost audio 1 time(s)"
    ]
    assert display.results == [one for (one,) in SCRIPT]
    assert sound.is_closed
    settings = {name: sound.opened[name] for name in ("samplerate", "channels", "dtype", "device")}
    assert settings == {"samplerate": RATE, "channels": 1, "dtype": "float32", "device": None}


def test_microphone_that_is_too_fast(install: Callable[[Any], None]) -> None:
    """0.2 s may wait; 0.3 s come before anything is taken."""
    sound = FakeSound([(np.full(50, i, np.float32), False) for i in range(6)])
    install(sound)
    audio = Microphone("desk", RATE, max_seconds=0.2)
    fake = FakeRecognizer(SCRIPT, 100)
    start = audio.start

    def start_and_wait() -> None:
        start()
        sound.given.wait()

    audio.start = start_and_wait  # type: ignore[method-assign]
    display = run_live(audio, fake, is_stopped=lambda: True)
    assert np.array_equal(fake.streams[0].samples, np.repeat(np.arange(4, dtype=np.float32), 50))
    assert display.notes == ["recognition is too slow: 0.10 s of audio were dropped"]


def test_microphone_that_goes_away(install: Callable[[Any], None]) -> None:
    sound = FakeSound([(np.zeros(150, np.float32), False)])
    install(sound)
    audio = Microphone(1, RATE)
    fake, display = FakeRecognizer(SCRIPT, 100), Recorded()

    def unplugged() -> bool:
        if sound.given.is_set():
            sound.opened["finished_callback"]()
        return False

    with pytest.raises(AudioError, match="microphone '1': it gives no more audio"):
        recognize_live(fake, audio, display, unplugged)  # type: ignore[arg-type]
    assert display.results == [one for (one,) in SCRIPT] and sound.is_closed


def test_rates_and_devices(install: Callable[[Any], None]) -> None:
    install(FakeSound())
    assert Microphone("line", 16000).sample_rate == 44100  # it cannot have another
    assert Microphone("desk", 16000).sample_rate == 16000
    with pytest.raises(AudioError, match="microphone 'hall': No input device matching 'hall'"):
        Microphone("hall", 16000)
    assert list_microphones() == (
        "    1  line  (1 channels, 44100 Hz)\n*   2  desk  (2 channels, 44100 Hz)"
    )
    install(FakeSound(fails=True))
    with pytest.raises(AudioError, match="microphone 'desk': cannot be opened: Device unavailable"):
        Microphone("desk", 16000).start()
    deaf = FakeSound()
    deaf.devices = deaf.devices[:1]
    install(deaf)
    with pytest.raises(AudioError, match="the sound system has no input"):
        list_microphones()


def test_how_to_install_is_said(
    install: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'moe-asr\[live\]'"):
        Microphone(None, RATE)

    class NoLibrary:
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice")
    monkeypatch.setattr(sys, "meta_path", [NoLibrary(), *sys.meta_path])
    with pytest.raises(MissingDependencyError, match="PortAudio library not found.*libportaudio2"):
        list_microphones()
