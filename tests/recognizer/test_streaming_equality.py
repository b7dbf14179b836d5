"""What a stream gives is what its whole audio gives under the chunk mask, whoever else is in the batch."""

import dataclasses
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.random_streams import stream_randomly
from benchmarks.spoken_streams import say_sentences
from benchmarks.streaming_equality import Equality, compare_streams, decode_whole, stream_all
from moe_asr.recognizer.endpoint import EndpointOptions, EndpointRule
from moe_asr.recognizer.options import RecognizerOptions
from moe_asr.recognizer.recognizer import Recognizer
from moe_asr.recognizer.results import Result
from tests.recognizer.tiny import (
    RATE,
    SEARCH,
    needs_release,
    noise,
    release,
    tiny_graph,
    tiny_model,
    tiny_recognizer,
)

CHUNK_SIZES = [4, 8, 16, 32]
NO_ENDPOINTS = EndpointOptions(enabled=False)
# an untrained model pauses for a frame or two at a time
MANY_ENDPOINTS = EndpointOptions(
    rule4=EndpointRule(True, 0.12), rule5=EndpointRule(False, 0.0, min_length_seconds=1.2)
)
SECONDS = [0.0, 0.05, 0.2, 0.9, 1.3, 1.35, 2.0, 3.1]
WAVEFORMS = {f"stream-{n}": noise(seconds, n + 1) for n, seconds in enumerate(SECONDS)}


def same(equality: Equality) -> bool:
    assert equality.texts == equality.lattices == 0, equality.different
    return equality.score <= 1e-4


@pytest.mark.parametrize("left_chunks", [0, 1, 4])
@pytest.mark.parametrize("chunk_size", [1, *CHUNK_SIZES])
def test_streams_equal_whole_utterances(chunk_size: int, left_chunks: int, seed: int) -> None:
    options = RecognizerOptions(
        chunk_size, left_chunks, max_streams=4, method_options=SEARCH, endpoint=NO_ENDPOINTS
    )
    audio = {name: wave for name, wave in WAVEFORMS.items() if len(wave) > 1600}
    rng = np.random.default_rng(seed + chunk_size)
    found = compare_streams(tiny_model(), tiny_graph(), options, audio, rng, most_streams=4)
    assert same(found) and found.arcs > 1000


def test_a_difference_is_found(seed: int) -> None:
    """One chunk of left context less than the stream has, and it is another result."""
    options = RecognizerOptions(4, 2, method_options=SEARCH, endpoint=NO_ENDPOINTS)
    audio = {"long": WAVEFORMS["stream-7"]}
    recognizer = Recognizer(tiny_model(), tiny_graph(), options)
    results, lattices = stream_all(recognizer, audio, np.random.default_rng(seed))
    whole = decode_whole(tiny_model(), tiny_graph(), options.replace(left_chunks=1), audio)
    found = Equality(4, 1)
    found.add("long", results["long"], lattices["long"], whole["long"], SEARCH["output_beam"])
    assert found.lattices == 1 and found.arcs_different > 100 and "whole:" in found.different[0]


def alone(recognizer: Recognizer, name: str, size: int) -> list[Result]:
    """All results of one stream that has the recogniser to itself, given ``size`` samples at a time."""
    results = []
    with recognizer.create_stream(name) as stream:
        for begin in range(0, len(WAVEFORMS[name]), size):
            stream.accept_waveform(WAVEFORMS[name][begin : begin + size], RATE)
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


@lru_cache
def shared_recognizer() -> Recognizer:
    return tiny_recognizer(endpoint=MANY_ENDPOINTS)


@lru_cache
def results_alone() -> dict[str, list[Result]]:
    found = {name: alone(shared_recognizer(), name, 3000) for name in WAVEFORMS}
    reasons = {result.endpoint for results in found.values() for result in results}
    assert reasons == {"", "rule4", "rule5", "input_finished"}  # there are endpoints of all kinds
    for results in found.values():  # none at the end of the audio, where it may be known or not
        assert results[-1].start_seconds < results[-1].end_seconds or results[-1].segment == 0
    return found


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.sampled_from([0.04, 0.3, 2.0]))
def test_results_do_not_depend_on_the_batch(seed: int, most: int, most_seconds: float) -> None:
    """Partial results too: each step of a stream gives the same, whoever shares it."""
    recognizer, expected = shared_recognizer(), results_alone()
    rng = np.random.default_rng(seed)
    audio = {name: WAVEFORMS[name] for name in rng.permutation(list(WAVEFORMS)).tolist()}
    run = stream_randomly(recognizer, audio, RATE, rng, most, most_seconds)
    assert max(run.batch_sizes) <= most
    for name in audio:
        check_equal(run.results[name], expected[name])
    assert recognizer.num_streams == 0


@pytest.fixture(scope="module")
def commands() -> dict[str, np.ndarray]:
    needs_release()
    return {spoken.text: spoken.samples for spoken in say_sentences(20, RATE)}


@pytest.mark.parametrize("chunk_size", CHUNK_SIZES)
def test_the_release_gives_in_streams_what_it_gives_whole(
    commands: dict[str, np.ndarray], chunk_size: int, seed: int
) -> None:
    base = release()
    options = base.options.replace(chunk_size=chunk_size, endpoint=NO_ENDPOINTS, max_streams=5)
    first = CHUNK_SIZES.index(chunk_size)
    some = dict(list(commands.items())[first :: len(CHUNK_SIZES)])
    rng = np.random.default_rng(seed)
    found = compare_streams(base.loaded, base.graph, options, some, rng, most_streams=5)
    assert same(found) and found.utterances == 5
