"""Figures of a decoding run: words, Chinese characters, and phones that spell no words."""

import math
from pathlib import Path

import pytest
import torch

from moe_asr.decode.registry import DecodingResources, EncodedBatch, Hypothesis, make_method
from moe_asr.decode.runner import DecodingRun
from moe_asr.evaluate.report import evaluate_run, format_table
from moe_asr.evaluate.wer import read_transcripts
from moe_asr.text.lexicon import Lexicon, Pronunciation
from moe_asr.text.phone import PhoneTokenizer
from moe_asr.text.tokenizer import CharTokenizer

PHONES = PhoneTokenizer.from_lexicon(
    Lexicon(
        [
            Pronunciation("read", ("r", "iy", "d"), math.log(0.4)),
            Pronunciation("read", ("r", "eh", "d"), math.log(0.6)),
            Pronunciation("a", ("ah",)),
            Pronunciation("book", ("b", "uh", "k")),
        ]
    )
)


def run_of(units: dict[str, str], **texts: list[str]) -> DecodingRun:
    hypotheses = {
        method: {
            f"utt-{i}": Hypothesis(f"utt-{i}", text, tuple(text.split()), 0.0, ())
            for i, text in enumerate(found)
        }
        for method, found in texts.items()
    }
    return DecodingRun(hypotheses, 10.0, 1.0, 1.0, dict.fromkeys(texts, 1.0), units)


def references(*texts: str) -> dict[str, str]:
    return {f"utt-{i}": text for i, text in enumerate(texts)}


def test_phones_are_scored_against_phones(tmp_path: Path) -> None:
    run = run_of(
        {"ctc_greedy": "phone", "one_best": "word"},
        ctc_greedy=["r eh ah b uh k k", "ah"],
        one_best=["read a book", "a"],
    )
    figures = evaluate_run(run, references("read a book", "a novel"), tmp_path, PHONES)
    # r eh d ah b uh k, and ah <unk>: one deletion and one insertion, then one deletion
    assert figures["ctc_greedy"] == {
        "wer": pytest.approx(100 * 3 / 9),
        "substitutions": 0,
        "deletions": 2,
        "insertions": 1,
        "reference_words": 9,
        "unit": "phone",
        "rtf": pytest.approx(0.3),
        "second_pass_rtf": None,
        "interval": [
            pytest.approx(200 / 7),
            pytest.approx(50.0),
        ],  # all of one utterance or the other
    }
    assert figures["one_best"]["unit"] == "word"
    assert figures["one_best"]["wer"] == pytest.approx(100 / 5)
    assert read_transcripts(tmp_path / "ref.txt") == references("read a book", "a novel")
    assert read_transcripts(tmp_path / "ref_phone.txt") == references(
        "r eh d ah b uh k", "ah <unk>"
    )
    alignment = (tmp_path / "alignment_ctc_greedy.txt").read_text()
    assert alignment.startswith("PER 33.33 %: 3 errors in 9 phones")
    assert "utt-0: 0 sub, 1 del, 1 ins, 7 phones" in alignment
    assert (
        (tmp_path / "alignment_one_best.txt")
        .read_text()
        .startswith("WER 20.00 %: 1 errors in 5 words")
    )

    lines = format_table({"full": figures}).split("\n")
    assert "33.33*" in lines[1] and "20.00 " in lines[2] and "*" not in lines[2]
    assert lines[3] == "* PER: errors and rate of phones, not of words"
    words_only = format_table({"full": {"one_best": figures["one_best"]}})
    assert "*" not in words_only


@pytest.mark.parametrize(
    ("unit", "name", "num_units", "num_errors"),
    [("word", "WER", 3, 4), ("char", "CER", 10, 1), ("mixed", "MER", 5, 1)],
)
def test_units_of_mixed_text(
    tmp_path: Path, unit: str, name: str, num_units: int, num_errors: int
) -> None:
    run = run_of({"m": "word"}, m=["打 开 那 light", "ok"])
    tokenizer = CharTokenizer.from_texts(["x"])
    figures = evaluate_run(run, references("打开 这light", "ok"), tmp_path, tokenizer, unit)["m"]
    errors = figures["substitutions"] + figures["deletions"] + figures["insertions"]
    assert (figures["reference_words"], errors, figures["unit"]) == (num_units, num_errors, unit)
    assert figures["wer"] == pytest.approx(100 * num_errors / num_units)
    written = (tmp_path / "alignment_m.txt").read_text(encoding="utf-8")
    noun = {"word": "words", "char": "chars", "mixed": "units"}[unit]
    assert written.startswith(name) and f"errors in {num_units} {noun} (" in written
    assert f" {noun} " in format_table({"full": {"m": figures}}).split("\n")[0]
    assert f"{name} %" in format_table({"full": {"m": figures}}).split("\n")[0]


@pytest.mark.parametrize(
    ("tokenizer", "unit"), [(PHONES, "phone"), (CharTokenizer.from_texts(["ab"]), "word")]
)
def test_greedy_search_says_what_its_texts_are_made_of(tokenizer, unit: str) -> None:
    method = make_method("ctc_greedy", DecodingResources(tokenizer))
    assert method.unit == unit
    labels = [0, 4, 4, 0, 3, 3]
    log_probs = torch.full((1, len(labels), tokenizer.vocab_size), -5.0)
    log_probs[0, range(len(labels)), labels] = -0.1
    text = method.decode(EncodedBatch(log_probs, torch.tensor([len(labels)]), ["utt"]))[0].text
    expected = tokenizer.tokens.symbol(4), tokenizer.tokens.symbol(3)
    assert text == (" " if unit == "phone" else "").join(expected)
