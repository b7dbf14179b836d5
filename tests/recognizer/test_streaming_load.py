"""What `benchmarks.streaming_load` measures, on streams of the tiny model; no time is asserted."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.paced_streams import needed_samples, run_paced
from benchmarks.streaming_load import Bench, Cell, find_most, percentile
from moe_asr.recognizer.endpoint import EndpointOptions, EndpointRule
from moe_asr.recognizer.options import RecognizerOptions
from moe_asr.recognizer.recognizer import Recognizer
from tests.recognizer.conftest import babble
from tests.recognizer.shipped import RATE

PAUSES = EndpointOptions(rule4=EndpointRule(True, 0.16))


def recognizer(loaded, graph, streams: int = 3) -> Recognizer:
    options = RecognizerOptions(
        4, 2, max_streams=streams, endpoint=PAUSES, method_options={"search_beam": 16.0, "n": 5}
    )
    return Recognizer(loaded, graph, options)


def test_the_samples_that_a_chunk_needs(loaded, graph) -> None:
    """One less, and it cannot be decoded; with them, it can; also after an endpoint."""
    engine = recognizer(loaded, graph)
    audio, given, endpoints = babble(6.0), 0, 0
    with engine.create_stream() as stream:
        while given < len(audio) - RATE // 2:
            needed = needed_samples(loaded, stream.num_frames + 4)
            stream.accept_waveform(audio[given : needed - 1], RATE)
            assert not engine.is_ready(stream)
            stream.accept_waveform(audio[needed - 1 : needed], RATE)
            assert engine.is_ready(stream)
            given = needed
            (results,) = engine.decode([stream])
            endpoints += any(result.is_final for result in results)
    assert endpoints > 0 and needed_samples(loaded, 0) == 0


def test_results_do_not_come_before_what_they_need(loaded, graph) -> None:
    engine = recognizer(loaded, graph)
    audio = [babble(seconds, 10 + n) for n, seconds in enumerate([1.0, 1.23, 0.7])]
    found = run_paced(engine, loaded, audio, [0.0, 0.05, 0.31])
    assert len(found.finals) >= 3 and all(final.latency_ms > 0.0 for final in found.finals)
    assert found.paced_seconds == pytest.approx(1.28)
    assert found.audio_seconds == pytest.approx(2.93)
    assert found.wall_seconds >= found.paced_seconds and 0.0 < found.busy_seconds
    assert max(found.batch_sizes) <= 3 and found.peak_mb > 10.0
    assert engine.num_streams == 0


@pytest.mark.parametrize("most", [1, 5, 8, 21, 31, 40, 100])
@pytest.mark.parametrize("streams", [[1, 2, 4, 8, 16, 32], [8], [3, 24]])
def test_the_most_streams_that_are_held(most: int, streams: list[int], capsys) -> None:
    """The answer is right, or at most one sixteenth too small; the numbers asked for are all there."""

    def cell(number: int) -> Cell:
        latency = 100.0 if number <= most else 400.0
        return Cell(number, latency, latency, 0.1, 100.0, 0.5, 3, 1.0, latency, float("nan"))

    cells, held = find_most(SimpleNamespace(cell=cell), streams, 300.0, 64)
    numbers = [one.streams for one in cells]
    assert numbers == sorted(set(numbers)) and set(streams) <= set(numbers)
    assert held == 0 or {held, 2 * held} <= set(numbers)
    highest = max(streams)
    while 2 * highest <= 64:
        highest *= 2
    assert 0 <= min(most, highest) - held <= max(1, held // 16)
    assert len(capsys.readouterr().out.splitlines()) == len(cells)
    assert cells[0].json()["last_third_p95_ms"] is None


def test_an_hour_in_short(loaded, graph) -> None:
    spoken = [SimpleNamespace(samples=babble(0.5, n)) for n in range(3)]
    bench = Bench(lambda streams: recognizer(loaded, graph, streams), loaded, spoken, 1.0)
    found = bench.hour(2, hours=50 / 3600)
    assert found["audio_seconds"] >= 50 and found["streams"] % 4 == 0 and found["words"] > 0
    assert found["growth_mb"] == pytest.approx(found["last_mb"] - found["warm_mb"], abs=0.11)


def test_percentiles() -> None:
    values = [float(n) for n in range(1, 21)]
    assert percentile(values, 95) == 20.0 and percentile(values, 50) == 11.0
    assert np.isnan(percentile([], 95))
