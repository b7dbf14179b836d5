"""``moe-asr latency`` with a real, if untrained, model: what it says of itself is known beforehand."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile
from lhotse import MonoCut, Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem

from moe_asr.cli.main import main
from moe_asr.data.manifests import write_cuts
from moe_asr.evaluate.ctm import CtmWord, write_ctm
from moe_asr.model.directory import save_model_dir
from moe_asr.recognizer.options import RecognizerOptions
from moe_asr.recognizer.recognizer import Recognizer
from moe_asr.recognizer.virtual_stream import StreamRun, VirtualClock, run_stream, with_tail
from tests.recognizer.conftest import babble

SETTINGS = ["--option", "all.search_beam=30", "--tail-seconds", "0.5", "--left-chunks", "3"]


@dataclass
class Workplace:
    """A model directory, a graph, cuts with word times, and streams of them in chunks of 4 frames."""

    folder: Path
    arguments: list[str]
    runs: list[StreamRun]

    def measure(self, *more: str) -> dict:
        assert main([*self.arguments, *more]) == 0
        return json.loads((self.folder / "out" / "latency.json").read_text())


@pytest.fixture(scope="module")
def workplace(loaded, graph, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The true words are what is recognised in the end, each 0.3 s before its segment's end or earlier."""
    folder = tmp_path_factory.mktemp("latency")
    save_model_dir(folder / "model", loaded.model, loaded.tokenizer, loaded.fbank_options)
    graph.save(folder / "LG.safetensors")
    options = RecognizerOptions(4, 3, 1, method_options={"search_beam": 30})
    recognizer = Recognizer(loaded, graph, options)
    cuts, runs = [], []
    for number, seconds in enumerate((2.0, 1.3)):
        name, path = f"utt-{number}", folder / f"{number}.flac"
        soundfile.write(path, babble(seconds, number), 16000)
        samples = with_tail(soundfile.read(path, dtype="float32")[0], 16000, 0.5)
        runs.append(run_stream(recognizer, samples, 16000, name, 0.1, VirtualClock(False)))
        words = [word for final in runs[-1].finals for word in final.result.words]
        items = [AlignmentItem(w.text, 0.01 * i, 0.01) for i, w in enumerate(words)]
        recording = Recording.from_file(path, recording_id=name)
        supervision = SupervisionSegment(
            name, name, 0.0, seconds, text="a", alignment={"word": items}
        )
        cuts.append(MonoCut(name, 0.0, seconds, 0, recording=recording, supervisions=[supervision]))
    assert all(run.finals[0].result.words for run in runs)
    write_cuts(cuts, folder / "cuts.jsonl.gz")
    inputs = {"--model": "model", "--graph": "LG.safetensors", "--manifest": "cuts.jsonl.gz"}
    arguments = [word for flag, name in inputs.items() for word in (flag, str(folder / name))]
    arguments = ["latency", *arguments, *SETTINGS, "--output", str(folder / "out")]
    return Workplace(folder, arguments, runs)


def test_latencies_of_the_algorithm(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    record = workplace.measure("--chunk-size", "4", "16", "--no-work")
    figures = record["chunk_sizes"]["4"]
    again = workplace.measure("--chunk-size", "4", "--no-work")["chunk_sizes"]["4"]
    assert {**again, "rtf": None} == {
        **figures,
        "rtf": None,
    }  # work is timed though it does not count
    finals = [
        (final.arrival_seconds - 0.01 * (i + 1)) * 1000.0
        for run in workplace.runs
        for i, final in enumerate(
            final for final in run.finals for _ in final.result.words
        )
    ]  # fmt: skip
    assert figures["num_recognised_words"] == figures["num_reference_words"] == len(finals)
    assert figures["wer"] == 0.0 and figures["num_utterances"] == 2
    assert figures["words_ms"]["final"]["mean"] == pytest.approx(sum(finals) / len(finals))
    assert figures["words_ms"]["final"]["max"] == pytest.approx(max(finals))
    order = [figures["words_ms"][name]["mean"] for name in ("appearance", "stability", "final")]
    assert order == sorted(order)
    assert figures["finalisation_ms"]["max"] == 0.0
    assert figures["revisions"]["stable_changed_by_first_pass"] == 0
    assert figures["revisions"]["changed_at_end"] == 0  # n-best lists tell who it was
    assert figures["audio_seconds"] == pytest.approx(4.3)
    printed = capsys.readouterr().out
    assert "| 4 (160 ms)" in printed and "| 16 (640 ms)" in printed
    assert (workplace.folder / "out" / "latency.png").stat().st_size > 10_000


def test_work_counts_and_is_divided_among_the_stages(workplace: Workplace) -> None:
    record = workplace.measure("--chunk-size", "8", "--limit", "1")
    figures = record["chunk_sizes"]["8"]
    assert figures["num_utterances"] == 1 and figures["finalisation_ms"]["max"] > 0.0
    rtf = figures["rtf"]
    assert all(rtf[name] > 0.0 for name in ("features", "encoder", "search", "second_pass"))
    assert rtf["total"] == pytest.approx(sum(rtf.values()) - rtf["total"])


def test_one_best_has_no_second_pass(workplace: Workplace) -> None:
    figures = workplace.measure("--chunk-size", "4", "--method", "one_best", "--no-work")
    revisions = figures["chunk_sizes"]["4"]["revisions"]
    assert revisions["changed_by_second_pass"] == 0
    assert revisions["stable_changed_by_second_pass"] == 0


def test_word_times_of_a_ctm(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    ctm = workplace.folder / "words.ctm"
    write_ctm(ctm, [CtmWord("utt-1", "1", 0.2, 0.1, "nonsense")])
    record = workplace.measure("--word-times", str(ctm), "--no-work")
    (figures,) = record["chunk_sizes"].values()
    assert figures["num_reference_words"] == 1 and figures["words_ms"]["final"] is None
    write_ctm(ctm, [CtmWord("other", "1", 0.2, 0.1, "nonsense")])
    assert main([*workplace.arguments, "--word-times", str(ctm)]) == 2
    assert "no cut has reference words" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--piece-ms", "0"], "--piece-ms must be at least 0.1, found 0.0"),
        (["--tail-seconds", "-1"], "--tail-seconds must be at least 0, found -1.0"),
        (["--limit", "0"], "--limit must be at least 1, found 0"),
        (["--chunk-size", "0"], "--chunk-size: chunk_size must be at least 1, found 0"),
        (["--option", "one_best.x=1"], "expected METHOD.NAME=VALUE with METHOD one of"),
    ],
)
def test_what_cannot_be_asked(
    workplace: Workplace, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*workplace.arguments, *more]) == 2
    assert message in capsys.readouterr().err
