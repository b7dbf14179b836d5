"""Word error rates against a slow dynamic programme, and what is refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.errors import DataError
from moe_asr.evaluate.alignment_text import format_alignment
from moe_asr.evaluate.units import split_text
from moe_asr.evaluate.wer import (
    ErrorCounts,
    align,
    collect,
    count_errors,
    read_transcripts,
    score,
    write_transcripts,
)

WORDS = st.lists(st.sampled_from(["a", "b", "*", "<eps>", "\0"]), max_size=8)


def edit_distance(reference: list[str], hypothesis: list[str]) -> int:
    """Levenshtein, by its definition."""
    table = [[0] * (len(hypothesis) + 1) for _ in range(len(reference) + 1)]
    for i in range(len(reference) + 1):
        for j in range(len(hypothesis) + 1):
            if i == 0 or j == 0:
                table[i][j] = i + j
                continue
            table[i][j] = min(
                table[i - 1][j] + 1,
                table[i][j - 1] + 1,
                table[i - 1][j - 1] + (reference[i - 1] != hypothesis[j - 1]),
            )
    return table[-1][-1]


@given(WORDS, WORDS)
def test_alignment_is_whole_and_of_least_cost(reference: list[str], hypothesis: list[str]) -> None:
    pairs = align(reference, hypothesis)
    assert [left for left, _ in pairs if left is not None] == reference
    assert [right for _, right in pairs if right is not None] == hypothesis
    assert (None, None) not in pairs
    counts = count_errors(pairs)
    assert counts.errors == edit_distance(reference, hypothesis)
    assert counts.reference_length == len(reference)
    assert counts.insertions - counts.deletions == len(hypothesis) - len(reference)


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6))
def test_total_is_the_sum(pairs: list[tuple[list[str], list[str]]]) -> None:
    references = {str(i): " ".join(pair[0]) for i, pair in enumerate(pairs)}
    hypotheses = {str(i): pair[1] for i, pair in reversed(list(enumerate(pairs)))}
    report = score(references, hypotheses)
    assert report.total.errors == sum(edit_distance(*pair) for pair in pairs)
    assert report.total.reference_length == sum(len(pair[0]) for pair in pairs)
    assert list(report.utterances) == list(references)
    if report.total.reference_length:
        expected = 100 * report.total.errors / report.total.reference_length
        assert report.total.wer == pytest.approx(expected)


def test_kinds_of_errors() -> None:
    report = score({"u": "one two three four"}, {"u": "one too three five six"})
    assert report.total == ErrorCounts(2, 0, 1, 4)
    assert report.total.wer == 75.0
    assert score({"u": "one two three"}, {"u": "three"}).total == ErrorCounts(0, 2, 0, 3)


def test_empty_references_count_their_insertions() -> None:
    report = score({"silence": "", "speech": "one two"}, {"silence": "uh", "speech": "one two"})
    assert report.total == ErrorCounts(0, 0, 1, 2)
    assert report.total.wer == 50.0
    assert report.utterances["silence"].counts.wer == float("inf")
    assert score({"silence": ""}, {"silence": ""}).total.wer == 0.0


def test_unequal_sets_are_refused() -> None:
    with pytest.raises(DataError, match="1 utterance.* no hypothesis: b"):
        score({"a": "x", "b": "y"}, {"a": "x"})
    with pytest.raises(DataError, match="5 utterance.* no reference: 0, 1, 2 .and 2 more"):
        score({"a": "x"}, {"a": "x", **{str(i): "" for i in range(5)}})
    with pytest.raises(DataError, match="no utterances"):
        score({}, {})


def test_duplicate_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cuts: utterance 'a' comes twice"):
        collect([("a", "x"), ("b", "y"), ("a", "x")], "cuts")
    assert collect([("a", "x"), ("b", "y")]) == {"a": "x", "b": "y"}
    path = tmp_path / "ref.txt"
    path.write_text("a x\nb\na y\n")
    with pytest.raises(DataError, match=r"ref.txt:3: utterance 'a' comes twice"):
        read_transcripts(path)


def test_transcripts_on_disk(tmp_path: Path) -> None:
    texts = {"utt-1": "one two", "utt-2": "", "utt-3": "一 二"}
    write_transcripts(tmp_path / "hyp.txt", texts)
    assert (tmp_path / "hyp.txt").read_text(
        encoding="utf-8"
    ) == "utt-1 one two\nutt-2\nutt-3 一 二\n"
    assert read_transcripts(tmp_path / "hyp.txt") == texts
    with pytest.raises(DataError, match="whitespace"):
        write_transcripts(tmp_path / "hyp.txt", {"a b": "x"})
    (tmp_path / "bad.txt").write_bytes(b"a \xff\n")
    (tmp_path / "gap.txt").write_text("a x\n\nb y\n")
    for name, message in (
        ("bad", "bad.txt:1.*UTF-8"),
        ("gap", "gap.txt:2"),
        ("absent", "absent.txt"),
    ):
        with pytest.raises(DataError, match=message):
            read_transcripts(tmp_path / f"{name}.txt")


def test_report_shows_the_alignment(tmp_path: Path) -> None:
    report = score({"u": "one two", "v": "six"}, {"u": "one too", "v": "six seven"})
    report.write(tmp_path / "report.txt")
    lines = (tmp_path / "report.txt").read_text().splitlines()
    assert lines[0] == (
        "WER 66.67 %: 2 errors in 3 words (1 substitutions, 0 deletions, 1 insertions); "
        "2 of 2 utterances have errors"
    )
    assert lines[2:6] == [
        "u: 1 sub, 0 del, 0 ins, 2 words", "  ref one two", "  hyp one too", "  err     S",
    ]  # fmt: skip
    assert format_alignment("v", report.utterances["v"])[1:] == [
        "  ref six ***", "  hyp six seven", "  err     I",
    ]  # fmt: skip


def test_characters_do_not_count_spaces_and_unk_is_one() -> None:
    assert split_text("今天 很 好 AB", "char") == ["今", "天", "很", "好", "A", "B"]
    assert split_text("今<unk>好", "char") == ["今", "<unk>", "好"]
    assert split_text(["今天", "好"], "char") == ["今天", "好"]
    words, characters = (
        score({"u": "今天 很 好"}, {"u": "今 天 很冷"}, unit) for unit in ("word", "char")
    )
    assert words.total == ErrorCounts(3, 0, 0, 3)
    assert characters.total == ErrorCounts(1, 0, 0, 4)
    unknown = score({"u": "今天很好"}, {"u": "<unk>天很好"}, "char")
    assert unknown.total == ErrorCounts(1, 0, 0, 4)


def test_report_of_characters_lines_up_on_a_terminal(tmp_path: Path) -> None:
    report = score({"u": "今天好"}, {"u": "今好a"}, "char")
    report.write(tmp_path / "report.txt")
    lines = (tmp_path / "report.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("CER 66.67 %: 2 errors in 3 chars (")
    assert lines[2:6] == [
        "u: 0 sub, 1 del, 1 ins, 3 chars",
        "  ref 今 天  好 ***",  # Chinese characters take two columns, *** three
        "  hyp 今 *** 好 a",
        "  err    D      I",
    ]
