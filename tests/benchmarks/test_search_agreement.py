"""Native and k2 on a graph of a bigram: every word sequence near the best, with its score."""

import json
from pathlib import Path

import pytest

from benchmarks.search_agreement import main

SIZE = ["--words", "800", "--sentences", "4000", "--vocab-size", "120", "--utterances", "4"]


@pytest.mark.k2
def test_both_engines_find_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main([*SIZE, "--cache", str(tmp_path), "--search-beam", "18", "--most", "500"])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert status == 0
    assert result["only_native"] == result["only_k2"] == 0
    assert max(result["largest_score_difference"], result["largest_best_score_difference"]) < 1e-3
    assert result["sequences"] > 20


@pytest.mark.k2
def test_a_difference_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import search_agreement

    found = search_agreement.near_best

    def worse(engine: object, *rest: object) -> dict[tuple[int, ...], float]:
        sequences = found(engine, *rest)  # type: ignore[arg-type]
        if isinstance(engine, search_agreement.K2Engine):
            sequences.pop(sorted(sequences, key=lambda words: -sequences[words])[1])
        return sequences

    monkeypatch.setattr(search_agreement, "near_best", worse)
    status = main([*SIZE, "--cache", str(tmp_path), "--search-beam", "18", "--most", "100"])
    assert status == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["only_native"] > 0
