"""ctm and trn files: round trips, what is refused, and where."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moe_asr.errors import ConfigError, DataError
from moe_asr.evaluate.ctm import CtmWord, ctm_texts, read_ctm, write_ctm
from moe_asr.evaluate.transcripts import format_of, read_transcript_sets, write_texts
from moe_asr.evaluate.trn import read_trn, write_trn

SHARED_FOLDER = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
WORDS = st.text("ab('\u00e9\u4eca;<", min_size=1, max_size=4).filter(lambda x: x[0] != ";")
MILLISECONDS = st.integers(0, 5000)
SPOKEN = st.lists(
    st.tuples(MILLISECONDS, MILLISECONDS, WORDS, st.none() | st.integers(0, 10000)), max_size=4
)


@SHARED_FOLDER
@given(st.dictionaries(st.tuples(WORDS, st.sampled_from("AB")), SPOKEN, max_size=3))
def test_ctm_round_trip(tmp_path: Path, spoken: dict) -> None:
    words = [
        CtmWord(name, channel, start / 1000, length / 1000, word, sure and sure / 10000)
        for (name, channel), found in spoken.items()
        for start, length, word, sure in sorted(found, key=lambda one: one[0])
    ]
    write_ctm(tmp_path / "a.ctm", words)
    read = [word for found in read_ctm(tmp_path / "a.ctm").values() for word in found]
    order = [(word.utterance_id, word.channel) for word in words]
    read.sort(key=lambda word: order.index((word.utterance_id, word.channel)))
    assert len(read) == len(words)
    for word, expected in zip(read, words, strict=True):
        assert word.start_seconds == expected.start_seconds
        assert word.duration_seconds == pytest.approx(expected.duration_seconds, abs=1e-9)
        assert (word.word, word.confidence) == (expected.word, expected.confidence)


def test_ctm_is_written_so_that_neighbours_meet(tmp_path: Path) -> None:
    times = [0.0, 0.0149, 0.0298, 0.0447]
    write_ctm(
        tmp_path / "a.ctm",
        [CtmWord("f", "1", a, b - a, "w", 0.5) for a, b in zip(times, times[1:], strict=False)],
        decimals=2,
    )
    assert (tmp_path / "a.ctm").read_text() == (
        "f 1 0.00 0.01 w 0.5000\nf 1 0.01 0.02 w 0.5000\nf 1 0.03 0.01 w 0.5000\n"
    )
    backwards = [CtmWord("f", "1", 1.0, 0.1, "w"), CtmWord("f", "1", 0.5, 0.1, "v")]
    with pytest.raises(DataError, match="b.ctm: 'v' of f starts at 0.5, before the word above"):
        write_ctm(tmp_path / "b.ctm", backwards)
    assert not (tmp_path / "b.ctm").exists()


def test_ctm_of_several_channels(tmp_path: Path) -> None:
    path = tmp_path / "a.ctm"
    path.write_text(
        "\ufeff;; words\nf A 0.5 0.1 one 0.9\nf A 0.5 0 two NA\nf B 0.1 0.2 three\ng 1 3 1e-1 four\n\n",
        encoding="utf-8",
    )
    words = read_ctm(path)
    assert words["f"] == [
        CtmWord("f", "A", 0.5, 0.1, "one", 0.9),
        CtmWord("f", "A", 0.5, 0.0, "two"),
        CtmWord("f", "B", 0.1, 0.2, "three"),
    ]
    assert ctm_texts(words) == {"f": "one two three", "g": "four"}
    # a system that finds nothing in channel B, and a reference that has both
    (tmp_path / "one.ctm").write_text("f A 0.5 0.1 one\n")
    (tmp_path / "ref.txt").write_text("f-A one two\nf-B three\ng four\n")
    both, one, text = read_transcript_sets([path, tmp_path / "one.ctm", tmp_path / "ref.txt"])
    assert both == text and one == {"f-A": "one"}
    one, text = read_transcript_sets([tmp_path / "one.ctm", tmp_path / "ref.txt"])
    assert one == {"f-A": "one"} and list(text) == ["f-A", "f-B", "g"]
    path.write_text("f A 0 1 a\nf B 0 1 b\nf-A 1 0 1 c\n")
    with pytest.raises(DataError, match="'f-A' is a file, and a channel of another"):
        read_transcript_sets([path])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("f 1 0.1 0.2", "expected 'file channel .*, found 4 columns"),
        ("f 1 0.1 0.2 a b c", "expected .*, found 7 columns"),
        ("f 1 x 0.2 a", "start must be a number, found 'x'"),
        ("f 1 0.5 NA a", "duration must be a number, found 'NA'"),
        ("f 1 -0.1 0.2 a", "start_seconds must not be negative, found -0.1"),
        ("f 1 0.5 -0.2 a", "duration_seconds must not be negative, found -0.2"),
        ("f 1 nan 0.2 a", "start_seconds must not be negative, found nan"),
        ("f 1 0.5 0.2 a 1.5", "confidence must be between 0 and 1, found 1.5"),
        ("f 1 0.3 0.2 a", "'a' of f starts at 0.3, before the word above it .0.4"),
        ("g 1 0 1 a\nf 1 0.9 0.1 b", "file f channel 1 comes again after others"),
    ],
)
def test_malformed_ctm_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "a.ctm"
    path.write_text(f"f 1 0.4 0.2 x\n{line}\n")
    with pytest.raises(DataError, match=f"a.ctm:{2 + line.count(chr(10))}: {message}"):
        read_ctm(path)


def test_words_that_cannot_be_written_are_refused() -> None:
    for values, message in (
        (("u", "1", 0.0, 1.0, "a b"), "word must be one word, found 'a b'"),
        (("", "1", 0.0, 1.0, "a"), "utterance_id must be one word, found ''"),
        ((";;u", "1", 0.0, 1.0, "a"), "utterance_id must be one word"),
        (("u", "1", float("inf"), 1.0, "a"), "start_seconds"),
        (("u", "1", 0.0, 1.0, "a", float("nan")), "confidence"),
    ):
        with pytest.raises(DataError, match=message):
            CtmWord(*values)


@SHARED_FOLDER
@given(st.dictionaries(st.text("ab-_.1", min_size=1), st.lists(WORDS).map(" ".join), max_size=4))
def test_trn_round_trip(tmp_path: Path, texts: dict[str, str]) -> None:
    for name in ("a.trn", "a.txt"):
        write_texts(tmp_path / name, texts)
        if texts:
            assert read_transcript_sets([tmp_path / name]) == [texts]
    assert read_trn(tmp_path / "a.trn") == texts


def test_trn_files(tmp_path: Path) -> None:
    path = tmp_path / "a.trn"
    path.write_bytes(b";; comment\n\none  (two) three (u-1)\r\n(u-2)\n(u)(u-3) \n")
    assert read_trn(path) == {"u-1": "one (two) three", "u-2": "", "u-3": "(u)"}
    for content, message in (
        (b"a (u)\nb\n", "a.trn:2: expected 'text .id.', found no id at the end"),
        (b"a (u 1)\n", "a.trn:1: expected"),
        (b"a ()\n", "a.trn:1: expected"),
        (b"a (u)\nb (v)\nc (u)\n", "a.trn:3: utterance 'u' comes twice"),
        (b"a (u)\n\xff (v)\n", "a.trn:2: not UTF-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_trn(path)
    for texts in ({"a b": "x"}, {"(u)": "x"}, {"": "x"}, {"u": ";; x"}):
        with pytest.raises(DataError, match="b.trn: "):
            write_trn(tmp_path / "b.trn", texts)
    assert not (tmp_path / "b.trn").exists()


def test_formats_by_name(tmp_path: Path) -> None:
    names = ("a.trn", "a.TRN.gz", "a.ctm", "a.txt", "ctm", "text")
    assert [format_of(name) for name in names] == ["trn", "trn", "ctm", "text", "text", "text"]
    (tmp_path / "a.ctm").write_text("u x\n")
    assert read_transcript_sets([tmp_path / "a.ctm"], ["text"]) == [{"u": "x"}]
    with pytest.raises(ConfigError, match="format must be one of text, trn, ctm, found 'stm'"):
        read_transcript_sets([tmp_path / "a.ctm"], ["stm"])
    with pytest.raises(ConfigError, match="texts have no times"):
        write_texts(tmp_path / "b.ctm", {"u": "x"})
    for name in ("empty.txt", "empty.trn", "empty.ctm"):
        (tmp_path / name).write_text("")
        with pytest.raises(DataError, match=f"{name}: there are no utterances"):
            read_transcript_sets([tmp_path / name])
