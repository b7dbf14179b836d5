"""Streams given what real life gives them: no input, wrong input, too much of it, from many threads."""

import itertools
import threading
from collections.abc import Sequence

import kaldialign
import numpy as np
import pytest
import torch

from benchmarks.spoken_streams import Spoken
from moe_asr.audio.io import resample
from moe_asr.errors import AudioError, DataError
from moe_asr.fsa.context_phrases import Phrase
from moe_asr.recognizer.endpoint import EndpointOptions, EndpointRule
from moe_asr.recognizer.options import RecognizerOptions
from moe_asr.recognizer.recognizer import Recognizer
from moe_asr.recognizer.results import Result
from moe_asr.recognizer.stream import Stream
from tests.recognizer.conftest import babble
from tests.recognizer.shipped import RATE, commands, joined, release

SEARCH = {"search_beam": 16.0, "output_beam": 6.0, "n": 5}
PAUSES = EndpointOptions(
    rule4=EndpointRule(True, 0.16), rule5=EndpointRule(False, 0.0, min_length_seconds=1.2)
)
AUDIO = babble(2.5, 3)


@pytest.fixture(scope="module")
def make(loaded, graph):
    def make(**options) -> Recognizer:
        given = {"chunk_size": 4, "left_chunks": 2, "max_streams": 4, "endpoint": PAUSES}
        options = {**given, "method_options": SEARCH, **options}
        return Recognizer(loaded, graph, RecognizerOptions(**options))

    return make


@pytest.fixture(scope="module")
def recognizer(make) -> Recognizer:
    return make()


def drain(recognizer: Recognizer, stream: Stream) -> list[Result]:
    """What comes out of one stream now."""
    results = []
    while recognizer.is_ready(stream):
        results += recognizer.decode([stream])[0]
    return results


def finals(results: Sequence[Result]) -> list[Result]:
    return [result for result in results if result.is_final]


def run(
    recognizer: Recognizer, pieces: Sequence[tuple[np.ndarray, int]], name: str = "x", **stream
) -> list[Result]:
    """The final results of pieces of audio (samples, rate), decoded after each."""
    found = []
    with recognizer.create_stream(name, **stream) as one:
        for samples, rate in pieces:
            one.accept_waveform(samples, rate)
            found += drain(recognizer, one)
        one.input_finished()
        found += drain(recognizer, one)
        assert one.is_finished
    check_adjoining(finals(found))
    return finals(found)


def check_adjoining(segments: Sequence[Result]) -> None:
    """Each begins where the one before ends, and its words lie in it, in order."""
    end = 0.0
    for number, segment in enumerate(segments):
        assert (segment.segment, segment.start_seconds) == (number, end)
        end = segment.end_seconds
        times = [t for word in segment.words for t in (word.start_seconds, word.end_seconds)]
        times = [round(time, 6) for time in (segment.start_seconds, *times, end)]
        assert times == sorted(times)
    assert segments[-1].endpoint == "input_finished"


def in_pieces(samples: np.ndarray, size: int) -> list[tuple[np.ndarray, int]]:
    return [(samples[begin : begin + size], RATE) for begin in range(0, len(samples), size)]


@pytest.fixture(scope="module")
def expected(recognizer) -> list[Result]:
    found = run(recognizer, in_pieces(AUDIO, 1600))
    assert len(found) > 2 and sum(len(segment.words) for segment in found) > 4
    return found


def texts(segments: Sequence[Result]) -> list[tuple[str, float]]:
    return [(segment.text, segment.end_seconds) for segment in segments]


def all_words(segments: Sequence[Result]) -> list[str]:
    return " ".join(segment.text for segment in segments).split()


def test_nothing(recognizer) -> None:
    for samples in (np.zeros(0, np.float32), np.zeros(79, np.float32), babble(0.03)):
        (final,) = run(recognizer, [(samples, RATE)] if len(samples) else [])
        assert final == Result("x", 0, True, "", (), 0, 0.0, 0.0, "input_finished")


