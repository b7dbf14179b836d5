import hashlib
import os
import signal

import numpy as np
import pytest

from moe_asr.data.espeak import EspeakSynthesizer
from moe_asr.data.speaking import Speaking, say
from moe_asr.data.speech_server import SpeechServer, speak
from moe_asr.data.voices import ACCENTS, SEEN_ACCENTS, UNSEEN_ACCENTS, VARIANTS, Voice, voices_of
from moe_asr.errors import DataError

pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed")
SENTENCE = "call doctor ashworth and turn on the light"
ALL_VARIANTS = [variant for variants in VARIANTS.values() for variant in variants]


def speaking(voice: Voice, text: str = SENTENCE, volume: int = 30) -> Speaking:
    return Speaking(text, voice, rate=180, pitch=50, pitch_range=50, volume=volume)


@pytest.fixture
def server():
    server = SpeechServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def speeches():
    """Every variant, in accents taken in turn: what each server says depends on nothing before it."""
    servers = SpeechServer(), SpeechServer()
    accents = list(ACCENTS)
    voices = [Voice(accents[i % len(accents)], v) for i, v in enumerate(ALL_VARIANTS)]
    forwards = {v.variant: servers[0].speak([speaking(v)], 16000)[0] for v in voices}
    backwards = {v.variant: servers[1].speak([speaking(v)], 16000)[0] for v in voices[::-1]}
    for server in servers:
        server.close()
    return forwards, backwards


def test_every_voice_says_the_same_in_every_process(speeches):
    for variant in ALL_VARIANTS:
        first, second = (each[variant] for each in speeches)
        assert np.array_equal(first.samples, second.samples), variant
        assert first.words == second.words
    # which the engine of one process would not do
    engine = EspeakSynthesizer()
    hashes = {
        hashlib.sha256(say(engine, speaking(Voice("en-us", "m3")), 16000).samples).hexdigest()
        for _ in range(3)
    }
    assert len(hashes) > 1


def test_every_voice_is_loud_does_not_clip_and_is_no_other(speeches):
    features = {}
    for variant, speech in speeches[0].items():
        samples = speech.samples.astype(np.float64)
        rms, peak = np.sqrt(np.mean(samples**2)), np.abs(samples).max()
        assert rms > 3e-3 and peak > 0.02, variant
        assert peak < 0.99, variant
        frames = np.lib.stride_tricks.sliding_window_view(samples / rms, 512)[::160]
        power = np.abs(np.fft.rfft(frames * np.hanning(512))) ** 2
        bands = np.log(power[:, 3:243].reshape(len(frames), 24, 10).mean(axis=2) + 1e-6)
        features[variant] = np.concatenate([bands.mean(axis=0), bands.std(axis=0)])
    for variant, feature in features.items():
        for other, another in features.items():
            assert variant == other or np.sqrt(np.mean((feature - another) ** 2)) > 0.2


def test_splits_share_no_variant_and_training_knows_no_unseen_accent():
    assert len(set(ALL_VARIANTS)) == len(ALL_VARIANTS)
    names = {split: {v.name for v in voices_of(split)} for split in VARIANTS}
    assert len(set.union(*names.values())) == sum(map(len, names.values()))
    assert (
        {v.accent for v in voices_of("train")}
        == set(SEEN_ACCENTS)
        == set(ACCENTS) - set(UNSEEN_ACCENTS)
    )
    assert {v.accent for v in voices_of("test", unseen_accents=True)} == set(UNSEEN_ACCENTS)


def test_texts_are_said_one_after_the_other(server):
    voices = Voice("en-gb", "m1"), Voice("en-us", "f4")
    both = server.speak([speaking(voice) for voice in voices], 8000)
    assert [len(speech.words) for speech in both] == [8, 8]
    (alone,) = server.speak([speaking(voices[0])], 8000)
    assert np.array_equal(both[0].samples, alone.samples)


def test_what_cannot_be_said_is_an_error_and_the_server_goes_on(server):
    voice = Voice("en-us", "m1")
    with pytest.raises(DataError, match="'hello'"):
        server.speak([speaking(voice, "hello", volume=0)], 16000)
    assert server.speak([speaking(voice, "hello")], 16000)[0].words[0].text == "hello"


def test_the_death_of_the_server_is_an_error(server):
    os.kill(server._process.pid, signal.SIGKILL)
    with pytest.raises(DataError, match="ended at 'hello'"):
        server.speak([speaking(Voice("en-us", "m1"), "hello")], 16000)


def test_a_fork_has_a_server_of_its_own():
    what = [speaking(Voice("en-us", "m1"), "hello")]
    mine = speak(what, 16000)[0].samples
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, hashlib.sha256(speak(what, 16000)[0].samples).digest())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 100) == hashlib.sha256(mine).digest()
    os.close(reader)
    os.close(writer)
    assert np.array_equal(speak(what, 16000)[0].samples, mine)
