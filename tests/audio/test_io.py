import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.audio.io import StreamingResampler, read_audio, resample, write_audio
from moe_asr.errors import AudioError

RATES = [8000, 11025, 16000, 22050, 44100, 48000]


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(0.1 * rng.standard_normal(num_samples), -1, 1).astype(np.float32)


def tone(num_samples: int, rate: int, hertz: float) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(num_samples) / rate)).astype(np.float32)


def wav_bytes(samples: np.ndarray, data_size: int | None = None, riff_size: int | None = None):
    """A 16-bit mono WAV at 16 kHz, byte by byte, its two size fields as told."""
    data = np.round(samples * 32767).astype("<i2").tobytes()
    data_size = len(data) if data_size is None else data_size
    riff_size = 36 + len(data) if riff_size is None else riff_size
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16)
    head = struct.pack("<4sI4s", b"RIFF", riff_size, b"WAVE")
    return head + fmt + struct.pack("<4sI", b"data", data_size) + data


@pytest.mark.parametrize(
    "name, subtype", [("a.wav", "FLOAT"), ("a.wav", "PCM_16"), ("a.flac", None)]
)
def test_what_is_written_is_read(tmp_path, name, subtype):
    samples = noise(5000)
    write_audio(tmp_path / name, samples, 16000, subtype)
    read, rate = read_audio(tmp_path / name)
    assert rate == 16000 and read.dtype == np.float32 and read.shape == (5000,)
    np.testing.assert_allclose(read, samples, atol=0 if subtype == "FLOAT" else 1 / 32768)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.ogg", "a.mp3"])
def test_lossy_formats_are_read(tmp_path, name):
    samples = tone(32000, 16000, 440)
    write_audio(tmp_path / name, samples, 16000)
    read, rate = read_audio(tmp_path / name)
    assert rate == 16000 and abs(len(read) - 32000) < 1200
    spectrum = np.abs(np.fft.rfft(read[8000:24000]))
    assert np.argmax(spectrum) == 440


def test_writing_to_a_wav_is_16_bit_and_clips(tmp_path):
    write_audio(tmp_path / "a.wav", np.array([0.0, 2.0, -2.0]), 8000)
    assert soundfile.info(tmp_path / "a.wav").subtype == "PCM_16"
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav")[0], [0, 1, -1], atol=1e-4)


@pytest.mark.parametrize(
    "name, samples, rate, message",
    [
        ("a.wav", np.zeros(0), 16000, "0 samples"),
        ("a.wav", np.zeros((2, 5)), 16000, "expected mono"),
        ("a.wav", np.zeros(5, np.int16), 16000, "expected floats"),
        ("a.wav", np.array([np.nan]), 16000, "sample 0 is nan"),
        ("a.xyz", np.zeros(5), 16000, "cannot be written"),
        ("a", np.zeros(5), 16000, "cannot be written"),
        ("a.wav", np.zeros(5), 0, "cannot be written"),
    ],
)
def test_what_cannot_be_written_leaves_no_file(tmp_path, name, samples, rate, message):
    with pytest.raises(AudioError, match=message) as raised:
        write_audio(tmp_path / name, samples, rate)
    assert name in str(raised.value) and not list(tmp_path.iterdir())


def test_a_channel_can_be_chosen(tmp_path):
    path = tmp_path / "stereo.wav"
    both = np.stack([noise(100, 1), noise(100, 2)], axis=1)
    soundfile.write(path, both, 16000, subtype="FLOAT")
    for channel in (0, 1):
        np.testing.assert_array_equal(read_audio(path, channel=channel)[0], both[:, channel])
    with pytest.raises(AudioError, match="stereo.wav: found 2 channels; expected mono"):
        read_audio(path)
    for channel in (2, -1):
        with pytest.raises(AudioError, match=f"channel {channel} was asked for; found 2"):
            read_audio(path, channel=channel)


def write_file(path, content: bytes):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kept", [0, 3, 11, 20, 43])
def test_a_wav_cut_in_its_header_is_not_readable(tmp_path, kept):
    path = write_file(tmp_path / "a.wav", wav_bytes(noise(100))[:kept])
    with pytest.raises(AudioError, match="a.wav: "):
        read_audio(path)


@pytest.mark.parametrize("lost", [1, 2, 100, 199, 200])
@pytest.mark.parametrize("sizes", ["true", "streamed"])
def test_a_wav_cut_in_its_samples_is_truncated(tmp_path, lost, sizes):
    content = wav_bytes(noise(100), riff_size=0xFFFFFFFF if sizes == "streamed" else None)
    path = write_file(tmp_path / "a.wav", content[:-lost])
    with pytest.raises(AudioError, match=f"a.wav: truncated: .* 200 bytes .* has {200 - lost}$"):
        read_audio(path)


