"""Segments of streams, held against their own stretch of audio decoded offline."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from moe_asr.audio.fbank import make_fbank
from moe_asr.decode.registry import DecodingResources, EncodedBatch, make_method
from moe_asr.errors import ConfigError, DataError
from moe_asr.recognizer.endpoint import EndpointOptions, EndpointRule
from moe_asr.recognizer.options import RecognizerOptions
from moe_asr.recognizer.recognizer import STAGES, Recognizer
from moe_asr.recognizer.results import Result
from moe_asr.recognizer.segmenter import CUTS
from tests.recognizer.conftest import babble

NEVER = EndpointRule(True, 1000.0)
PAUSES = EndpointOptions(NEVER, EndpointRule(True, 0.16), NEVER, NEVER, NEVER)
LENGTHS = replace(PAUSES, rule2=NEVER, rule5=EndpointRule(False, 0.0, min_length_seconds=0.8))
BOTH = replace(PAUSES, rule5=LENGTHS.rule5)


def recognizer(loaded, graph, **options) -> Recognizer:
    options = {"chunk_size": 4, "left_chunks": 3, "max_streams": 4, **options}
    search = {"search_beam": 30.0, "attention_scale": 0.3}
    method_options = {**search, **options.pop("method_options", {})}
    return Recognizer(loaded, graph, RecognizerOptions(method_options=method_options, **options))


def feed(recognizer, audio: list[np.ndarray], piece: int = 1600) -> list[list[Result]]:
    """All results of streams that are fed together, [stream][result]."""
    streams = [recognizer.create_stream(f"s{n}") for n in range(len(audio))]
    found: list[list[Result]] = [[] for _ in streams]
    position = 0
    while not all(stream.is_finished for stream in streams):
        for stream, samples in zip(streams, audio, strict=True):
            if position < len(samples) or position == 0:
                stream.accept_waveform(samples[position : position + piece], 16000)
            elif not stream.is_finished:
                stream.input_finished()
        position += piece
        for results, new in zip(found, recognizer.decode(streams), strict=True):
            results += new
    assert all(recognizer.decode(streams) == [[]] * len(streams) for _ in range(2))
    return found


def finals(results: list[Result]) -> list[Result]:
    return [result for result in results if result.is_final]


def num_frames(result: Result) -> int:
    return round((result.end_seconds - result.start_seconds) / 0.04)


def offline(loaded, graph, options: RecognizerOptions, rows: np.ndarray, chunk_size: int, spans):
    """The method's hypotheses of spans [(first frame, frames)] of feature rows encoded at once."""
    features = torch.from_numpy(rows)[None]
    with torch.no_grad():
        memory, lengths = loaded.model.encode(
            features, torch.tensor([len(rows)]), chunk_size, options.left_chunks
        )
        log_probs = loaded.model.ctc_log_probs(memory)
    resources = DecodingResources(loaded.tokenizer, graph, model=loaded.model)
    method = make_method(options.method, resources, {"partial": True, **options.method_options})
    assert sum(count for _, count in spans) == int(lengths[0])
    for first, count in spans:
        batch = EncodedBatch(
            log_probs[:, first : first + count], torch.tensor([count]), ["x"],
            memory[:, first : first + count],
        )  # fmt: skip
        yield method.decode(batch)[0]


