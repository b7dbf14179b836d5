"""Systems on the same references: what is refused, left out and reported; speakers; confusions."""

import json
from pathlib import Path

import pytest

from moe_asr.errors import ConfigError, DataError
from moe_asr.evaluate.alternatives import parse_alternatives
from moe_asr.evaluate.bootstrap import paired_difference, wer_interval
from moe_asr.evaluate.compare import CompareOptions, compare
from moe_asr.evaluate.confusions import count_confusions
from moe_asr.evaluate.speakers import errors_by_speaker, read_utt2spk, speakers_by_pattern
from moe_asr.evaluate.summary import comparison_json, format_comparison, write_comparison_json
from moe_asr.evaluate.wer import ErrorCounts, score

REFERENCES = {
    "s1-a": "one two three",
    "s1-b": "four",
    "s2-a": "",
    "s2-b": "five six seven eight nine ten",
}
FIRST = {
    "s2-b": "five six seven ate nine",
    "s1-a": "one too three",
    "s1-b": "four",
    "s2-a": "uh",
}
SECOND = {**REFERENCES, "s1-b": "for"}
SPEAKERS = {name: name[:2] for name in REFERENCES}
COMMON = CompareOptions(missing="common", num_samples=100)


def test_systems_are_scored_and_compared() -> None:
    options = CompareOptions(num_samples=500, seed=3, level=0.9)
    found = compare(REFERENCES, {"one": FIRST, "two": SECOND}, options, SPEAKERS, False)
    assert found.reports["one"].total == ErrorCounts(2, 1, 1, 10)
    assert found.reports["two"].total == ErrorCounts(1, 0, 0, 10)
    errors, others, lengths = [1, 0, 1, 2], [0, 1, 0, 0], [3, 1, 0, 6]
    assert found.blocks == ("utterances", 4)
    assert found.intervals["one"] == wer_interval(errors, lengths, 500, 0.9, 3)
    assert found.differences == {"two": paired_difference(errors, others, lengths, 500, 0.9, 3)}
    by_speaker = compare(REFERENCES, {"one": FIRST, "two": SECOND}, options, SPEAKERS)
    assert by_speaker.blocks == ("speakers", 2)
    blocks = list(SPEAKERS.values())
    assert by_speaker.intervals["one"] == wer_interval(errors, lengths, 500, 0.9, 3, blocks)

    text = format_comparison(by_speaker)
    row = text.split("\n")[1].split()
    assert row[:2] == ["one", "40.00"] and row[5:] == ["2", "1", "1", "10", "4", "3", "(75.0", "%)"]
    assert "two less one: -30.00 points, 90 % interval" in text and "(paired; " in text
    assert (
        "one: 1 utterance(s) have an empty reference; the rates count their 1 insertions." in text
    )
    assert "500 samples of 2 speakers, seed 3" in text and "These are few speakers" in text
    many = compare({str(i): "a" for i in range(20)}, {"one": {str(i): "b" for i in range(20)}})
    assert "samples of 20 utterances" in format_comparison(many)
    assert "These are few" not in format_comparison(many)


def test_unequal_sets_are_refused_or_reported() -> None:
    partial = {key: FIRST[key] for key in ("s1-a", "s1-b")}
    with pytest.raises(DataError, match="sys: 2 utterance.s. have no hypothesis: s2-a, s2-b; "):
        compare(REFERENCES, {"sys": partial})
    with pytest.raises(DataError, match="sys: 1 utterance.s. have no reference: new"):
        compare(REFERENCES, {"sys": {**FIRST, "new": ""}}, CompareOptions(missing="empty"))
    with pytest.raises(DataError, match="no utterance is common"):
        compare(REFERENCES, {"sys": {"new": "x"}}, COMMON)
    with pytest.raises(DataError, match="no reference has a word"):
        compare({"a": ""}, {"sys": {"a": "x"}})
    with pytest.raises(ConfigError, match="no hypothesis to score"):
        compare(REFERENCES, {})

    empty = compare(REFERENCES, {"sys": partial}, CompareOptions(missing="empty"))
    assert empty.reports["sys"].total == ErrorCounts(1, 6, 0, 10)
    assert (
        "sys: 2 utterance(s) (s2-a, s2-b) without hypothesis, 6 words: taken for empty, 6 deletions."
        in format_comparison(empty)
    )


def test_what_is_left_out_is_told_with_its_price() -> None:
    systems = {
        "one": {key: FIRST[key] for key in ("s1-a", "s1-b")},
        "two": {**SECOND, "new": "x"},
    }
    found = compare(REFERENCES, systems, COMMON)
    assert list(found.reports["two"].utterances) == ["s1-a", "s1-b"]
    assert found.reports["one"].total == ErrorCounts(1, 0, 0, 4)
    text = format_comparison(found)
    assert (
        "one: 2 utterance(s) (s2-a, s2-b) without hypothesis, 6 words: left out; as 6 deletions "
        "they would make the WER 70.00 %." in text
    )
    assert "two: 1 utterance(s) (new) without reference: left out." in text
    assert "two: 2 utterance(s) that another system lacks: left out." in text
    assert text.count("another system lacks") == 1
    systems_json = comparison_json(found)["systems"]
    assert systems_json["one"]["unmatched"]["wer_with_deletions"] == pytest.approx(70.0)
    assert systems_json["two"]["unmatched"]["no_reference"] == ["new"]