def test_a_truncated_wav_of_other_layouts_is_found(tmp_path):
    samples = noise(1000)
    for name, options in {
        "rf64.wav": {"format": "RF64"},
        "rifx.wav": {"format": "WAV", "endian": "BIG"},
        "extensible.wav": {"format": "WAVEX", "subtype": "PCM_24"},
    }.items():
        path = tmp_path / name
        soundfile.write(path, samples, 16000, **options)
        np.testing.assert_allclose(read_audio(path)[0], samples, atol=1e-4)
        content = path.read_bytes()
        write_file(path, content[: len(content) // 2])
        with pytest.raises(AudioError, match=f"{name}: truncated"):
            read_audio(path)


@pytest.mark.parametrize(
    "data_size, riff_size",
    [
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0),
        (0x80000000, 0x80000024),
        (0x7FFFFFFF, 0x7FFFFFFF),
        (0x7FFFF000, 0x7FFFF024),
        (0, 0),
        (0, 0xFFFFFFFF),
    ],
)
def test_a_wav_from_a_pipe_is_read_to_its_end(tmp_path, data_size, riff_size):
    samples = noise(1000)
    path = write_file(tmp_path / "a.wav", wav_bytes(samples, data_size, riff_size))
    read, rate = read_audio(path)
    assert rate == 16000
    np.testing.assert_allclose(read, samples, atol=1e-4)


def test_a_long_recording_that_is_cut_off_is_truncated(tmp_path):
    path = write_file(tmp_path / "a.wav", wav_bytes(noise(100), 0x9502F900, 0x9502F924))
    with pytest.raises(AudioError, match="truncated: the header promises 2500000000 bytes"):
        read_audio(path)


def test_chunks_around_the_samples_do_no_harm(tmp_path):
    samples = noise(1000)
    content = wav_bytes(samples)
    extra = b"LIST" + struct.pack("<I", 5) + b"hello\0"
    content = content[:36] + extra + content[36:] + extra
    read, _ = read_audio(write_file(tmp_path / "a.wav", content))
    np.testing.assert_allclose(read, samples, atol=1e-4)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_wav_without_samples_is_empty(tmp_path, streamed):
    sizes = (0, 0) if streamed else (None, None)
    path = write_file(tmp_path / "a.wav", wav_bytes(noise(0), *sizes))
    with pytest.raises(AudioError, match="a.wav: empty: found 0 samples"):
        read_audio(path)


@pytest.mark.parametrize("name", ["a.flac", "a.mp3"])
def test_other_truncated_formats(tmp_path, name):
    path = tmp_path / name
    write_audio(path, noise(16000), 16000)
    write_file(path, path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AudioError, match=name):
        read_audio(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_named(tmp_path, bad):
    samples = noise(100)
    samples[[17, 40]] = bad
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match=f"a.wav: sample 17 is {bad}; expected finite"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.raw", "a.txt"])
def test_what_is_no_audio_is_refused(tmp_path, name):
    path = write_file(tmp_path / name, b"this is a text, and no sound at all\n" * 40)
    with pytest.raises(AudioError, match=f"{name}: not readable as audio"):
        read_audio(path)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(AudioError, match="nowhere.wav: no such file"):
        read_audio(tmp_path / "nowhere.wav")
    with pytest.raises(AudioError, match="not readable as audio"):
        read_audio(tmp_path)


def test_reading_resamples_when_asked(tmp_path):
    write_audio(tmp_path / "a.wav", tone(8000, 8000, 440), 8000)
    samples, rate = read_audio(tmp_path / "a.wav", 16000)
    assert rate == 16000 and samples.dtype == np.float32
    expected = tone(16000, 16000, 440)
    np.testing.assert_allclose(samples[500:-500], expected[500:-500], atol=1e-3)
    assert read_audio(tmp_path / "a.wav", 8000)[1] == 8000


@pytest.mark.parametrize("from_rate", RATES)
@pytest.mark.parametrize("to_rate", [8000, 16000])
def test_a_tone_stays_the_tone(from_rate, to_rate):
    resampled = resample(tone(from_rate, from_rate, 1000), from_rate, to_rate)
    expected = tone(to_rate, to_rate, 1000)
    assert resampled.shape == expected.shape and resampled.dtype == np.float32
    margin = to_rate // 20
    np.testing.assert_allclose(resampled[margin:-margin], expected[margin:-margin], atol=2e-3)


def test_what_the_lower_rate_cannot_hold_is_filtered_out():
    high = resample(tone(16000, 16000, 6000), 16000, 8000)
    assert np.abs(high[400:-400]).max() < 1e-3


@given(
    from_rate=st.sampled_from(RATES),
    to_rate=st.sampled_from(RATES),
    num_samples=st.integers(0, 4000),
    cuts=st.lists(st.integers(0, 4000), max_size=8),
    last_is_empty=st.booleans(),
)
def test_streaming_equals_offline(from_rate, to_rate, num_samples, cuts, last_is_empty):
    samples = noise(num_samples)
    pieces = np.split(samples, sorted(min(cut, num_samples) for cut in cuts))
    pieces += [np.zeros(0, np.float32)] * last_is_empty
    stream = StreamingResampler(from_rate, to_rate)
    out = [stream.process(piece) for piece in pieces[:-1]]
    out.append(stream.process(pieces[-1], last=True))
    offline = resample(samples, from_rate, to_rate)
    assert abs(len(offline) - num_samples * to_rate / from_rate) <= 1
    together = np.concatenate(out)
    assert together.dtype == np.float32 and together.shape == offline.shape
    np.testing.assert_allclose(together, offline, atol=1e-6)


def test_streaming_gives_output_before_the_end():
    stream = StreamingResampler(8000, 16000)
    assert len(stream.process(noise(8000))) > 14000


def test_the_last_piece_is_the_last():
    for rate in (8000, 16000):
        stream = StreamingResampler(rate, 16000)
        stream.process(noise(10), last=True)
        with pytest.raises(AudioError, match="after the last piece"):
            stream.process(noise(10))


@pytest.mark.parametrize("rates", [(0, 16000), (16000, 0), (-8000, 16000), (float("nan"), 8000)])
def test_rates_that_are_refused(rates):
    with pytest.raises(AudioError, match="expected more than 0"):
        resample(noise(10), *rates)
    with pytest.raises(AudioError, match="expected more than 0"):
        StreamingResampler(*rates)


def test_samples_that_cannot_be_resampled():
    for samples in (np.zeros((2, 10), np.float32), np.zeros(10, np.int16), np.array([np.nan])):
        with pytest.raises(AudioError):
            resample(samples, 8000, 16000)
        with pytest.raises(AudioError):
            StreamingResampler(8000, 16000).process(samples)