@pytest.mark.parametrize("endpoint", [PAUSES, LENGTHS, BOTH])
@pytest.mark.parametrize("full_context_final", [False, True])
def test_each_segment_is_its_stretch_of_audio(loaded, graph, endpoint, full_context_final) -> None:
    engine = recognizer(loaded, graph, endpoint=endpoint, full_context_final=full_context_final)
    audio = [babble(seconds, seed) for seed, seconds in enumerate([5.0, 1.31, 0.02, 6.2])]
    for samples, results in zip(audio, feed(engine, audio), strict=True):
        segments = finals(results)
        rows = make_fbank(loaded.fbank_options)(samples)
        assert [one.segment for one in segments] == list(range(len(segments)))
        assert segments[0].start_seconds == 0.0
        for one, following in zip(segments, segments[1:], strict=False):
            assert one.end_seconds == following.start_seconds
        assert sum(map(num_frames, segments)) == loaded.model.output_length(len(rows))
        assert segments[-1].endpoint == "input_finished"
        # the encoder starts afresh after a pause; where speech was cut it goes on
        runs, first = [[]], 0
        for one in segments:
            runs[-1].append(one)
            if full_context_final or one.endpoint not in CUTS:
                runs.append([])
        for run in runs[:-1]:
            count = sum(map(num_frames, run))
            if count == 0:
                assert run == [segments[-1]] and run[0].text == ""
                continue
            part = rows[4 * first : 4 * (first + count) + 3]
            spans, begin = [], 0
            for one in run:
                spans.append((begin, num_frames(one)))
                begin += num_frames(one)
            chunk_size = -1 if full_context_final else 4
            expected = offline(loaded, graph, engine.options, part, chunk_size, spans)
            for one, hypothesis in zip(run, expected, strict=True):
                assert one.text == hypothesis.text
                if one.score is not None:  # there is none of silence
                    assert one.score == pytest.approx(hypothesis.score, abs=2e-3)
            first += count
    found = {one.endpoint for results in feed(engine, audio) for one in finals(results)}
    assert (
        found - {"input_finished"} == {"rule2"} | {"rule5"} if endpoint is BOTH else len(found) == 2
    )


def test_partial_results_grow_into_the_final_one(loaded, graph) -> None:
    """What is stable stays, up to the final result, where the second pass has no say."""
    options = {"attention_scale": 0.0, "search_beam": 12.0}
    engine = recognizer(loaded, graph, endpoint=PAUSES, method_options=options)
    (results,) = feed(engine, [babble(12.0, 7)])
    stable, grew = (), 0
    for one in results:
        assert one.text.split() == [word.text for word in one.words]
        words = tuple(one.text.split())
        assert words[: len(stable)] == stable
        assert one.is_final == bool(one.endpoint) and one.num_stable <= len(words)
        grew += 0 < one.num_stable and not one.is_final
        stable = () if one.is_final else words[: one.num_stable]
        assert one.stable_text == " ".join(words[: one.num_stable])
        for word, following in zip(one.words, one.words[1:], strict=False):
            assert one.start_seconds <= word.start_seconds <= word.end_seconds
            assert word.end_seconds <= following.start_seconds + 1e-9
    assert grew > 3
    assert engine.seconds.keys() == set(STAGES) and min(engine.seconds.values()) > 0.0


def test_the_left_context_of_the_next_segment(loaded, graph) -> None:
    audio = babble(3.0)
    texts = {}
    for keep in (False, True):
        engine = recognizer(loaded, graph, endpoint=PAUSES, keep_left_context=keep)
        (results,) = feed(engine, [audio])
        segments = finals(results)
        texts[keep] = [one.score for one in segments]
    assert texts[False][0] == pytest.approx(texts[True][0], abs=1e-3)
    assert texts[False][1] != pytest.approx(texts[True][1], abs=1e-3)
    rows = make_fbank(loaded.fbank_options)(audio)
    spans = [
        (round(one.start_seconds / 0.04), num_frames(one)) for one in segments if num_frames(one)
    ]
    expected = offline(loaded, graph, engine.options, rows, 4, spans)
    for one, hypothesis in zip(segments, expected, strict=False):
        assert one.text == hypothesis.text
        assert one.score == pytest.approx(hypothesis.score, abs=2e-3)


def test_segments_that_need_too_much_memory_end(loaded, graph) -> None:
    endless = EndpointOptions(enabled=False)
    limit = 1.0
    options = {"max_segment_megabytes": limit, "full_context_final": True, "chunk_size": 32}
    engine = recognizer(loaded, graph, endpoint=endless, **options)
    stream = engine.create_stream()
    results, most = [], 0
    for _ in range(18):
        stream.accept_waveform(babble(5.0, 5), 16000)
        while engine.is_ready(stream):
            results += engine.decode([stream])[0]
            most = max(most, stream._segment.num_bytes)
    assert most < engine.memory_per_stream.segment + (1 << 16)
    assert engine.memory_per_stream.segment == int(limit * (1 << 20))
    assert stream.num_bytes <= most + engine.memory_per_stream.backlog
    segments = finals(results)
    assert len(segments) > 2 and {one.endpoint for one in segments} == {"memory"}
    stream.close()
    assert stream.num_bytes == 0


