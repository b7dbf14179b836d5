"""Reading by blocks: the same samples and the same complaints as reading whole, in bounded memory."""

import os
import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.audio.blocks import AudioBlocks
from moe_asr.audio.io import read_audio
from moe_asr.audio.reader import AudioReader
from moe_asr.errors import AudioError
from tests.audio.test_io import noise, tone, wav_bytes

# what libsndfile reads: file name -> format, encoding, rate
FORMATS = {
    "pcm.wav": ("WAV", "PCM_16", 16000),
    "float.wav": ("WAV", "FLOAT", 44100),
    "ulaw.wav": ("WAV", "ULAW", 8000),
    "alaw.wav": ("WAV", "ALAW", 8000),
    "gsm.wav": ("WAV", "GSM610", 8000),
    "pcm.flac": ("FLAC", "PCM_24", 48000),
    "layer3.mp3": ("MP3", "MPEG_LAYER_III", 44100),
    "vorbis.ogg": ("OGG", "VORBIS", 22050),
    "opus.ogg": ("OGG", "OPUS", 48000),
    "voice.opus": ("OGG", "OPUS", 16000),
    "pcm.aiff": ("AIFF", "PCM_16", 16000),
}


@pytest.mark.parametrize("name", FORMATS)
def test_blocks_of_every_format_are_the_whole_file(tmp_path, name):
    kind, subtype, rate = FORMATS[name]
    samples = tone(3 * rate, rate, 440)
    soundfile.write(tmp_path / name, samples, rate, format=kind, subtype=subtype)
    whole, _ = read_audio(tmp_path / name, 16000)
    blocks = AudioBlocks(tmp_path / name, 16000, block_seconds=0.7)
    joined = np.concatenate(list(blocks))
    assert joined.shape == whole.shape and joined.dtype == np.float32
    np.testing.assert_allclose(joined, whole, atol=1e-6)
    assert blocks.file_rate == rate and blocks.duration_seconds == pytest.approx(3.0, abs=0.1)
    assert np.argmax(np.abs(np.fft.rfft(joined[16000:32000]))) == 440
    np.testing.assert_array_equal(np.concatenate(list(blocks)), joined)  # once more


@settings(max_examples=40)
@given(
    num_samples=st.integers(1, 5000),
    block_samples=st.integers(1, 3000),
    rate=st.sampled_from([8000, 16000, 44100]),
    channel=st.integers(0, 1),
)
def test_any_blocks_are_the_whole_file(tmp_path_factory, num_samples, block_samples, rate, channel):
    path = tmp_path_factory.getbasetemp() / "any.wav"
    both = np.stack([noise(num_samples, 1), noise(num_samples, 2)], axis=1)
    soundfile.write(path, both, rate, subtype="FLOAT")
    blocks = list(AudioBlocks(path, 16000, channel, block_samples / rate))
    assert all(len(block) for block in blocks)
    whole, _ = read_audio(path, 16000, channel)
    np.testing.assert_allclose(np.concatenate([noise(0), *blocks]), whole, atol=1e-6)


@pytest.mark.parametrize("sizes", [(0xFFFFFFFF, 0xFFFFFFFF), (0, 0), (0x7FFFF000, 0x7FFFF024)])
def test_a_wav_from_a_pipe_is_read_by_blocks(tmp_path, sizes):
    (tmp_path / "a.wav").write_bytes(wav_bytes(noise(5000), *sizes))
    blocks = list(AudioBlocks(tmp_path / "a.wav", 16000, block_seconds=0.1))
    assert [len(block) for block in blocks] == [1600, 1600, 1600, 200]
    np.testing.assert_allclose(np.concatenate(blocks), noise(5000), atol=1e-4)


