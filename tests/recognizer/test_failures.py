"""What fails for one stream fails for that one: others keep their chunks and get their results."""

import pytest

from moe_asr.errors import DataError, GraphError
from moe_asr.recognizer.endpoint import EndpointOptions, EndpointRule
from moe_asr.recognizer.options import RecognizerOptions
from moe_asr.recognizer.recognizer import Recognizer
from moe_asr.recognizer.results import Result
from moe_asr.recognizer.stream import Stream
from tests.recognizer.conftest import babble

AUDIO = {name: babble(2.0, seed) for seed, name in enumerate(["one", "bad", "two"])}
RULES = EndpointOptions(
    rule4=EndpointRule(True, 0.16), rule5=EndpointRule(False, 0.0, min_length_seconds=0.8)
)


@pytest.fixture(scope="module")
def recognizer(loaded, graph) -> Recognizer:
    search = {"search_beam": 16.0, "output_beam": 6.0, "n": 5}
    options = RecognizerOptions(
        4, 2, max_streams=4, method_options=search, endpoint=RULES, full_context_final=True
    )
    return Recognizer(loaded, graph, options)


def run(recognizer: Recognizer) -> tuple[dict[str, Stream], dict[str, list[Result]]]:
    """Three streams, each with all of its audio, to their ends."""
    streams = {name: recognizer.create_stream(name) for name in AUDIO}
    for name, stream in streams.items():
        stream.accept_waveform(AUDIO[name], 16000)
        stream.input_finished()
    found: dict[str, list[Result]] = {name: [] for name in AUDIO}
    while not all(stream.is_finished for stream in streams.values()):
        for name, new in zip(found, recognizer.decode(list(streams.values())), strict=True):
            found[name] += new
    assert recognizer.num_streams == 0
    return streams, found


@pytest.fixture(scope="module")
def expected(recognizer) -> dict[str, list[Result]]:
    """Where nothing fails."""
    _, found = run(recognizer)
    assert min(len(finals(results)) for results in found.values()) > 2
    return found


def finals(results: list[Result]) -> list[tuple[int, str, float, str]]:
    return [(r.segment, r.text, r.end_seconds, r.endpoint) for r in results if r.is_final]


def fails_for(monkeypatch, owner: object, name: str, is_of: object, error: Exception) -> list[int]:
    """Makes a method fail where ``is_of`` says so of its arguments; how often it has."""
    method, times = getattr(owner, name), [0]

    def broken(*arguments: object) -> object:
        if is_of(*arguments):
            times[0] += 1
            raise error
        return method(*arguments)

    monkeypatch.setattr(owner, name, broken)
    return times


def is_bad(segment: object) -> bool:
    return segment.stream_id == "bad"


PLACES = {
    # what fails, when it does, and the final results that come before
    "word times": (
        lambda r: (r._finisher, "_result"), lambda s, _: is_bad(s) and s.segment == 1, 1
    ),
    "second pass": (
        lambda r: (r._finisher.method, "decode"), lambda batch: "bad-2" in batch.utterance_ids, 2
    ),
    "full context": (
        lambda r: (r.search, "search"), lambda _a, _b, names, _c: "bad-0" in names, 0
    ),
    "endpoint": (
        lambda r: (r._segmenter, "endpoint"), lambda s, _: s.number == 1 and s.num_frames > 4, 1
    ),
    "cut": (lambda r: (r._segmenter, "cut"), lambda _s, _t, name, *_: name == "bad", None),
}  # fmt: skip


@pytest.mark.parametrize("error", [GraphError("no such word"), IndexError("5")])
@pytest.mark.parametrize("place", PLACES)
def test_an_error_of_one_segment_is_its_streams_alone(
    recognizer, expected, monkeypatch, place: str, error: Exception
) -> None:
    owner, is_of, before = PLACES[place]
    if place == "endpoint":
        own = is_of

        def is_of(segment: object, status: object) -> bool:
            return segment is current["bad"]._segment and own(segment, status)

    current: dict[str, Stream] = {}
    create = recognizer.create_stream
    monkeypatch.setattr(
        recognizer, "create_stream", lambda name: current.setdefault(name, create(name))
    )
    times = fails_for(monkeypatch, *owner(recognizer), is_of, error)
    streams, found = run(recognizer)
    assert times[0] > 0
    for name in ("one", "two"):
        assert streams[name].failure is None
        assert finals(found[name]) == finals(expected[name])
    failure = streams["bad"].failure
    assert isinstance(failure, GraphError if isinstance(error, GraphError) else DataError)
    assert "stream bad" in str(failure) and str(error) in str(failure)
    assert failure.__cause__ is error
    if before is None:
        before = [one[3] for one in finals(expected["bad"])].index("rule5")
    assert finals(found["bad"]) == finals(expected["bad"])[:before]
    # what comes after is as ever
    monkeypatch.undo()
    _, again = run(recognizer)
    assert {n: finals(r) for n, r in again.items()} == {n: finals(r) for n, r in expected.items()}


def test_an_error_of_a_partial_result(recognizer, expected, monkeypatch) -> None:
    """The final result of the same call has been made, and is given."""
    cut = [one[3] for one in finals(expected["bad"])].index("rule5")
    partials = recognizer._partials

    def broken(stream: Stream) -> object:
        if stream.id == "bad" and stream._segment.number == cut + 1:
            raise GraphError("no such word")
        return partials(stream)

    monkeypatch.setattr(recognizer, "_partials", broken)
    streams, found = run(recognizer)
    assert finals(found["bad"]) == finals(expected["bad"])[: cut + 1]
    assert isinstance(streams["bad"].failure, GraphError)
    for name in ("one", "two"):
        assert finals(found[name]) == finals(expected[name])


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_an_error_of_the_whole_batch_ends_its_streams(
    recognizer, expected, monkeypatch, error: BaseException
) -> None:
    """Their chunks are lost and their caches half written: they must not go on as if nothing had been."""
    streams = [recognizer.create_stream(name) for name in ("one", "bad")]
    waits = recognizer.create_stream("two")
    for stream in (*streams, waits):
        stream.accept_waveform(AUDIO[stream.id], 16000)
        stream.input_finished()
    recognizer.decode([*streams, waits])

    def broken(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(recognizer.model, "ctc_log_probs", broken)
        with pytest.raises(type(error)):
            recognizer.decode(streams)
    for stream in streams:
        assert stream.is_finished and f"stream {stream.id}" in str(stream.failure)
        assert type(error).__name__ in str(stream.failure)
        with pytest.raises(DataError, match="has failed"):
            stream.accept_waveform(AUDIO["one"], 16000)
    assert recognizer.num_streams == 1
    found = []
    while not waits.is_finished:
        found += recognizer.decode([*streams, waits])[2]
    assert finals(found) == finals(expected["two"])
    assert recognizer.num_streams == 0