def test_a_stream_that_fails_does_not_disturb_the_others(loaded, graph, monkeypatch) -> None:
    engine = recognizer(loaded, graph, endpoint=PAUSES)
    (expected,) = feed(engine, [babble(1.0, 1)])
    good, bad = engine.create_stream("good"), engine.create_stream("bad")
    encode = engine._pool.encode

    def broken(slots, features):
        memory = encode(slots, features)
        return [
            one * float("nan") if slot == bad._slot else one
            for slot, one in zip(slots, memory, strict=True)
        ]

    monkeypatch.setattr(engine._pool, "encode", broken)
    for stream in (good, bad):
        stream.accept_waveform(babble(1.0, 1), 16000)
        stream.input_finished()
    found = []
    while not good.is_finished:
        of_good, of_bad = engine.decode([good, bad])
        found += of_good
        assert of_bad == []
    assert [one.text for one in finals(found)] == [one.text for one in finals(expected)]
    assert bad.is_finished and "not finite after 0.00 s" in str(bad.failure)
    with pytest.raises(DataError, match="stream bad has failed"):
        bad.accept_waveform(babble(0.1), 16000)
    assert engine.num_streams == 0


def test_streams_and_slots(loaded, graph) -> None:
    engine, other = (
        recognizer(loaded, graph, max_streams=2),
        recognizer(loaded, graph, max_streams=2),
    )
    one, two = engine.create_stream(), engine.create_stream()
    assert one.id != two.id and engine.num_streams == 2
    with pytest.raises(DataError, match="2 streams are open"):
        engine.create_stream()
    with pytest.raises(DataError, match="given twice"):
        engine.decode([one, one])
    with pytest.raises(DataError, match="another recogniser"):
        other.decode([one])
    one.close()
    one.close()
    assert engine.num_streams == 1 and one.is_finished and not engine.is_ready(one)
    with pytest.raises(DataError, match="is closed"):
        one.accept_waveform(babble(0.1), 16000)
    with engine.create_stream("three") as three:
        assert engine.num_streams == 2 and three.id == "three"
        assert engine.decode([two, three, one]) == [[], [], []]
    assert engine.num_streams == 1


def test_methods_that_cannot_stream(loaded, graph) -> None:
    with pytest.raises(ConfigError, match="does not work on lattices"):
        Recognizer(loaded, graph, RecognizerOptions(method="ctc_greedy"))
    with pytest.raises(ConfigError, match="native"):
        pytest.importorskip("k2")
        Recognizer(loaded, graph, RecognizerOptions(method_options={"engine": "k2"}))


def test_a_backlog_that_no_chunk_fits_into(loaded, graph) -> None:
    """A stream could be given no more, and there would be nothing to decode."""
    with pytest.raises(
        ConfigError, match=r"max_backlog_seconds is 2; a chunk of 32 frames needs 1.31 s"
    ):
        recognizer(loaded, graph, chunk_size=32, max_backlog_seconds=2.0)
    engine = recognizer(loaded, graph, chunk_size=32, max_backlog_seconds=2.63)
    with engine.create_stream() as stream:
        for _ in range(4):
            while not engine.is_ready(stream):
                stream.accept_waveform(babble(1.28), 16000)
            engine.decode([stream])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_backlog_seconds", 0.0),
        ("max_backlog_seconds", float("inf")),
        ("max_backlog_seconds", float("nan")),
        ("max_segment_megabytes", 0.9),
        ("max_segment_megabytes", float("inf")),
        ("max_segment_megabytes", float("nan")),
        ("chunk_size", 0),
        ("left_chunks", -1),
        ("max_streams", 0),
    ],
)
def test_options_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .*, found {value}"):
        RecognizerOptions(**{name: value})


def test_what_has_ended_keeps_nothing(loaded, graph) -> None:
    engine = recognizer(loaded, graph)
    stream = engine.create_stream()
    stream.accept_waveform(babble(5.0), 16000)
    engine.decode([stream])
    stream.close()
    assert stream._queue.num_bytes == 0 and not stream._segment.memory