@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_pieces_of_any_size_and_of_none(recognizer, expected, size) -> None:
    nothing = (np.zeros(0, np.float32), RATE)
    audio = AUDIO[:4000] if size < 10 else AUDIO
    pieces = [piece for one in in_pieces(audio, size) for piece in (nothing, one)]
    reference = expected if len(audio) == len(AUDIO) else run(recognizer, [(audio, RATE)])
    assert texts(run(recognizer, [*pieces, nothing])) == texts(reference)


def test_samples_that_are_no_audio_are_refused_and_the_stream_goes_on(recognizer, expected) -> None:
    nan, infinite = AUDIO[:100].copy(), AUDIO[:100].copy()
    nan[50], infinite[99] = np.nan, -np.inf
    wrong = [
        (nan, RATE, "sample 50 is nan"),
        (infinite, RATE, "sample 99 is -inf"),
        ((AUDIO[:10] * 32768).astype(np.int16), RATE, "int16; expected floats"),
        (np.zeros((2, 100), np.float32), RATE, "expected mono"),
        (AUDIO[:100] * 1e12, RATE, r"a sample of .*e\+1\d; expected floats in \[-1, 1\]"),
        (AUDIO[:100], 0, "0 Hz"),
        (AUDIO[:100], float("inf"), "inf Hz"),
        (AUDIO[:100], -8000, "-8000 Hz"),
        (AUDIO[:100], float("nan"), "nan Hz"),
    ]
    found = []
    with recognizer.create_stream("phone") as stream:
        for begin in range(0, len(AUDIO), 4000):
            for samples, rate, message in wrong:
                with pytest.raises(AudioError, match=f"stream phone: .*{message}"):
                    stream.accept_waveform(samples, rate)
            stream.accept_waveform(AUDIO[begin : begin + 4000], RATE)
            found += drain(recognizer, stream)
        stream.input_finished()
        found += drain(recognizer, stream)
    assert texts(finals(found)) == texts(expected)


def test_a_rate_that_changes_in_mid_stream(recognizer) -> None:
    """The same as pieces that are resampled one by one, and nothing is lost where they meet."""
    rates = [RATE, 8000, 8000, 44100, RATE, 48000, 8000]
    pieces = [
        (resample(AUDIO[5000 * n : 5000 * (n + 1)], RATE, rate), rate)
        for n, rate in enumerate(rates)
    ]
    joined_by_rate = [pieces[0], (np.concatenate([pieces[1][0], pieces[2][0]]), 8000), *pieces[3:]]
    whole = np.concatenate([resample(samples, rate, RATE) for samples, rate in joined_by_rate])
    assert abs(len(whole) - 5000 * len(rates)) < 10
    found, reference = run(recognizer, pieces), run(recognizer, [(whole, RATE)])
    assert texts(found) == texts(reference)
    scores = [segment.score for segment in reference]
    assert [segment.score for segment in found] == pytest.approx(scores, abs=0.05)


def test_after_the_end_of_the_input(recognizer, expected) -> None:
    with recognizer.create_stream() as stream:
        stream.accept_waveform(AUDIO, RATE)
        stream.input_finished()
        for _ in range(2):
            with pytest.raises(AudioError, match="after input_finished"):
                stream.accept_waveform(AUDIO[:100], RATE)
            stream.input_finished()
        found = drain(recognizer, stream)
        assert stream.is_finished and not recognizer.is_ready(stream)
        stream.input_finished()
        with pytest.raises(AudioError, match="after input_finished"):
            stream.accept_waveform(AUDIO[:100], RATE)
        assert recognizer.decode([stream]) == [[]]
    assert texts(finals(found)) == texts(expected)


