"""`align` and `score-times` from the command line, and the files they leave."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lhotse import CutSet
from lhotse.supervision import AlignmentItem

from moe_asr.cli.main import main
from moe_asr.data.manifests import write_cuts
from moe_asr.decode.align_cuts import align_cuts
from moe_asr.errors import DataError
from moe_asr.evaluate.ctm import read_ctm
from moe_asr.evaluate.textgrid import read_textgrid
from moe_asr.fsa.align import TextAligner
from moe_asr.fsa.time_correction import TimeCorrection
from moe_asr.text.spelling import make_speller
from tests.decode.conftest import TEXTS, Workplace, make_cut

SHIFT = 0.04


@pytest.fixture(scope="module")
def timed_manifest(workplace: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cuts with word times: equal parts of each."""
    cuts = []
    for cut in workplace.cuts:
        (supervision,) = cut.supervisions
        words = supervision.text.split()
        part = cut.duration / len(words)
        items = [AlignmentItem(word, i * part, part) for i, word in enumerate(words)]
        cuts.append(replace(cut, supervisions=[replace(supervision, alignment={"word": items})]))
    path = tmp_path_factory.mktemp("timed") / "cuts.jsonl.gz"
    write_cuts(CutSet.from_cuts(cuts), path)
    return path


def align_command(workplace: Workplace, manifest: Path, output: Path) -> list[str]:
    command = ["align", "--model", str(workplace.model_dir), "--manifest", str(manifest)]
    return [*command, "--output", str(output), "--threads", "1"]


def test_cuts_in_batches_are_aligned_as_each_alone(workplace: Workplace) -> None:
    aligner = TextAligner(make_speller(workplace.loaded.tokenizer))
    texts = {cut.id: text for cut, text in zip(workplace.cuts, TEXTS, strict=True)}
    found = list(align_cuts(workplace.loaded, workplace.cuts, texts, aligner, progress=False))
    assert {item.cut.id for item in found} == set(texts)
    found_scores = {item.cut.id: item.alignment.score for item in found}
    for item in found:
        assert [word.word for word in item.alignment.words] == texts[item.cut.id].split()
        one = {item.cut.id: texts[item.cut.id]}
        (alone,) = align_cuts(workplace.loaded, [item.cut], one, aligner, progress=False)
        torch.testing.assert_close(alone.log_probs, item.log_probs, rtol=1e-4, atol=1e-4)
        assert alone.alignment.score == pytest.approx(item.alignment.score, abs=1e-2)
        (again,) = aligner.align(
            item.log_probs[None], torch.tensor([len(item.log_probs)]), [texts[item.cut.id]]
        )
        assert again.tokens == item.alignment.tokens
        assert len(item.features) >= 4 * len(item.log_probs)
    masked, streamed = (
        {
            item.cut.id: item
            for item in align_cuts(
                workplace.loaded,
                workplace.cuts,
                texts,
                aligner,
                "chunk4-left2",
                streaming,
                progress=False,
            )
        }
        for streaming in (False, True)
    )
    for name, item in streamed.items():
        torch.testing.assert_close(item.log_probs, masked[name].log_probs, rtol=1e-3, atol=1e-3)
        assert item.alignment.score == pytest.approx(masked[name].alignment.score, abs=0.1)
        assert item.alignment.score != pytest.approx(found_scores[name], abs=1e-3)