def test_nothing_is_said_where_nothing_can_be() -> None:
    found = compare({"a": "x y"}, {"sys": {"a": "x"}})
    assert found.intervals == {} and found.reports["sys"].total.wer == 50.0
    assert "No intervals: the bootstrap needs more than one of the utterances." in (
        format_comparison(found)
    )
    speakers = dict.fromkeys(REFERENCES, "s")
    with_one = format_comparison(compare(REFERENCES, {"sys": FIRST}, speakers=speakers))
    assert "needs more than one of the speakers" in with_one
    without = format_comparison(compare(REFERENCES, {"sys": FIRST}, CompareOptions(num_samples=0)))
    assert "ntervals" not in without and "empty reference" in without
    for options in ({"unit": "line"}, {"missing": "skip"}, {"level": 1.0}, {"num_samples": -1}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            CompareOptions(**options)  # type: ignore[arg-type]


def test_alternatives_are_chosen_for_each_system() -> None:
    references = {"a": parse_alternatives("{ gonna / going to } go"), "b": "x"}
    systems = {"one": {"a": "going to go", "b": "x"}, "two": {"a": "gonna go", "b": "y"}}
    found = compare(references, systems, CompareOptions(num_samples=100))
    assert found.reports["one"].total == ErrorCounts(0, 0, 0, 4)
    assert found.reports["two"].total == ErrorCounts(1, 0, 0, 3)
    assert found.differences["two"].estimate == pytest.approx(100 / 3)


def test_confusions_are_counted_and_ordered() -> None:
    report = score(
        {"1": "a b c d", "2": "a b", "3": "c d", "4": "x"},
        {"1": "a x c", "2": "b b", "3": "c", "4": "x z y"},
    )
    found = count_confusions(report)
    assert list(found.substitutions.items()) == [(("a", "b"), 1), (("b", "x"), 1)]
    assert list(found.deletions.items()) == [("d", 2)]
    assert list(found.insertions.items()) == [("y", 1), ("z", 1)]
    total = sum(sum(one.values()) for one in vars(found).values())
    assert total == report.total.errors


def test_speakers(tmp_path: Path) -> None:
    path = tmp_path / "utt2spk"
    path.write_text("s1-a s1\ns1-b s1\nother s9\ns2-a s2\ns2-b s2\n")
    speakers = read_utt2spk(path, REFERENCES)
    assert speakers == SPEAKERS == speakers_by_pattern(REFERENCES, r"^(.*)-")
    assert speakers_by_pattern(["ab1"], "[a-z]") == {"ab1": "a"}
    errors = errors_by_speaker(score(REFERENCES, FIRST), speakers)
    assert errors == {"s1": (2, ErrorCounts(1, 0, 0, 4)), "s2": (2, ErrorCounts(1, 1, 1, 6))}
    for content, message in (
        ("s1-a s1\ns1-b\n", "utt2spk:2: expected 'utterance speaker', found 's1-b'"),
        ("s1-a s1\ns1-b s 1\n", "utt2spk:2: expected"),
        ("s1-a s1\ns1-a s2\n", "utt2spk:2: utterance 's1-a' comes twice"),
        ("s1-a s1\n", "utt2spk: utterance 's1-b' has no speaker"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=message):
            read_utt2spk(path, REFERENCES)
    with pytest.raises(DataError, match=r"'\^\(x\)' finds no speaker in the utterance id 's1-a'"):
        speakers_by_pattern(REFERENCES, "^(x)")
    with pytest.raises(ConfigError, match="no regular expression|not a regular expression"):
        speakers_by_pattern(REFERENCES, "(")


def test_json_has_everything(tmp_path: Path) -> None:
    found = compare(REFERENCES, {"one": FIRST, "two": SECOND}, speakers=SPEAKERS)
    write_comparison_json(tmp_path / "scores.json", found)
    value = json.loads((tmp_path / "scores.json").read_text())
    assert value == json.loads(json.dumps(comparison_json(found)))
    one = value["systems"]["one"]
    assert one["wer"] == 40.0 and one["utterances_with_errors"] == 3
    assert one["by_utterance"]["s2-a"] == {
        "wer": None, "substitutions": 0, "deletions": 0, "insertions": 1, "reference_length": 0,
    }  # fmt: skip
    assert one["substitutions"] == [["eight", "ate", 1], ["two", "too", 1]]
    assert (one["deletions"], one["insertions"]) == ([["ten", 1]], [["uh", 1]])
    assert one["speakers"]["s1"]["wer"] == 25.0
    interval = found.intervals["one"]
    assert one["interval"] == [interval.low, interval.high]
    assert value["differences"]["two"]["estimate"] == pytest.approx(-30.0)
    assert value["bootstrap"]["drawn"] == "speakers"