def test_streams_that_leave_early(recognizer, expected) -> None:
    """Others do not notice, and what they leave behind is not seen by who gets their place."""
    others = [recognizer.create_stream() for _ in range(3)]
    stays = recognizer.create_stream("stays")
    found = []
    for number, (samples, rate) in enumerate(in_pieces(AUDIO, 4000)):
        stays.accept_waveform(samples, rate)
        for other in others:
            other.accept_waveform(babble(0.3, number), rate)
        found += recognizer.decode([*others, stays])[-1] + drain(recognizer, stays)
        others.pop(0).close()
        others.append(recognizer.create_stream())
    stays.input_finished()
    found += drain(recognizer, stays)
    for other in others:
        other.close()
    assert texts(finals(found)) == texts(expected)
    assert recognizer.num_streams == 0
    for _ in range(4):
        assert texts(run(recognizer, in_pieces(AUDIO, 1600))) == texts(expected)


def test_a_failed_stream_leaves_its_place_clean(make, expected, monkeypatch) -> None:
    """Whatever it wrote into the caches of its place before it failed."""
    recognizer = make(max_streams=1)
    bad = recognizer.create_stream("bad")
    bad.accept_waveform(AUDIO, RATE)
    recognizer.decode([bad])
    monkeypatch.setattr(recognizer.model.cmvn, "forward", lambda x: x * float("nan"))
    recognizer.decode([bad])
    monkeypatch.undo()
    assert bad.is_finished and "not finite after 0.16 s" in str(bad.failure)
    assert texts(run(recognizer, in_pieces(AUDIO, 1600))) == texts(expected)


def test_as_many_streams_as_there_are_places(recognizer) -> None:
    streams = [recognizer.create_stream() for _ in range(4)]
    with pytest.raises(DataError, match="4 streams are open"):
        recognizer.create_stream()
    streams[1].close()
    with recognizer.create_stream() as another:
        another.input_finished()
        drain(recognizer, another)  # finished streams need no place
        streams[1] = recognizer.create_stream()
        with pytest.raises(DataError, match="4 streams are open"):
            recognizer.create_stream()
    for stream in streams:
        stream.close()


def test_names_of_streams(recognizer) -> None:
    """Results and messages tell streams by them: no two that are open have one name."""
    with recognizer.create_stream("stream1000") as stream:
        with pytest.raises(DataError, match="a stream with the name stream1000 is open"):
            recognizer.create_stream("stream1000")
        stream.input_finished()
        drain(recognizer, stream)  # it has finished, and the name is free
        recognizer._numbers = itertools.count(1000)
        with recognizer.create_stream("stream1000"), recognizer.create_stream() as numbered:
            assert numbered.id == "stream1001" and recognizer.num_streams == 2
    assert recognizer.num_streams == 0


def test_more_audio_than_may_wait(make) -> None:
    recognizer = make(max_backlog_seconds=1.0)
    expected = run(recognizer, in_pieces(AUDIO, 4000))
    stream, found = recognizer.create_stream("slow"), []
    for begin in range(0, len(AUDIO), 8000):
        stream.accept_waveform(AUDIO[begin : begin + 8000], RATE)
        with pytest.raises(AudioError, match=r"stream slow: .* at most 1 s may"):
            stream.accept_waveform(babble(0.9), RATE)
        assert stream.num_bytes <= recognizer.memory_per_stream.total
        found += drain(recognizer, stream)
    stream.input_finished()
    found += drain(recognizer, stream)
    assert texts(finals(found)) == texts(expected)


def test_each_stream_listens_for_its_own_phrases(recognizer, expected) -> None:
    """In one batch: a boosted word is found more often, and other streams are as they were."""
    phrases = [None, [Phrase("ba", 6.0)], [Phrase("ba", -6.0)]]
    streams = [recognizer.create_stream(str(n), phrases=given) for n, given in enumerate(phrases)]
    found: list[list[Result]] = [[] for _ in streams]
    for stream in streams:
        stream.accept_waveform(AUDIO, RATE)
        stream.input_finished()
    while not all(stream.is_finished for stream in streams):
        for results, new in zip(found, recognizer.decode(streams), strict=True):
            results += new
    assert texts(finals(found[0])) == texts(expected)
    none, more, less = (all_words(finals(results)).count("ba") for results in found)
    assert less < none < more


