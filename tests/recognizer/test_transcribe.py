"""Files to transcripts, offline and as streams: what each gets is its own, whatever the others are."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from moe_asr.audio.blocks import AudioBlocks
from moe_asr.audio.fbank import make_fbank
from moe_asr.audio.io import read_audio
from moe_asr.audio.silence import SilenceOptions, cut_at_silence
from moe_asr.decode.registry import DecodingResources, EncodedBatch, make_method
from moe_asr.errors import AudioError, ConfigError, DataError, GraphError, TextError
from moe_asr.fsa.context_phrases import Phrase
from moe_asr.model.directory import save_model_dir
from moe_asr.recognizer.options import RecognizerOptions
from moe_asr.recognizer.recognizer import Recognizer
from moe_asr.recognizer.results import Result, Transcript
from moe_asr.recognizer.transcribe import Failure, transcribe, transcribe_files
from moe_asr.recognizer.transcribe_streaming import stream_files, transcribe_streaming
from tests.recognizer.conftest import babble

METHOD = {"n": 5, "search_beam": 12.0}
LOUD = "output is not finite|expected floats in [-1, 1]"  # streams look at the samples
SECONDS = [1.3, 0.4, 6.2, 2.0, 0.9]


@pytest.fixture(scope="module")
def recognizer(loaded, graph) -> Recognizer:
    options = RecognizerOptions(4, 2, max_streams=3, method_options=METHOD, partial_results=False)
    return Recognizer(loaded, graph, options)


def save(path: Path, samples: np.ndarray, rate: int = 16000, subtype: str = "PCM_16") -> str:
    soundfile.write(path, samples, rate, subtype=subtype)
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("files")
    return [save(folder / f"{i}.wav", babble(seconds, i)) for i, seconds in enumerate(SECONDS)]


def same(found: Transcript, expected: Transcript) -> None:
    """Equal but for the rounding of scores."""
    assert isinstance(found, Transcript), found
    assert (found.name, found.duration_seconds) == (expected.name, expected.duration_seconds)
    for one, other in zip(found.segments, expected.segments, strict=True):
        assert one.text == other.text and one.endpoint == other.endpoint
        assert one.score == pytest.approx(other.score, abs=1e-3)
        assert (one.start_seconds, one.end_seconds) == (other.start_seconds, other.end_seconds)
        times = [(word.start_seconds, word.end_seconds) for word in one.words]
        assert times == [(word.start_seconds, word.end_seconds) for word in other.words]


@pytest.mark.parametrize("mode", ["full", "chunk4-left2"])
def test_a_file_gets_what_its_method_finds_in_it(recognizer, loaded, graph, files, mode):
    resources = DecodingResources(loaded.tokenizer, graph, model=loaded.model)
    method = make_method(recognizer.options.method, resources, {"partial": True, **METHOD})
    together = recognizer.transcribe(files, max_batch_seconds=7.0, mode=mode)
    chunk, left = (4, 2) if mode != "full" else (-1, -1)
    for file, seconds, found in zip(files, SECONDS, together, strict=True):
        features = make_fbank(loaded.fbank_options)(read_audio(file, 16000)[0])
        with torch.no_grad():
            memory, lengths = loaded.model.encode(
                torch.from_numpy(features)[None], torch.tensor([len(features)]), chunk, left
            )
            log_probs = loaded.model.ctc_log_probs(memory)
        (expected,) = method.decode(EncodedBatch(log_probs, lengths, ["one"], memory))
        (segment,) = found.segments
        assert found.name == file and found.duration_seconds == pytest.approx(seconds, abs=1e-4)
        assert segment.text == expected.text and segment.is_final and segment.endpoint == ""
        assert segment.score == pytest.approx(expected.score, abs=1e-3)
        assert segment.num_stable == len(segment.words)
        assert (segment.start_seconds, segment.end_seconds) == (0.0, found.duration_seconds)
        times = [t for word in segment.words for t in (word.start_seconds, word.end_seconds)]
        assert times == sorted(times) and times[-1] <= found.duration_seconds
    assert sum(len(found.words) for found in together) > 10


@pytest.mark.parametrize("run", [transcribe, transcribe_streaming])
def test_company_does_not_matter(recognizer, files, run):
    alone = [found for file in files for found in run(recognizer, [file])]
    for found, expected in zip(run(recognizer, files[::-1]), alone[::-1], strict=True):
        same(found, expected)
    assert recognizer.num_streams == 0


def test_long_files_are_cut_at_pauses(recognizer, tmp_path):
    speech = [babble(2.0 + 0.2 * i, i) for i in range(5)]
    pause = (1e-4 * np.random.default_rng(0).standard_normal(12800)).astype(np.float32)
    samples = np.concatenate([part for one in speech for part in (one, pause)])
    file = save(tmp_path / "long.wav", samples, subtype="FLOAT")
    cut = SilenceOptions(max_segment_seconds=6.0)
    (found,) = transcribe(recognizer, [file], 5.0, cut)
    pieces = list(cut_at_silence([samples], 16000, cut))
    assert [one.start_seconds for one in found.segments] == [start / 16000 for start, _ in pieces]
    assert len(pieces) >= 5 and [one.segment for one in found.segments] == list(range(len(pieces)))
    assert found.duration_seconds == found.segments[-1].end_seconds == len(samples) / 16000
    for segment, (start, piece) in zip(found.segments, pieces, strict=True):
        (one,) = transcribe(recognizer, [save(tmp_path / "one.wav", piece, subtype="FLOAT")])
        (alone,) = one.segments
        assert segment.text == alone.text
        assert segment.end_seconds == pytest.approx(start / 16000 + alone.end_seconds)
        times = [word.start_seconds - start / 16000 for word in segment.words]
        np.testing.assert_allclose(times, [word.start_seconds for word in alone.words], atol=1e-9)
    (whole,) = transcribe(recognizer, [file])
    assert len(whole.segments) == 1


def test_streams_of_files_are_streams(recognizer, files):
    seconds = []
    found = transcribe_streaming(recognizer, files, progress=seconds.append)
    assert sum(seconds) == pytest.approx(sum(SECONDS), abs=1e-3)
    for file, transcript in zip(files, found, strict=True):
        finals: list[Result] = []
        with recognizer.create_stream(file) as stream:
            stream.accept_waveform(*read_audio(file))
            stream.input_finished()
            while not stream.is_finished:
                finals += [one for one in recognizer.decode([stream])[0] if one.is_final]
        expected = Transcript(file, transcript.duration_seconds, tuple(finals))
        same(transcript, expected)
        assert transcript.segments[-1].endpoint == "input_finished"


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory) -> dict[str, str]:
    """By name what is said about them."""
    folder = tmp_path_factory.mktemp("bad")
    nan = babble(13.0)
    nan[200_000] = np.nan
    content = Path(save(folder / "cut.wav", babble(1.0))).read_bytes()
    (folder / "cut.wav").write_bytes(content[:-100])
    (folder / "text.wav").write_text("no sound at all\n" * 40)
    (folder / "nothing.wav").write_bytes(b"")
    content = Path(save(folder / "half.mp3", babble(5.0), subtype=None)).read_bytes()
    (folder / "half.mp3").write_bytes(content[: len(content) // 2])
    loud = (babble(2.0) * np.float32(1e30)).astype(np.float32)
    return {
        save(folder / "nan.wav", nan, subtype="FLOAT"): "sample 200000 is nan",
        str(folder / "cut.wav"): "truncated",
        str(folder / "text.wav"): "not readable as audio",
        str(folder / "nothing.wav"): "not readable as audio",
        save(folder / "empty.wav", np.zeros(0)): "empty: found 0 samples",
        save(folder / "stereo.wav", np.zeros((9000, 2))): "found 2 channels",
        str(folder / "half.mp3"): "truncated",
        str(folder / "nowhere.wav"): "no such file",
        str(folder): "not readable as audio",
        save(folder / "loud.wav", loud, subtype="FLOAT"): LOUD,
    }


@pytest.mark.parametrize("run", [transcribe, transcribe_streaming])
def test_bad_files_do_not_disturb_the_others(recognizer, files, bad_files, run):
    mixed = [name for pair in zip(bad_files, files * 2, strict=True) for name in pair]
    found = run(recognizer, mixed, on_error="report")
    good = run(recognizer, files)
    for outcome, name in zip(found, mixed, strict=True):
        assert outcome.name == name
        if name in bad_files:
            assert isinstance(outcome, Failure)
            reasons = bad_files[name].split("|")
            assert any(reason in str(outcome.error) for reason in reasons)
            assert name in str(outcome.error)
        else:
            same(outcome, good[files.index(name)])
    assert recognizer.num_streams == 0
    with pytest.raises(AudioError, match="nan.wav: sample 200000"):
        run(recognizer, mixed)
    with pytest.raises((AudioError, DataError), match="loud.wav: (the model|a sample)"):
        run(recognizer, [files[0], list(bad_files)[-1]])
    assert recognizer.num_streams == 0
    with pytest.raises(ConfigError, match="on_error must be"):
        run(recognizer, files, on_error="ignore")


@pytest.mark.parametrize("run", [transcribe, transcribe_streaming])
def test_any_sound_is_transcribed(recognizer, tmp_path, run):
    rng = np.random.default_rng(1)
    sounds = {
        "silence.wav": (np.zeros(48000), 16000, "PCM_16"),
        "noise.wav": (0.3 * rng.standard_normal(48000), 16000, "PCM_16"),
        "clipped.wav": (np.clip(50 * babble(3.0), -1, 1), 16000, "PCM_16"),
        "beyond.wav": (50 * babble(3.0), 16000, "FLOAT"),
        "offset.wav": (0.1 * babble(3.0) + 0.9, 16000, "PCM_24"),
        "telephone.wav": (babble(3.0, sample_rate=8000), 8000, "ULAW"),
        "studio.flac": (babble(3.0, sample_rate=48000), 48000, "PCM_24"),
        "tiny.wav": (babble(0.003), 16000, "PCM_16"),
        "sample.wav": (np.ones(1), 16000, "PCM_16"),
        "less than a sample.wav": (np.ones(1), 48000, "PCM_16"),
    }
    names = [save(tmp_path / name, *sound) for name, sound in sounds.items()]
    for found, (samples, rate, _) in zip(run(recognizer, names), sounds.values(), strict=True):
        assert found.duration_seconds == pytest.approx(len(samples) / rate, abs=1e-3)
        assert len(found.segments) >= 1 and all(one.is_final for one in found.segments)
        assert found.segments[0].start_seconds == 0.0
        if found.duration_seconds < 0.01:
            assert (found.text, found.words) == ("", ())
    both = np.stack([np.zeros(16000), babble(1.0)], axis=1)
    stereo = save(tmp_path / "stereo.wav", both)
    (right,) = run(recognizer, [stereo], channel=1)
    (mono,) = run(recognizer, [save(tmp_path / "mono.wav", babble(1.0))])
    assert right.text == mono.text != ""


def test_phrases_are_listened_for(recognizer, files):
    for run in (transcribe, transcribe_streaming):
        (plain,) = run(recognizer, files[2:3])
        (found,) = run(recognizer, files[2:3], phrases=[Phrase("ba ba ba", 30.0)])
        assert found.text.count("ba ba ba") > plain.text.count("ba ba ba")
        with pytest.raises(TextError, match="xyz"):
            run(recognizer, files[:1], phrases=[Phrase("xyz", 1.0)])


def test_files_are_opened_when_their_turn_comes(recognizer, files):
    opened = []

    def names(count):
        for number in range(count):
            opened.append(files[3 - number % 2])  # 2 seconds and 6.2
            yield opened[-1]

    outcomes = transcribe_files(recognizer, names(9), max_batch_seconds=1.0)
    next(outcomes)
    assert len(opened) == 2  # eight batches of a second
    assert len(list(outcomes)) == 8
    opened.clear()
    outcomes = stream_files(recognizer, names(5), max_streams=2)
    next(outcomes)
    assert len(opened) == 2 and recognizer.num_streams == 1
    outcomes.close()
    assert recognizer.num_streams == 0


def test_a_long_file_is_read_while_it_is_decoded(recognizer, tmp_path, monkeypatch):
    file = save(tmp_path / "long.wav", np.concatenate([babble(20.0, i) for i in range(2)]))
    read, decoded, ahead = 0.0, 0.0, []
    blocks = AudioBlocks.__iter__

    def counted(self):
        nonlocal read
        for block in blocks(self):
            read += len(block) / 16000
            ahead.append(read - decoded)
            yield block

    def progress(seconds):
        nonlocal decoded
        decoded += seconds

    monkeypatch.setattr(AudioBlocks, "__iter__", counted)
    cut = SilenceOptions(max_segment_seconds=5.0)
    (found,) = transcribe(recognizer, [file], max_batch_seconds=1.0, cut=cut, progress=progress)
    assert len(found.segments) > 6 and decoded == pytest.approx(40.0, abs=1e-3)
    # a buffer of eight batches, segments, what decides their end, a block
    assert max(ahead) <= 8 * 1 + 5 + 5 + 1 + 10 + 5
    read, decoded = 0.0, 0.0
    ahead.clear()
    (found,) = transcribe_streaming(recognizer, [file], progress=progress)
    assert max(ahead) <= 2.1 and decoded == pytest.approx(40.0, abs=1e-3)


MEMORY = """
import resource, sys
import torch
from moe_asr.audio.silence import SilenceOptions
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.model.directory import load_model_dir
from moe_asr.recognizer.endpoint import EndpointOptions, EndpointRule
from moe_asr.recognizer.options import RecognizerOptions
from moe_asr.recognizer.recognizer import Recognizer
from moe_asr.recognizer.transcribe import transcribe
from moe_asr.recognizer.transcribe_streaming import transcribe_streaming

