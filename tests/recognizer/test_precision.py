"""Recognisers on packed models: they hear what torch hears, and streams what whole utterances are."""

import json

import numpy as np
import pytest
import soundfile

from benchmarks.streaming_equality import compare_streams
from moe_asr.cli.main import main
from moe_asr.errors import ConfigError
from moe_asr.evaluate.wer import align
from moe_asr.model.directory import load_model_dir, save_model_dir
from moe_asr.nn.cpu.stream_pool import PackedStreamPool
from moe_asr.recognizer.endpoint import EndpointOptions
from moe_asr.recognizer.options import RecognizerOptions
from moe_asr.recognizer.recognizer import Recognizer
from tests.recognizer.conftest import babble

PRECISIONS = ["float32", "int8"]
AUDIO = {f"stream-{n}": babble(seconds, n) for n, seconds in enumerate((0.2, 3.1, 2.0, 8.0))}
OPTIONS = RecognizerOptions(
    4, 2, max_streams=4, endpoint=EndpointOptions(enabled=False),
    method_options={"search_beam": 16.0, "output_beam": 6.0, "n": 5},
)  # fmt: skip


@pytest.fixture(scope="module")
def place(loaded, graph, tmp_path_factory):
    folder = tmp_path_factory.mktemp("precision")
    save_model_dir(folder, loaded.model, loaded.tokenizer, loaded.fbank_options)
    graph.save(folder / "graph.safetensors")
    for name, wave in AUDIO.items():
        soundfile.write(folder / f"{name}.wav", wave, 16000, subtype="FLOAT")
    return folder


def finals(recognizer: Recognizer) -> dict[str, tuple[str, float]]:
    """Text and score of the final result of each stream, all of them decoded together."""
    streams = {name: recognizer.create_stream(name) for name in AUDIO}
    found = {}
    for name, stream in streams.items():
        stream.accept_waveform(AUDIO[name], 16000)
        stream.input_finished()
    while going_on := [stream for stream in streams.values() if not stream.is_finished]:
        for stream, results in zip(going_on, recognizer.decode(going_on), strict=True):
            for result in results:
                if result.is_final:
                    found[stream.id] = (result.text, result.score)
    return found


@pytest.mark.parametrize("precision", PRECISIONS)
def test_packed_models_hear_what_torch_hears(place, graph, precision) -> None:
    """Of an untrained model, whose scores are close to one another: some words differ in int8."""
    expected = finals(Recognizer(load_model_dir(place), graph, OPTIONS))
    assert Recognizer.from_dir(place, options=OPTIONS).loaded.precision == "float32"
    recognizer = Recognizer.from_dir(place, options=OPTIONS, precision=precision)
    assert recognizer.loaded.precision == precision
    assert isinstance(recognizer._pool, PackedStreamPool)
    assert recognizer.memory_per_stream.caches > 0
    found = finals(recognizer)
    errors = words = 0
    for name, (text, score) in expected.items():
        again, near = found[name]
        words += len(text.split())
        errors += sum(pair[0] != pair[1] for pair in align(text.split(), again.split()))
        assert near == pytest.approx(score, rel=1e-5 if precision == "float32" else 0.02)
    assert words > 50
    assert errors == 0 if precision == "float32" else 0 <= errors <= 0.1 * words


@pytest.mark.parametrize("precision", PRECISIONS)
def test_streams_equal_whole_utterances(place, graph, precision, seed) -> None:
    loaded = load_model_dir(place, precision=precision)
    utterances = {name: wave for name, wave in AUDIO.items() if len(wave) < 60000}
    rng = np.random.default_rng(seed)
    found = compare_streams(loaded, graph, OPTIONS, utterances, rng, most_streams=3)
    assert found.utterances == 3 and found.arcs > 100
    assert found.texts == found.lattices == 0, found.different
    assert found.score <= 2e-4


@pytest.mark.parametrize("arguments", [[], ["--streaming", "--full-context-final"]])
def test_the_command_transcribes(place, arguments, capsys) -> None:
    common = ["transcribe", str(place / "stream-1.wav"), "--model", str(place), "--threads", "1"]
    texts = {}
    for precision in (None, *PRECISIONS):
        more = [] if precision is None else ["--precision", precision]
        assert main([*common, *arguments, *more, "--format", "json"]) == 0
        texts[precision] = [s["text"] for s in json.loads(capsys.readouterr().out)["segments"]]
    assert texts["float32"] == texts[None] and len(" ".join(texts["int8"]).split()) > 5


def test_a_precision_is_of_a_model_that_is_loaded(place) -> None:
    with pytest.raises(ConfigError, match="precision must be one of torch, float32, int8, found 'half'"):
        Recognizer.from_dir(place, precision="half")
    with pytest.raises(ConfigError, match="precision int8 is for the CPU: on cuda"):
        Recognizer.from_dir(place, precision="int8", device="cuda")