def test_a_flac_from_a_pipe_has_no_known_length(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(5000), 16000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the number of samples: 36 bits of STREAMINFO, which begins at byte 8
    content[22:26] = bytes(4)
    path.write_bytes(content)
    blocks = AudioBlocks(path, 16000, block_seconds=0.1)
    assert blocks.duration_seconds is None
    assert [len(block) for block in blocks] == [1600, 1600, 1600, 200]
    np.testing.assert_allclose(read_audio(path)[0], noise(5000), atol=1e-4)


def test_mistakes_that_the_header_shows_come_at_once(tmp_path):
    soundfile.write(tmp_path / "stereo.wav", np.zeros((100, 2)), 16000)
    (tmp_path / "cut.wav").write_bytes(wav_bytes(noise(100))[:-10])
    (tmp_path / "empty.wav").write_bytes(wav_bytes(noise(0)))
    (tmp_path / "nothing.wav").write_bytes(b"")
    (tmp_path / "text.mp3").write_bytes(b"this is a text, and no sound at all\n" * 40)
    for name, message in {
        "stereo.wav": "found 2 channels; expected mono, or choose a channel",
        "cut.wav": "truncated: the header promises 200 bytes of samples, the file has 190",
        "empty.wav": "empty: found 0 samples; expected audio",
        "nothing.wav": "not readable as audio",
        "text.mp3": "not readable as audio",
        "nowhere.wav": "no such file",
        ".": "not readable as audio",
    }.items():
        with pytest.raises(AudioError, match=message) as raised:
            AudioBlocks(tmp_path / name, 16000)
        assert str(raised.value).startswith(f"{tmp_path / name}: ")
    with pytest.raises(AudioError, match="channel 2 was asked for; found 2"):
        AudioBlocks(tmp_path / "stereo.wav", 16000, channel=2)
    for rate, seconds in ((0, 10.0), (16000, 0.0), (16000, float("nan"))):
        with pytest.raises(AudioError, match="expected more than 0"):
            AudioBlocks(tmp_path / "stereo.wav", rate, 0, seconds)


def test_mistakes_in_samples_come_with_their_block(tmp_path):
    samples = noise(16000)
    samples[[12345, 12346]] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, 16000, subtype="FLOAT")
    blocks = iter(AudioBlocks(tmp_path / "nan.wav", 8000, block_seconds=0.5))
    assert len(next(blocks)) > 3000
    with pytest.raises(AudioError, match="nan.wav: sample 12345 is nan; expected finite samples"):
        next(blocks)
    soundfile.write(tmp_path / "cut.mp3", noise(48000), 16000)
    content = (tmp_path / "cut.mp3").read_bytes()
    (tmp_path / "cut.mp3").write_bytes(content[: len(content) // 2])
    with pytest.raises(AudioError, match="cut.mp3: truncated: the header promises 48000 samples"):
        list(AudioBlocks(tmp_path / "cut.mp3", 16000, block_seconds=0.5))


def test_what_has_no_end_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")  # to open it would wait for who writes
    for path in (tmp_path / "pipe.wav", "/dev/zero", "/dev/null"):
        with pytest.raises(AudioError, match="a pipe or device, not a file"):
            AudioBlocks(path, 16000)


@pytest.mark.parametrize("rate, channels", [(0x7FFFFFFF, 1), (16000, 1024)])
def test_memory_is_not_what_the_header_asks_for(tmp_path, rate, channels):
    content = bytearray(wav_bytes(noise(10240)))
    content[22:28] = struct.pack("<HI", channels, rate)
    content[32:34] = struct.pack("<H", 2 * channels)
    (tmp_path / "a.wav").write_bytes(content)
    with AudioReader(tmp_path / "a.wav", 0) as reader:  # blocks of ten seconds would be 80 GB
        assert len(reader.read(10 * rate)) == 10240 // channels


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_a_name_need_not_be_unicode(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav")
    with open(path, "wb") as file:
        file.write(wav_bytes(noise(5000)))
    assert sum(len(block) for block in AudioBlocks(path, 16000)) == 5000


MEMORY = """
import resource, sys
import numpy as np, soundfile
from moe_asr.audio.blocks import AudioBlocks
with soundfile.SoundFile(sys.argv[1], "w", 44100, 1, format="WAV", subtype="ULAW") as file:
    minute = (0.1 * np.sin(np.arange(60 * 44100) * 0.05)).astype(np.float32)
    for _ in range(20):
        file.write(minute)
total = sum(len(block) for block in AudioBlocks(sys.argv[1], 16000, block_seconds=0.5))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
total += sum(len(block) for block in AudioBlocks(sys.argv[1], 16000))
print(total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_long_file_takes_the_memory_of_a_block(tmp_path):
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "long.wav")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    total, kilobytes = map(int, done.stdout.split())
    assert total == 2 * 20 * 60 * 16000
    assert kilobytes < 20_000  # the whole waveform is 77 MB at 16 kHz
