"""The pairs that scoring is timed on have the errors that were asked for."""

import json

import pytest

from benchmarks import scoring
from moe_asr.evaluate.wer import score


def test_pairs_have_the_error_rate() -> None:
    references, hypotheses = scoring.make_pairs(2000, (10, 20), 0.2)
    lengths = [len(text.split()) for text in references.values()]
    assert (min(lengths), max(lengths), len(lengths)) == (10, 20, 2000)
    total = score(references, hypotheses).total
    # a word drawn for another may be the same: frequent ones often are
    assert 16.0 < total.wer < 20.0
    assert total.deletions == pytest.approx(0.05 * total.reference_length, rel=0.15)
    assert total.insertions == pytest.approx(total.deletions, rel=0.15)
    assert (references, hypotheses) == scoring.make_pairs(2000, (10, 20), 0.2)


def test_the_last_line_is_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["scoring", "--pairs", "50", "--samples", "100"])
    scoring.main()
    last = json.loads(capsys.readouterr().out.strip().split("\n")[-1])
    assert last["pairs"] == 50 and [row["unit"] for row in last["results"]] == ["word", "char"]
    for row in last["results"]:
        low, high = row["interval"]
        assert 0 < low < row["wer"] < high and row["pairs_per_second"] > 0
