"""The benchmark of contextual phrases: its counts, and that it runs."""

import json
from pathlib import Path

import pytest

from benchmarks import context
from benchmarks.context import Found, count_words, main, word_error_rate

SIZE = ["--words", "800", "--sentences", "4000", "--utterances", "4", "--rare-from", "300"]


def test_counts_of_words() -> None:
    references = [[1, 2, 3, 2], [4, 2]]
    hypotheses = [[1, 2, 3, 5], [4, 2, 5]]
    assert count_words(references, hypotheses, {2, 5}) == Found(3, 2, 2)
    assert count_words(references, hypotheses, {2}).recall == pytest.approx(200 / 3)
    assert count_words(references, hypotheses, {9}) == Found(0, 0, 0)
    assert word_error_rate(references, hypotheses) == pytest.approx(100 * 2 / 6)


def test_boosted_words_are_found_more_often(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "SIZES", (20,))
    arguments = ["--cache", str(tmp_path), "--rounds", "1", "--boosts=-30,6", "--beam", "20"]
    main([*SIZE, *arguments])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(result["results"]) == 4
    for row in result["results"]:
        assert row["said"] > 3
        if row["boost"] < 0:  # nobody says them any more
            assert row["recall"] == 0.0 < row["recall_before"]
        else:
            assert row["recall"] >= row["recall_before"]