def test_phrases_hold_in_every_segment(recognizer, expected) -> None:
    with recognizer.create_stream("x", phrases=[Phrase("ba", 6.0)]) as stream:
        first, states = stream._segment.context, []
        stream.accept_waveform(AUDIO, RATE)
        stream.input_finished()
        while not stream.is_finished:
            states.append(stream._segment)
            recognizer.decode([stream])
    assert states[-1].number > 1
    assert all(one.context is first and one.search.context is not None for one in states)


def test_a_dead_search_ends_by_the_blanks_of_the_model(make, loaded, monkeypatch) -> None:
    """For a few frames only a token is possible that no word of the graph has; what follows is silence."""
    never = EndpointRule(True, 1000.0)
    rules = EndpointOptions(never, never, never, EndpointRule(True, 0.24), never)
    recognizer = make(endpoint=rules, method="one_best", method_options={})
    tokens = loaded.tokenizer.tokens
    outside = tokens["<sos/eos>"]
    said = [tokens["a"]] * 6 + [outside] * 6 + [0] * 300

    def scripted(memory: torch.Tensor) -> torch.Tensor:
        begin = stream.num_frames
        log_probs = torch.full((len(memory), len(tokens)), -float("inf"))
        ids = torch.tensor(said[begin : begin + len(memory)])
        return log_probs.scatter(1, ids[:, None], 0.0)

    monkeypatch.setattr(recognizer.model, "ctc_log_probs", scripted)
    with recognizer.create_stream("dead") as stream:
        stream.accept_waveform(babble(2.0), RATE)
        stream.input_finished()
        found = finals(drain(recognizer, stream))
        assert stream.failure is None
    # six blanks behind twelve frames, seen after a whole chunk of four
    assert [(one.text, one.endpoint, round(one.end_seconds / 0.04)) for one in found] == [
        ("a", "rule4", 20), ("", "input_finished", 49),
    ]  # fmt: skip


def test_a_stream_of_minutes(make, loaded) -> None:
    """Many segments, memory that does not grow; every frame is in one of them."""
    recognizer = make(chunk_size=32, partial_results=False, method="one_best", method_options={})
    audio = np.concatenate([babble(30.0, seed) for seed in range(5)])
    stream, found, most = recognizer.create_stream("long"), [], []
    for samples, rate in in_pieces(audio, 10 * RATE):
        stream.accept_waveform(samples, rate)
        sizes = [stream.num_bytes]
        while recognizer.is_ready(stream):
            found += recognizer.decode([stream])[0]
            sizes.append(stream.num_bytes)
        most.append(max(sizes))
    stream.input_finished()
    found += drain(recognizer, stream)
    check_adjoining(found)
    assert len(found) > 40 and {"rule4", "rule5"} <= {segment.endpoint for segment in found}
    frames = loaded.model.output_length(loaded.fbank_options.num_frames(len(audio)))
    assert found[-1].end_seconds == pytest.approx(0.04 * frames)
    assert stream.num_frames == frames
    assert max(most) < 1.5 * max(most[:3]) and max(most) < recognizer.memory_per_stream.total


def test_a_thread_for_each_stream(make) -> None:
    """Each gives its audio in pieces of its own; others decode, open and close streams, and end the search's
    threads."""
    recognizer = make(max_streams=5, method_options={**SEARCH, "num_threads": 2})
    audio = {f"stream-{n}": babble(3.0, n) for n in range(4)}
    expected = {name: run(recognizer, [(wave, RATE)], name) for name, wave in audio.items()}
    streams = {name: recognizer.create_stream(name) for name in audio}
    failures: list[BaseException] = []

    def speak(name: str, size: int) -> None:
        try:
            for samples, rate in in_pieces(audio[name], size):
                streams[name].accept_waveform(samples, rate)
            streams[name].input_finished()
        except BaseException as error:
            failures.append(error)

    def come_and_go() -> None:
        try:
            for n in range(30):
                with recognizer.create_stream() as stream:
                    stream.accept_waveform(babble(0.2, n), RATE)
                    recognizer.decode([stream])
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=speak, args=(name, 100 * 3**n)) for n, name in enumerate(audio)
    ]
    threads.append(threading.Thread(target=come_and_go))
    is_over = threading.Event()

    def close() -> None:
        while not is_over.wait(0.0005):
            recognizer.close()

    threads.append(threading.Thread(target=close, daemon=True))
    for thread in threads:
        thread.start()
    found: dict[str, list[Result]] = {name: [] for name in audio}
    while not failures and not all(stream.is_finished for stream in streams.values()):
        for name, results in zip(streams, recognizer.decode(list(streams.values())), strict=True):
            found[name] += results
    is_over.set()
    for thread in threads:
        thread.join()
    assert not failures
    for name in audio:
        assert texts(finals(found[name])) == texts(expected[name])
    assert recognizer.num_streams == 0


