"""What a stream gives is what its whole audio gives under the chunk mask, whoever else is in the batch."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.random_streams import stream_randomly
from benchmarks.streaming_equality import Equality, compare_streams, decode_whole, stream_all
from moe_asr.recognizer.endpoint import EndpointOptions, EndpointRule
from moe_asr.recognizer.options import RecognizerOptions
from moe_asr.recognizer.recognizer import Recognizer
from moe_asr.recognizer.results import Result
from tests.recognizer.conftest import babble
from tests.recognizer.shipped import RATE, commands, release

CHUNK_SIZES = [4, 8, 16, 32]
SEARCH = {"search_beam": 16.0, "output_beam": 6.0, "n": 5}
NO_ENDPOINTS = EndpointOptions(enabled=False)
MANY_ENDPOINTS = EndpointOptions(
    rule4=EndpointRule(True, 0.16), rule5=EndpointRule(False, 0.0, min_length_seconds=1.2)
)
SECONDS = [0.0, 0.05, 0.2, 0.9, 1.3, 1.35, 2.0, 3.1]
WAVEFORMS = {f"stream-{n}": babble(seconds, n) for n, seconds in enumerate(SECONDS)}
UTTERANCES = {name: wave for name, wave in WAVEFORMS.items() if len(wave) > RATE // 10}


def check_same(equality: Equality) -> None:
    assert equality.texts == equality.lattices == 0, equality.different
    assert equality.score <= 2e-4  # a sum of many


@pytest.mark.parametrize(
    ("chunk_size", "left_chunks"),
    [(1, 9), (4, 0), (4, 3), (8, 0), (8, 2), (16, 0), (16, 1), (32, 1)],
)
def test_streams_equal_whole_utterances(loaded, graph, chunk_size, left_chunks, seed) -> None:
    options = RecognizerOptions(
        chunk_size, left_chunks, max_streams=4, method_options=SEARCH, endpoint=NO_ENDPOINTS
    )
    rng = np.random.default_rng(seed + chunk_size)
    found = compare_streams(loaded, graph, options, UTTERANCES, rng, most_streams=4)
    check_same(found)
    assert found.utterances == len(UTTERANCES) and found.arcs > 500


def test_a_difference_is_found(loaded, graph, seed) -> None:
    """One chunk of left context less than the stream has, and it is another result."""
    options = RecognizerOptions(4, 2, method_options=SEARCH, endpoint=NO_ENDPOINTS)
    audio = {"long": WAVEFORMS["stream-7"]}
    recognizer = Recognizer(loaded, graph, options)
    results, lattices = stream_all(recognizer, audio, np.random.default_rng(seed))
    whole = decode_whole(loaded, graph, options.replace(left_chunks=1), audio)
    found = Equality(4, 1)
    found.add("long", results["long"], lattices["long"], whole["long"], SEARCH["output_beam"])
    assert found.lattices == 1 and found.arcs_different > 100 and "whole:" in found.different[0]


def alone(recognizer: Recognizer, name: str) -> list[Result]:
    """All results of one stream that has the recogniser to itself."""
    results = []
    with recognizer.create_stream(name) as stream:
        for begin in range(0, len(WAVEFORMS[name]), 3000):
            stream.accept_waveform(WAVEFORMS[name][begin : begin + 3000], RATE)
            while recognizer.is_ready(stream):
                results += recognizer.decode([stream])[0]
        stream.input_finished()
        while not stream.is_finished:
            results += recognizer.decode([stream])[0]
    return results


def check_equal(found: Sequence[Result], expected: Sequence[Result]) -> None:
    """All finals, and the partial results that both have, but for scores and confidences 1e-4 apart.

    When the end of the input is known before the last chunk is decoded, its partial result is the final one.
    """
    finals = [[result for result in results if result.is_final] for results in (found, expected)]
    pairs = list(zip(*finals, strict=True))
    partials = {(r.segment, r.end_seconds): r for r in expected if not r.is_final}
    shared = [r for r in found if (r.segment, r.end_seconds) in partials and not r.is_final]
    assert len(shared) >= len(partials) - 1
    pairs += [(result, partials[result.segment, result.end_seconds]) for result in shared]
    for one, other in pairs:
        assert plain(one) == plain(other)
        assert scores_of(one) == pytest.approx(scores_of(other), abs=1e-4)


def plain(result: Result) -> Result:
    words = tuple(dataclasses.replace(word, confidence=None) for word in result.words)
    return dataclasses.replace(result, words=words, score=None, alternatives=())


def scores_of(result: Result) -> list[float]:
    confidences = [word.confidence or 0.0 for word in result.words]
    return [result.score or 0.0, *confidences, *(one.score for one in result.alternatives)]


@pytest.fixture(scope="module")
def recognizer(loaded, graph) -> Recognizer:
    options = RecognizerOptions(4, 2, max_streams=8, method_options=SEARCH, endpoint=MANY_ENDPOINTS)
    return Recognizer(loaded, graph, options)


@pytest.fixture(scope="module")
def check_stream(recognizer):
    """Compares results of a stream with those that it has alone."""
    expected = {name: alone(recognizer, name) for name in WAVEFORMS}
    reasons = {result.endpoint for results in expected.values() for result in results}
    assert reasons == {"", "rule4", "rule5", "input_finished"}  # there are endpoints of all kinds
    for (
        results
    ) in expected.values():  # none at the end of the audio, which may be known then or not
        assert results[-1].segment == 0 or results[-1].start_seconds < results[-1].end_seconds
    return lambda name, found: check_equal(found, expected[name])


@settings(max_examples=6)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.sampled_from([0.04, 0.3, 2.0]))
def test_results_do_not_depend_on_the_batch(
    recognizer, check_stream, seed: int, most: int, most_seconds: float
) -> None:
    """Partial results too: each step of a stream gives the same, whoever shares it."""
    rng = np.random.default_rng(seed)
    audio = {name: WAVEFORMS[name] for name in rng.permutation(list(WAVEFORMS)).tolist()}
    run = stream_randomly(recognizer, audio, RATE, rng, most, most_seconds)
    assert max(run.batch_sizes) <= most
    for name in audio:
        check_stream(name, run.results[name])
    assert recognizer.num_streams == 0


@pytest.mark.parametrize("chunk_size", CHUNK_SIZES)
def test_the_release_gives_in_streams_what_it_gives_whole(chunk_size: int, seed: int) -> None:
    base = release()
    options = base.options.replace(chunk_size=chunk_size, endpoint=NO_ENDPOINTS, max_streams=5)
    number = CHUNK_SIZES.index(chunk_size)
    some = commands(20)[number :: len(CHUNK_SIZES)]
    audio = {f"command-{n}": spoken.samples for n, spoken in enumerate(some)}
    rng = np.random.default_rng(seed)
    found = compare_streams(base.loaded, base.graph, options, audio, rng, most_streams=5)
    check_same(found)
    assert found.utterances == 5 and found.arcs > 100