def test_files_of_an_alignment(
    workplace: Workplace, timed_manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = align_command(workplace, timed_manifest, tmp_path)
    assert main([*command, "--draw", "utt-2", "--mode", "chunk4", "--topology", "modified"]) == 0
    words = read_ctm(tmp_path / "alignments.ctm")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(words) == list(summary["utterances"]) == [cut.id for cut in workplace.cuts]
    assert summary["num_words"] == sum(len(text.split()) for text in TEXTS)
    assert (summary["mode"], summary["topology"]) == ("chunk4", "modified")
    for cut, text in zip(workplace.cuts, TEXTS, strict=True):
        assert [word.word for word in words[cut.id]] == text.split()
        tiers, duration = read_textgrid(tmp_path / "textgrids" / f"{cut.id}.TextGrid")
        assert duration == pytest.approx(cut.duration, abs=1e-6)
        spoken = [interval for interval in tiers["words"] if interval.label]
        for interval, word in zip(spoken, words[cut.id], strict=True):
            assert interval.label == word.word
            assert interval.start_seconds == pytest.approx(word.start_seconds, abs=1e-3)
            assert interval.end_seconds == pytest.approx(word.end_seconds, abs=1e-3)
            assert (word.start_seconds / SHIFT) % 1 == pytest.approx(0.0, abs=1e-6)
        letters = [interval.label for interval in tiers["tokens"] if interval.label]
        assert "".join(letters) == text.replace(" ", "▁")
        confidences = [word.confidence for word in words[cut.id]]
        mean = sum(c for c in confidences if c is not None) / len(confidences)
        assert summary["utterances"][cut.id]["mean_confidence"] == pytest.approx(mean, abs=1e-4)
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["utt-2.png"]
    assert (tmp_path / "pictures" / "utt-2.png").stat().st_size > 5000
    assert "written:" in capsys.readouterr().out


def test_a_correction_is_fitted_and_used(
    workplace: Workplace, timed_manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the figures that the fit prints are those that score-times finds."""
    rule = tmp_path / "rule.json"
    plain = align_command(workplace, timed_manifest, tmp_path / "plain")
    assert main([*plain, "--fit-correction", str(rule)]) == 0
    fitted = json.loads(rule.read_text())["fitted"]
    assert TimeCorrection.load(rule) != TimeCorrection()
    corrected = align_command(workplace, timed_manifest, tmp_path / "corrected")
    assert main([*corrected, "--correction", str(rule)]) == 0
    summary = json.loads((tmp_path / "corrected" / "summary.json").read_text())
    assert summary["correction"] == json.loads(rule.read_text())["correction"]
    capsys.readouterr()
    for name, suffix in (("plain", "_before"), ("corrected", "")):
        folder = tmp_path / name
        score = ["score-times", str(timed_manifest), str(folder / "alignments.ctm")]
        assert main([*score, "--output", str(folder)]) == 0
        figures = json.loads((folder / "times.json").read_text())
        assert figures["num_matched_words"] == fitted["num_words"] == 9
        for side in ("start", "end"):
            expected = fitted[f"{side}_ms{suffix}"]
            assert figures[side]["mean_ms"] == pytest.approx(expected, abs=1.0)
        assert f"{figures['start']['mean_ms']:.1f}" in capsys.readouterr().out
        assert (folder / "times.png").stat().st_size > 5000
    assert fitted["start_ms"] < fitted["start_ms_before"]
    same = ["score-times", str(timed_manifest), str(timed_manifest)]
    assert main(same) == 0
    assert "9 of 9 words compared" in capsys.readouterr().out


def test_texts_and_lexicons_of_the_users_own(workplace: Workplace, tmp_path: Path) -> None:
    """A lexicon that says 'deux' where the audio has 'two'."""
    texts = [text.replace("two", "deux") for text in TEXTS]
    lines = [f"{cut.id} {text}\n" for cut, text in zip(workplace.cuts, texts, strict=True)]
    (tmp_path / "text").write_text("".join(lines))
    (tmp_path / "lexicon.txt").write_text("one 1.0 o n e\ndeux 0.5 t w o\ndeux 0.25 ▁ t w o\n")
    command = align_command(workplace, workplace.manifest, tmp_path)
    command += ["--text", str(tmp_path / "text"), "--lexicon", str(tmp_path / "lexicon.txt")]
    assert main([*command, "--lexicon-probabilities"]) == 0
    words = read_ctm(tmp_path / "alignments.ctm")
    assert [[word.word for word in found] for found in words.values()] == [t.split() for t in texts]


def test_one_that_cannot_be_aligned_does_not_cost_the_others(
    workplace: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Too long a text, a word without spelling, audio without a frame, alone in its batch or not."""
    short = [
        make_cut(tmp_path, f"short-{i}", seconds, "one") for i, seconds in enumerate([0.03, 0.02])
    ]
    cuts = [*workplace.cuts[:3], *short, *workplace.cuts[3:]]
    write_cuts(CutSet.from_cuts(cuts), tmp_path / "cuts.jsonl.gz")
    texts = {cut.id: cut.supervisions[0].text for cut in cuts}
    texts |= {"utt-1": "two " * 20, "utt-3": "one three"}
    (tmp_path / "text").write_text("".join(f"{i} {text}\n" for i, text in texts.items()))
    command = align_command(workplace, tmp_path / "cuts.jsonl.gz", tmp_path / "out")
    command += [
        "--text",
        str(tmp_path / "text"),
        "--keep-going",
        "--draw",
        "utt-3",
        "--draw",
        "utt-4",
    ]
    for seconds in ("60", "0.1"):
        assert main([*command, "--max-batch-seconds", seconds]) == 0
        printed = capsys.readouterr().out
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())
        kept = ["utt-0", "utt-2", "utt-4"]
        assert list(summary["utterances"]) == kept
        assert list(read_ctm(tmp_path / "out" / "alignments.ctm")) == kept
        reasons = summary["not_aligned"]
        assert set(reasons) == {"utt-1", "utt-3", "short-0", "short-1"}
        assert all(f"not aligned: {reason}" in printed for reason in reasons.values())
        assert "too few frames" in reasons["utt-1"] and "'three' has no" in reasons["utt-3"]
        assert "too short" in reasons["short-0"]
        assert [path.name for path in (tmp_path / "out" / "pictures").iterdir()] == ["utt-4.png"]
    nothing = "".join(f"{cut.id} three\n" for cut in cuts)
    (tmp_path / "text").write_text(nothing)
    assert main(command) == 2
    assert "nothing could be aligned: utterance utt-0: word 'three'" in capsys.readouterr().err


def test_spelling_is_checked_before_audio_is_read(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moe_asr.decode.runner.load_waveform", None)
    texts = {cut.id: "one" for cut in workplace.cuts} | {"utt-1": "three"}  # one of the last batch
    aligner = TextAligner(make_speller(workplace.loaded.tokenizer))
    with pytest.raises(DataError, match="utterance utt-1: word 'three' has no spelling"):
        list(align_cuts(workplace.loaded, workplace.cuts, texts, aligner, max_batch_seconds=0.1))


def test_errors_are_one_line_and_name_the_culprit(
    workplace: Workplace, timed_manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    align = align_command(workplace, workplace.manifest, tmp_path / "out")
    ids = [cut.id for cut in workplace.cuts]
    for name, texts in (
        ("short", TEXTS[:-1]),
        ("long", [*TEXTS, "one"]),
        ("strange", [*TEXTS[:-1], "one three"]),
        ("full", ["one two", "two " * 20, *TEXTS[2:]]),
    ):
        lines = [f"{i} {text}\n" for i, text in zip([*ids, "utt-9"], texts, strict=False)]
        (tmp_path / name).write_text("".join(lines))
    (tmp_path / "lexicon").write_text("one o n e\ntwo t ɯ\n")
    (tmp_path / "u.ctm").write_text("utt-9 1 0 1 one\n")
    lexicon = ["--lexicon", str(tmp_path / "lexicon")]
    same = ["score-times", str(tmp_path / "u.ctm"), str(tmp_path / "u.ctm")]
    for command, message in (
        ([*align, "--text", str(tmp_path / "short")], "1 cut(s) have no text: utt-4"),
        ([*align, "--text", str(tmp_path / "long")], "1 text(s) have no cut: utt-9"),
        ([*align, "--text", str(tmp_path / "strange")], "utterance utt-4: word 'three' has no"),
        ([*align, "--text", str(tmp_path / "full")], "utterance utt-1: too few frames for its"),
        ([*align, *lexicon], "lexicon:2: word 'two': token 'ɯ' is not in the token table"),
        ([*align, *lexicon, "--lang", "l"], "--lang and --lexicon exclude one another"),
        ([*align, "--lexicon-probabilities"], "--lexicon-probabilities goes with --lexicon"),
        ([*align, "--lang", str(tmp_path / "no")], "no such directory"),
        ([*align, "--topology", "free"], "topology must be one of standard, modified"),
        ([*align, "--mode", "half"], "unknown decoding mode 'half'"),
        ([*align, "--draw", "utt-7"], "no cut 'utt-7' to draw"),
        ([*align, "--correction", str(tmp_path / "no.json")], "no.json: cannot be read"),
        ([*align, "--fit-correction", str(tmp_path / "c.json")], "cut 'utt-0' has no word times"),
        ([*align, "--correction", "a", "--fit-correction", "b"], "exclude one another"),
        ([*align, "--threads", "0"], "--threads must be at least 1"),
        (
            [*align, "--output", str(tmp_path / "u.ctm" / "out")],
            "u.ctm/out: cannot be written to: Not a directory",
        ),
        (
            [*same, "--output", str(tmp_path / "u.ctm")],
            "u.ctm: cannot be written to: File exists",
        ),
        (["score-times", str(timed_manifest), str(tmp_path / "u.ctm")], "have no reference: utt-9"),
        (["score-times", str(tmp_path / "no"), str(tmp_path / "u.ctm")], "no: cannot be read"),
    ):
        assert main(command) == 2, command
        error = capsys.readouterr().err.split("\n")
        assert message in error[-2], command
    with pytest.raises(DataError, match="no cuts"):
        list(
            align_cuts(
                workplace.loaded, [], {}, TextAligner(make_speller(workplace.loaded.tokenizer))
            )
        )