def edits(found: Sequence[Result], sentences: Sequence[Spoken]) -> int:
    reference = " ".join(spoken.text for spoken in sentences).split()
    return kaldialign.edit_distance(reference, all_words(found))["total"]


def test_silence_says_nothing() -> None:
    recognizer = release()
    with recognizer.create_stream() as stream:
        stream.accept_waveform(np.zeros(7 * RATE, np.float32), RATE)
        stream.input_finished()
        found = drain(recognizer, stream)
    assert {result.text for result in found} == {""}
    assert [result.endpoint for result in finals(found)] == ["rule1", "input_finished"]


@pytest.mark.parametrize("level_db", [-50, -20, 0])
def test_noise_says_hardly_anything(level_db: float, seed: int) -> None:
    noise = 10 ** (level_db / 20) * np.random.default_rng(seed).standard_normal(4 * RATE)
    found = run(release(), [(noise, RATE)])
    assert len(all_words(found)) <= 3
    assert all(np.isfinite(segment.score) for segment in found if segment.words)


def test_every_word_of_a_recording_in_order() -> None:
    """A segment for each sentence, between pauses."""
    sentences = commands(6)
    found = run(release(), in_pieces(joined(sentences, 1.0), 5000))
    assert edits(found, sentences) <= 1
    assert sum(bool(segment.text) for segment in found) == len(sentences)


def test_every_word_where_nobody_pauses() -> None:
    """Segments are cut by their length, which costs next to nothing."""
    sentences = commands(4)
    audio = joined(sentences, 0.12)
    found = {}
    for name, seconds in (("whole", 1000.0), ("cut", 3.0)):
        never = EndpointRule(True, 1000.0)
        rule5 = EndpointRule(False, 0.0, min_length_seconds=seconds)
        rules = EndpointOptions(never, never, never, never, rule5)
        options = release().options.replace(endpoint=rules, partial_results=False, max_streams=1)
        recognizer = Recognizer(release().loaded, release().graph, options)
        found[name] = run(recognizer, [(audio, RATE)])
    assert len(found["whole"]) == 1 and len(found["cut"]) > 3
    assert {segment.endpoint for segment in found["cut"]} == {"rule5", "input_finished"}
    assert edits(found["cut"], sentences) <= edits(found["whole"], sentences) + 1


def test_clipped_speech() -> None:
    sentences = commands(2)
    audio = np.clip(10 * joined(sentences, 1.0), -1.0, 1.0)
    assert (np.abs(audio) == 1.0).mean() > 0.02
    assert edits(run(release(), [(audio, RATE)]), sentences) == 0


def test_telephone_speech() -> None:
    """8 kHz, which the model has not heard: the words are there, the same as of audio resampled at once."""
    sentences = commands(2)
    audio = resample(joined(sentences, 1.0), RATE, 8000)
    pieces = [(audio[begin : begin + 4000], 8000) for begin in range(0, len(audio), 4000)]
    found = run(release(), pieces)
    assert edits(found, sentences) <= 1
    assert texts(found) == texts(run(release(), [(resample(audio, 8000, RATE), RATE)]))