torch.set_num_threads(1)
model, graph, short, long = sys.argv[1:]
rules = EndpointOptions(rule5=EndpointRule(False, 0.0, min_length_seconds=4.0))
options = RecognizerOptions(
    64, 1, max_streams=1, method="one_best", partial_results=False, endpoint=rules
)
recognizer = Recognizer(load_model_dir(model), DecodingGraph.load(graph), options)
peaks = []
for file in (short, long):
    transcribe(recognizer, [file], 1.0, SilenceOptions(4.0))
    (found,) = transcribe_streaming(recognizer, [file])
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(found.duration_seconds, peaks[1] - peaks[0])
"""


def test_memory_does_not_grow_with_a_file(loaded, graph, tmp_path):
    save_model_dir(tmp_path / "model", loaded.model, loaded.tokenizer, loaded.fbank_options)
    graph.save(tmp_path / "graph.safetensors")
    samples = babble(40.0, sample_rate=8000)
    short = save(tmp_path / "short.wav", samples, 8000, "ULAW")
    long = save(tmp_path / "long.wav", np.tile(samples, 4), 8000, "ULAW")
    command = [sys.executable, "-c", MEMORY, tmp_path / "model", tmp_path / "graph.safetensors"]
    done = subprocess.run([*command, short, long], capture_output=True, text=True, check=True)
    seconds, kilobytes = map(float, done.stdout.split())
    assert seconds == pytest.approx(160.0, abs=0.01)
    assert kilobytes < 4_000  # the waveform alone grows by 7.7 MB, its features by 3.8 MB


def test_a_file_may_be_given_twice(recognizer, files):
    for run in (transcribe, transcribe_streaming):
        first, second = run(recognizer, [files[0], files[0]])
        same(second, first)
        assert len(first.segments[0].alternatives) > 2
        (short,) = run(recognizer, [files[0]], num_alternatives=2)
        kept, whole = short.segments[0].alternatives, first.segments[0].alternatives
        assert [one.words for one in kept] == [one.words for one in whole[:2]]
        assert [one.segments[0].stream_id for one in (first, second)] == [
            files[0],
            f"{files[0]} (2)",
        ]


@pytest.mark.parametrize("run", [transcribe, transcribe_streaming])
def test_a_name_that_looks_like_a_repetition_is_no_other_stream(recognizer, tmp_path, run):
    names = [save(tmp_path / name, babble(0.5)) for name in ("a.wav", "a.wav (2).wav")]
    Path(names[1]).rename(second := f"{names[0]} (2)")
    found = run(recognizer, [names[0], second, names[0], names[0]])
    ids = [one.segments[0].stream_id for one in found]
    assert ids == [names[0], second, f"{names[0]} (3)", f"{names[0]} (4)"]


@pytest.mark.parametrize("error", [GraphError, DataError])
def test_what_fails_in_the_second_pass_fails_alone(recognizer, files, monkeypatch, error):
    good = transcribe(recognizer, files)
    finish = recognizer._finisher.finish

    def failing(segments):
        if any(segment.stream_id == files[1] for segment in segments):
            raise error("a word that its tokens do not spell")
        return finish(segments)

    monkeypatch.setattr(recognizer._finisher, "finish", failing)
    found = transcribe(recognizer, files, on_error="report")
    for name, outcome, expected in zip(files, found, good, strict=True):
        if name != files[1]:
            same(outcome, expected)
    assert isinstance(found[1], Failure) and isinstance(found[1].error, error)
    assert str(found[1].error) == f"{files[1]}: a word that its tokens do not spell"


def test_a_bad_file_is_reported_before_the_next_is_read(recognizer, bad_files, files):
    opened = []
    names = [list(bad_files)[1], files[0]]
    outcomes = transcribe_files(recognizer, (opened.append(n) or n for n in names))
    assert isinstance(next(outcomes), Failure) and len(opened) == 1
    assert isinstance(next(outcomes), Transcript)


def test_what_is_refused(recognizer, files):
    for run in (transcribe_files, stream_files):
        with pytest.raises(ConfigError, match="num_alternatives must be at least 0, found -1"):
            run(recognizer, files, num_alternatives=-1)
    with pytest.raises(ConfigError, match="unknown decoding mode 'half'"):
        transcribe_files(recognizer, files, mode="half")
    with pytest.raises(ConfigError, match="max_batch_seconds must be positive"):
        transcribe_files(recognizer, files, 0.0)
    for number in (0, 4):
        with pytest.raises(ConfigError, match=f"between 1 and .* 3; found {number}"):
            stream_files(recognizer, files, number)
    assert transcribe(recognizer, []) == [] == transcribe_streaming(recognizer, [])
