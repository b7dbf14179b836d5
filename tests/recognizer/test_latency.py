"""Latencies of scripted results against closed forms, and of any history against plain definitions."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.errors import DataError
from moe_asr.evaluate.ctm import CtmWord
from moe_asr.recognizer.draw_latency import latency_figure
from moe_asr.recognizer.latency import (
    WORD_TIMES,
    LatencyReport,
    distribution,
    endpoint_delay,
    report_of,
    word_times,
)
from moe_asr.recognizer.latency_table import format_latency
from moe_asr.recognizer.results import Result
from moe_asr.recognizer.virtual_stream import (
    ShownResult,
    StreamRun,
    VirtualClock,
    run_stream,
    with_tail,
)
from tests.recognizer.fakes import STAGES, FakeRecognizer, result

RATE = 1000  # one sample a millisecond
NOTHING = dict.fromkeys(STAGES, 0.0)


def run_script(
    script: list[list[Result]], seconds: float, takes: dict[str, float] = NOTHING, chunk: int = 200
) -> StreamRun:
    """Pieces of 100 ms, chunks of ``chunk``; what each step takes is told, not measured."""
    fake = FakeRecognizer(script, chunk, {**NOTHING, **takes})
    clock = VirtualClock(timer=lambda: fake.now)
    samples = np.arange(round(seconds * RATE), dtype=np.float32)
    run = run_stream(fake, samples, RATE, "u", 0.1, clock)  # type: ignore[arg-type]
    (stream,) = fake.streams
    assert stream.is_closed and stream.has_ended and np.array_equal(stream.samples, samples)
    return run


def reference(*words: tuple[str, float]) -> list[CtmWord]:
    """Words by their ends, each 0.1 s long."""
    return [CtmWord("u", "1", end - 0.1, 0.1, word) for word, end in words]


SCRIPT = [
    [result("a")],  # 0.2 s of audio
    [result("a c", 1)],  # 0.4
    [result("a b c", 1)],  # 0.6
    [result("a b d", 2)],  # 0.8
    [result("a b c", 2)],  # 1.0
    [result("a b c", final=True, endpoint="rule2")],  # 1.2
    [result("e", segment=1)],  # 1.4
    [result("", segment=1, final=True, endpoint="input_finished")],  # 1.5, the end
]


def test_times_of_words_are_those_of_the_script() -> None:
    run = run_script(SCRIPT, 1.5)
    assert [one.shown_seconds for one in run.shown] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.5]
    )
    assert run.work_seconds == 0.0 and run.audio_seconds == 1.5
    times = word_times(run, reference(("a", 0.25), ("b", 0.5), ("x", 0.6), ("c", 0.7), ("e", 1.3)))
    expected = {
        "appearance": [0.2 - 0.25, 0.6 - 0.5, 0.6 - 0.7],  # a before its end, c before it was d
        "stability": [0.2 - 0.25, 0.6 - 0.5, 1.0 - 0.7],
        "stable_prefix": [0.4 - 0.25, 0.8 - 0.5, 1.2 - 0.7],
        "final": [1.2 - 0.25, 1.2 - 0.5, 1.2 - 0.7],
    }  # e is not in the final result
    for name, values in expected.items():
        assert [word[name] for word in times] == pytest.approx(values), name
    with pytest.raises(DataError, match="the words of utterance u go back in time"):
        word_times(run, reference(("a", 0.5), ("b", 0.25)))


def test_work_takes_time_and_what_comes_meanwhile_waits() -> None:
    """Features take 10 ms a piece; a chunk of 200 ms takes 250 ms, which is too slow."""
    takes = {"features": 0.01, "encoder": 0.15, "search": 0.06, "second_pass": 0.04}
    run = run_script([[result("a")], [result("a")], [result("a", final=True)]], 0.45, takes)
    first = 0.2 + 0.01 + 0.25  # a piece at 0.1, whose features are long done; one at 0.2; a chunk
    second = first + 2 * 0.01 + 0.25  # two pieces have been waiting
    third = second + 0.01 + 0.25
    assert [one.shown_seconds for one in run.shown] == pytest.approx([first, second, third])
    assert [one.arrival_seconds for one in run.shown] == pytest.approx([0.2, 0.4, 0.45])
    assert run.work_seconds == pytest.approx(5 * 0.01 + 3 * 0.25)
    report = report_of([run], {"u": reference(("a", 0.15))}, dict.fromkeys(STAGES, 0.1))
    assert report.finalisation == pytest.approx([third - 0.45])
    assert report.words["final"] == pytest.approx([third - 0.15])


def test_work_can_be_left_out() -> None:
    fake = FakeRecognizer([[result("a", final=True)]], 300, {**NOTHING, "encoder": 5.0})
    clock = VirtualClock(False, lambda: fake.now)
    run = run_stream(fake, np.zeros(300, np.float32), RATE, "u", 0.1, clock)  # type: ignore[arg-type]
    assert run.shown[0].shown_seconds == 0.3 and run.work_seconds == 5.0
    with pytest.raises(ValueError, match="at least one sample"):
        run_stream(fake, np.zeros(300, np.float32), RATE, "u", 0.0001)  # type: ignore[arg-type]


def shown_at(time: float, arrival: float, one: Result) -> ShownResult:
    return ShownResult(one, time, arrival)


def test_endpoints_are_late_or_early() -> None:
    words = reference(("a", 0.5), ("b", 1.0))

    def delay(*finals: tuple[float, str, str]) -> tuple[float | None, bool]:
        shown = [
            shown_at(arrival + 0.05, arrival, result(text, final=True, segment=i, endpoint=rule))
            for i, (arrival, text, rule) in enumerate(finals)
        ]
        return endpoint_delay(StreamRun("u", 3.0, tuple(shown), 0.0), words)

    assert delay((1.6, "a b", "rule2"), (3.0, "", "input_finished")) == (pytest.approx(0.6), False)
    assert delay((0.7, "a", "rule2"), (2.0, "b", "rule3"), (3.0, "", "rule1")) == (1.0, True)
    assert delay((0.7, "", "rule1"), (2.0, "b", "rule3")) == (1.0, False)  # silence ended
    assert delay((3.0, "a b", "input_finished")) == (None, False)
    assert delay((3.0, "a b", "memory")) == (None, False)
    assert endpoint_delay(run_script(SCRIPT, 1.5), ()) == (None, False)


def test_report_of_a_run() -> None:
    run = run_script(SCRIPT, 1.5, {"search": 0.03})
    stages = {"features": 0.0, "encoder": 0.3, "search": 0.15, "second_pass": 0.0}
    report = report_of([run], {"u": reference(("a", 0.25), ("b", 0.5), ("c", 0.7))}, stages)
    figures = json.loads(json.dumps(report.figures(), allow_nan=False))
    assert figures["endpoints"] == {"input_finished": 1, "rule2": 1}
    assert figures["num_recognised_words"] == 3 and figures["wer"] == 0.0
    # the last, empty segment is not finalised in the sense of the measure
    assert figures["finalisation_ms"]["count"] == 1
    assert figures["finalisation_ms"]["max"] == pytest.approx(30.0)
    assert figures["endpoint_ms"]["mean"] == pytest.approx(500.0)
    assert figures["rtf"]["encoder"] == pytest.approx(0.2)
    assert figures["rtf"]["total"] == pytest.approx(8 * 0.03 / 1.5)
    assert figures["revisions"]["changed"] == 3  # c, d, e
    silent = report_of([run_script([[result("", final=True)]], 0.2)], {}, stages).figures()
    assert silent["words_ms"]["final"] is None and silent["wer"] is None
    table = format_latency({16: figures, 4: silent}, 0.04)
    times, changes, factors = (part.splitlines() for part in table.split("\n\n"))
    assert len(times) == 2 + 2 * 6 and len(changes) == len(factors) == 2 + 2
    cells = [cell.strip() for cell in times[2].split("|")[1:-1]]
    assert cells[:3] == ["16 (640 ms)", "word: first shown", "13"]  # (-20 + 130 - 70) / 3
    assert times[8].split("|")[1].strip() == "4 (160 ms)" and "-" in times[8]
    assert changes[2].split("|")[4].strip() == "50.0" and "0.2000" in factors[2]
    assert len({len(line) for line in times}) == 1


def test_distribution_is_that_of_known_values() -> None:
    found = distribution(np.arange(1001) / 1000.0)
    assert found == pytest.approx(
        {"count": 1001, "mean": 500, "p50": 500, "p90": 900, "p95": 950, "p99": 990, "max": 1000}
    )
    assert distribution(np.zeros(0)) is None


TEXTS = st.lists(st.sampled_from("abc"), max_size=4).map(" ".join)


@given(st.data())
def test_times_are_those_of_the_definitions(data: st.DataObject) -> None:
    """Any history of one segment, whose final words are all right."""
    texts = data.draw(st.lists(TEXTS, min_size=1, max_size=6))
    stable = [data.draw(st.integers(0, len(text.split()))) for text in texts]
    shown = [
        shown_at(float(i), 0.0, result(text, num, final=i == len(texts) - 1))
        for i, (text, num) in enumerate(zip(texts, stable, strict=True))
    ]
    words = texts[-1].split()
    run = StreamRun("u", 1.0, tuple(shown), 0.0)
    found = word_times(run, reference(*((word, 1.0 + i) for i, word in enumerate(words))))
    assert len(found) == len(words)
    for place, (word, times) in enumerate(zip(words, found, strict=True)):
        there = [text.split()[place : place + 1] == [word] for text in texts]
        promised = [place < one.result.num_stable for one in shown]
        appearance = there.index(True)
        stability = min(i for i in range(len(texts)) if all(there[i:]))
        prefix = min(i for i in range(len(texts)) if all(there[i:]) and promised[i])
        moments = (appearance, stability, prefix, len(texts) - 1)
        assert [times[name] for name in WORD_TIMES] == [m - (1.0 + place) for m in moments]


def test_tail_sounds_like_the_background() -> None:
    rng = np.random.default_rng(0)
    hum = 0.01 * np.sin(2 * np.pi * 100 * np.arange(16000) / RATE) + 0.001 * rng.standard_normal(
        16000
    )
    speech = hum.copy()
    speech[2000:15000] += rng.standard_normal(13000)
    samples = speech.astype(np.float32)
    longer = with_tail(samples, RATE, 20.0)
    assert longer.dtype == np.float32 and np.array_equal(longer[:16000], samples)
    tail = longer[16000:]
    assert len(tail) == 20_000
    assert np.std(tail) == pytest.approx(np.std(hum), rel=0.1)
    spectrum = np.abs(np.fft.rfft(tail.reshape(-1, 500), axis=1)).mean(0)
    assert 48 <= np.argmax(spectrum) <= 52  # 100 Hz
    assert np.array_equal(longer, with_tail(samples, RATE, 20.0))
    assert with_tail(samples, RATE, 0.0) is samples
    assert not with_tail(np.zeros(30, np.float32), RATE, 1.0).any()


def test_picture_has_every_chunk_size_and_its_distributions() -> None:
    def report(scale: float) -> LatencyReport:
        words = {name: scale * np.array([0.4, 0.1, 0.3, 0.2]) for name in WORD_TIMES}
        stages = {"features": 0.1, "encoder": 0.4, "search": 0.3, "second_pass": 0.2}
        empty = report_of([run_script([[result("", final=True)]], 0.2)], {}, stages)
        return LatencyReport(
            words, scale * np.array([0.02]), np.zeros(0), 0, {}, empty.revisions, empty.errors, 1,
            10.0 * scale, 1.5, stages,
        )  # fmt: skip

    figure = latency_figure({4: report(1.0), 16: report(2.0)}, 0.04, "$title")
    appearance, _, _, finalisation, bars = figure.axes
    for line, scale in zip(appearance.lines, (1.0, 2.0), strict=True):
        assert line.get_xdata() == pytest.approx(scale * np.array([100, 100, 200, 300, 400]))
        assert line.get_ydata() == pytest.approx([0, 25, 50, 75, 100])
    assert [line.get_xdata()[0] for line in finalisation.lines] == pytest.approx([20.0, 40.0])
    assert [text.get_text() for text in appearance.get_legend().get_texts()] == [
        "4 frames, 160 ms",
        "16 frames, 640 ms",
    ]
    widths = [[bar.get_width() for bar in one] for one in bars.containers]
    assert widths == [
        pytest.approx([0.01, 0.005]), pytest.approx([0.04, 0.02]), pytest.approx([0.03, 0.015]),
        pytest.approx([0.02, 0.01]), pytest.approx([0.05, 0.025]),
    ]  # fmt: skip
    assert [text.get_text().strip() for text in bars.texts] == ["0.150", "0.075"]
    figure.savefig(_Sink())


class _Sink:
    """A file that keeps nothing."""

    write: Callable[[bytes], int] = staticmethod(len)

    def flush(self) -> None:
        pass

    def tell(self) -> int:
        return 0

    def seek(self, *_: int) -> int:
        return 0
