import numpy as np
import pytest

from moe_asr.data.espeak import EspeakSynthesizer, SpeechEvent
from moe_asr.data.speaking import Speaking, say
from moe_asr.data.voices import ACCENTS, VARIANTS, Voice
from moe_asr.data.word_times import strip_stress, word_times
from moe_asr.errors import DataError

pytest.importorskip("espeakng_loader", reason="espeakng-loader is not installed")
SENTENCES = [
    "turn on the light in the living room at five o'clock",
    "what is the weather going to be like in the end of the week",
    "call me at twenty-five past two",
    "i'm at o'brien's",
    "set it to a hundred and two",
]


def event(name: str, sample: int, character: int = 0) -> SpeechEvent:
    return SpeechEvent(name, character, sample)


def word(character: int, sample: int) -> SpeechEvent:
    return SpeechEvent("", character, sample)


@pytest.fixture(scope="module")
def engine():
    return EspeakSynthesizer()


def test_words_get_their_phonemes_and_pauses_belong_to_none():
    events = [word(0, 0), event("g", 10), event("'oU", 20), event("_:", 50), word(3, 80)]
    events += [event("n", 90), event("'aU", 100), event("_:", 140), event("_", 150)]
    words = word_times("go now", events, 160, pronounce=lambda text: [])
    assert words == [("go", 0, 50, ("g", "oU")), ("now", 80, 140, ("n", "aU"))]


def test_words_spoken_as_one_are_divided_where_their_phonemes_fit():
    pronounce = {"out": ["'aU", "t"], "of": ["0", "v"], "the": ["D", "@2"]}.__getitem__
    names = ["aU", "t", "@", "v", "D", "@2"]
    events = [word(0, 0)] + [event(name, 10 * i) for i, name in enumerate(names)]
    words = word_times("out of the", events, 60, pronounce)
    assert [(w.start, w.end) for w in words] == [(0, 20), (20, 40), (40, 60)]
    # phonemes that are no one's: every word still has one
    events = [word(0, 0)] + [event("x", 10 * i) for i in range(3)]
    words = word_times("out of the", events, 30, pronounce)
    assert [(w.start, w.end) for w in words] == [(0, 10), (10, 20), (20, 30)]


@pytest.mark.parametrize(
    "text, events, message",
    [
        ("one two", [word(4, 0), event("t", 0)], "did not speak the first word"),
        ("one two", [word(0, 0), event("w", 0), word(9, 5)], "character 9 out of turn"),
        ("one two", [word(0, 0), event("w", 0), word(4, 1), word(0, 5)], "character 0 out of turn"),
        ("one two", [word(0, 0), event("w", 0)], "1 phonemes were spoken for 'one two'"),
        ("one two", [word(0, 0), event("w", 0), word(4, 5)], "0 phonemes were spoken for 'two'"),
    ],
)
def test_what_was_not_spoken_is_an_error(text, events, message):
    with pytest.raises(DataError, match=message):
        word_times(text, events, 10, lambda text: ["w"])


def test_a_word_without_a_sound_does_not_take_those_of_its_neighbour(engine):
    with pytest.raises(DataError, match="'a - b': espeak-ng has nothing to say for '-'"):
        say(engine, Speaking("a - b", Voice("en-us", "m1"), 170, 50, 50, 50), 16000)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_every_word_has_a_time_of_its_own_in_every_accent(engine, sentence):
    for index, accent in enumerate(ACCENTS):
        variant = VARIANTS["train"][index]
        speech = say(engine, Speaking(sentence, Voice(accent, variant), 170, 50, 50, 50), 16000)
        words = speech.words
        assert [w.text for w in words] == sentence.split()
        assert words[0].start == 0 and words[-1].end <= len(speech.samples)
        assert all(w.start + 0.02 * 16000 < w.end for w in words)
        assert all(a.end <= b.start for a, b in zip(words, words[1:], strict=False))
        assert all(w.phonemes for w in words)
        spoken = [p for p in map(strip_stress, engine.phonemes(sentence, ACCENTS[accent])) if p]
        aligned = [p for w in words for p in w.phonemes]
        assert len(set(spoken) ^ set(aligned)) <= 4  # but for allophones such as a linking r


def test_times_are_those_of_the_sound(engine):
    """A word that can be told by energy alone: voiced, between pauses of the punctuation."""
    for voice in (Voice("en-us", "m3"), Voice("en-gb", "klatt4"), Voice("en-029", "steph")):
        what = Speaking("alarm, radio, 11, memo.", voice, 150, 50, 50, 50)
        speech = say(engine, what, 16000)
        loud = np.abs(speech.samples) > 0.01 * np.abs(speech.samples).max()
        inside = np.zeros(len(loud), dtype=bool)
        for w in speech.words:
            inside[w.start : w.end] = True
            sounding = w.start + np.flatnonzero(loud[w.start : w.end])
            assert sounding[0] - w.start < 0.01 * 16000 and w.end - sounding[-1] < 0.03 * 16000
        assert 0.1 < 1 - inside.mean() < 0.6  # the pauses
        assert loud[~inside].mean() < 0.02


def test_times_follow_the_sample_rate_and_the_rate_of_speech(engine):
    voice = Voice("en-us", "m1")
    slow, fast, low = (
        say(engine, Speaking(SENTENCES[0], voice, rate, 50, 50, 50), sample_rate)
        for rate, sample_rate in ((140, 16000), (220, 16000), (140, 8000))
    )
    assert slow.words[-1].start > 1.3 * fast.words[-1].start
    for a, b in zip(slow.words, low.words, strict=True):
        assert abs(a.start - 2 * b.start) <= 32 and abs(a.end - 2 * b.end) <= 32


def test_silence_is_an_error(engine):
    with pytest.raises(DataError, match="'hello'"):
        say(engine, Speaking("hello", Voice("en-us", "m1"), 170, 50, 50, 0), 16000)
