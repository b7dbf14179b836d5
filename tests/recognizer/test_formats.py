"""Transcripts as text, JSON, ctm and subtitles, read back by readers written for the test."""

import html
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.decode.registry import Alternative
from moe_asr.errors import ConfigError
from moe_asr.evaluate.ctm import read_ctm
from moe_asr.recognizer.formats import FORMATS, get_format
from moe_asr.recognizer.results import Result, Transcript, Word
from moe_asr.recognizer.subtitles import subtitle_cues
from moe_asr.recognizer.transcript_files import document_paths, print_document

CLOCK = r"(\d{2,}):([0-5]\d):([0-5]\d)[,.](\d{3})"


def result(number, words, start, end, **more):
    text = " ".join(word.text for word in words)
    return Result("a.wav", number, True, text, tuple(words), len(words), start, end, **more)


@st.composite
def transcripts(draw):
    """Segments of words whose times go forward, or stand still, with pauses and words of any length."""
    clock = draw(st.sampled_from([0.0, 3590.0, 360_000.0]))
    segments = []
    for number in range(draw(st.integers(0, 4))):
        start, words = clock, []
        for _ in range(draw(st.integers(0, 30))):
            clock += draw(st.sampled_from([0.0, 0.0, 0.01, 0.2, 1.5, 9.0]))
            duration = draw(st.sampled_from([0.0, 0.0004, 0.08, 0.3, 2.0, 8.0]))
            text = draw(
                st.sampled_from(["a", "it's", "turn", "<b>", "R&D", "-->", "x" * 41, "y" * 50])
            )
            words.append(Word(text, clock, clock + duration, draw(st.sampled_from([None, 0.25]))))
            clock += duration
        segments.append(result(number, words, start, clock))
    return Transcript("a.wav", clock, tuple(segments))


def milliseconds(clock):
    hours, minutes, seconds, rest = map(int, re.fullmatch(CLOCK, clock).groups())
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + rest


def read_cues(text):
    """(start, end, lines) of each block of SubRip or WebVTT."""
    cues = []
    for block in text.removeprefix("WEBVTT\n\n").split("\n\n"):
        lines = block.strip("\n").split("\n")
        if lines[0].isdigit():
            assert int(lines.pop(0)) == len(cues) + 1
        if lines != [""]:
            start, end = lines[0].split(" --> ")
            cues.append((milliseconds(start), milliseconds(end), lines[1:]))
    return cues


@given(transcripts())
def test_cues_are_readable_and_have_every_word(transcript):
    cues = subtitle_cues(transcript)
    shown = [word for cue in cues for line in cue.lines for word in line.split(" ")]
    assert shown == [word.text for word in transcript.words]
    previous = 0
    for cue in cues:
        assert previous <= cue.start_milliseconds < cue.end_milliseconds
        assert cue.end_milliseconds - cue.start_milliseconds <= 7000
        assert 1 <= len(cue.lines) <= 2
        assert all(len(line) <= 42 or " " not in line for line in cue.lines)
        previous = cue.end_milliseconds
    for text in (FORMATS["srt"].write(transcript), html.unescape(FORMATS["vtt"].write(transcript))):
        expected = [(c.start_milliseconds, c.end_milliseconds, list(c.lines)) for c in cues]
        assert read_cues(text) == expected


@given(transcripts())
def test_words_stay_near_their_time(transcript):
    words = iter(transcript.words)
    for cue in subtitle_cues(transcript):
        shown = [next(words) for line in cue.lines for _ in line.split(" ")]
        late = cue.start_milliseconds - 1000 * shown[0].start_seconds
        assert -1 <= late <= 130  # a millisecond for each word that stood still before it
        gaps = [b.start_seconds - a.end_seconds for a, b in zip(shown[:-1], shown[1:], strict=True)]
        assert all(gap < 1.0 for gap in gaps)


def words_of(text, start=0.0, seconds=0.2):
    return [
        Word(word, start + seconds * place, start + seconds * (place + 1), 0.5)
        for place, word in enumerate(text.split())
    ]


def test_lines_are_even_and_cues_end_at_pauses():
    text = "the quick brown fox jumps over the lazy dog and runs"
    (cue,) = subtitle_cues(Transcript("a", 9.0, (result(0, words_of(text), 0, 9),)))
    assert cue.lines == ("the quick brown fox jumps", "over the lazy dog and runs")
    assert (cue.start_milliseconds, cue.end_milliseconds) == (0, 2200)
    first = words_of("one two three four five six seven eight nine ten eleven twelve")
    second = words_of("thirteen fourteen fifteen sixteen seventeen eighteen", 2.7)
    cues = subtitle_cues(Transcript("a", 9.0, (result(0, first + second, 0, 9),)))
    assert [" ".join(cue.lines).split()[0] for cue in cues] == ["one", "thirteen"]
    assert cues[0].end_milliseconds == 2400 and cues[1].start_milliseconds == 2700
    # a segment ends a cue; a short one stays a second, but not into the next
    hello = [result(0, words_of("hello"), 0, 0.3), result(1, words_of("you", 0.6), 0.3, 2)]
    cues = subtitle_cues(Transcript("a", 2.0, tuple(hello)))
    assert [(c.start_milliseconds, c.end_milliseconds) for c in cues] == [(0, 600), (600, 1600)]


def test_subtitles_look_as_their_standards_say():
    words = [Word("R&D", 3661.0, 3661.5), Word("<now>", 3661.5, 3662.25)]
    transcript = Transcript("a", 4000.0, (result(0, words, 3660, 4000),))
    assert FORMATS["srt"].write(transcript) == "1\n01:01:01,000 --> 01:01:02,250\nR&D <now>\n\n"
    assert (
        FORMATS["vtt"].write(transcript)
        == "WEBVTT\n\n01:01:01.000 --> 01:01:02.250\nR&amp;D &lt;now&gt;\n\n"
    )
    silent = Transcript("a", 1.0, (result(0, [], 0, 1),))
    assert FORMATS["srt"].write(silent) == "" and FORMATS["vtt"].write(silent) == "WEBVTT\n\n"


@settings(max_examples=30)
@given(transcripts())
def test_json_holds_everything(transcript):
    record = json.loads(FORMATS["json"].write(transcript))
    assert json.loads(FORMATS["json"].write_one_of_many(transcript)) == record
    assert FORMATS["json"].write_one_of_many(transcript).count("\n") == 1
    assert record["name"] == "a.wav" and record["text"] == transcript.text
    assert record["duration_seconds"] == transcript.duration_seconds
    for found, segment in zip(record["segments"], transcript.segments, strict=True):
        assert set(found) == set(Result.__dataclass_fields__)
        assert [Word(**word) for word in found["words"]] == list(segment.words)
        assert found["start_seconds"] == segment.start_seconds and found["is_final"]


def test_json_of_scores():
    entry = Alternative(("b",), (4,), -2.5, {"acoustic": float("-inf")})
    segment = result(
        0, words_of("b"), 0.0, 1.0, score=-1.5, endpoint="rule2", alternatives=(entry,)
    )
    (found,) = json.loads(FORMATS["json"].write(Transcript("ä", 1.0, (segment,))))["segments"]
    assert found["score"] == -1.5 and found["endpoint"] == "rule2"
    assert found["alternatives"] == [
        {"words": ["b"], "tokens": [4], "score": -2.5, "parts": {"acoustic": None}}
    ]


@settings(max_examples=30)
@given(transcripts())
def test_ctm_is_read_back(tmp_path_factory, transcript):
    path = tmp_path_factory.getbasetemp() / "a.ctm"
    path.write_text(FORMATS["ctm"].write(transcript))
    found = read_ctm(path).get("a", [])
    assert [(word.word, word.confidence) for word in found] == [
        (word.text, word.confidence) for word in transcript.words
    ]
    for word, expected in zip(found, transcript.words, strict=True):
        assert abs(word.start_seconds - expected.start_seconds) <= 0.0006
        assert abs(word.end_seconds - expected.end_seconds) <= 0.0011


def test_text_has_a_line_for_each_segment_with_words():
    segments = (
        result(0, words_of("a b"), 0, 1),
        result(1, [], 1, 2),
        result(2, words_of("c"), 2, 3),
    )
    transcript = Transcript("folder/my file.wav", 3.0, segments)
    text = FORMATS["text"]
    assert text.write(transcript) == "a b\nc\n" == print_document(transcript, text, 1)
    named = "folder/my file.wav: a b\nfolder/my file.wav: c\n"
    assert text.write_one_of_many(transcript) == named == print_document(transcript, text, 2)
    assert FORMATS["ctm"].write(transcript).startswith("my_file 1 0.000 0.200 a 0.5000\n")


def test_documents_have_a_place_each(tmp_path):
    files = ["x/a.wav", "b.tar.mp3"]
    paths = document_paths(files, get_format("text"), tmp_path / "new")
    assert paths == {"x/a.wav": tmp_path / "new/a.txt", "b.tar.mp3": tmp_path / "new/b.tar.txt"}
    for name in FORMATS:
        with pytest.raises(ConfigError, match="a.wav and y/a.flac: both would be 'a'"):
            document_paths(["a.wav", "y/a.flac"], get_format(name), tmp_path)
    with pytest.raises(ConfigError, match="a.wav: given twice"):
        document_paths(["a.wav", "a.wav"], get_format("text"), None)
    assert len(document_paths(["a.wav", "a.flac"], get_format("json"), None)) == 2
    with pytest.raises(ConfigError, match="both would be 'a_b'"):
        document_paths(["a b.wav", "a_b.wav"], get_format("ctm"), None)
    for name in ("srt", "vtt"):
        assert document_paths(["a.wav"], get_format(name), None)
        with pytest.raises(ConfigError, match=f"{name} is of one file"):
            document_paths(files, get_format(name), None)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written to"):
        document_paths(files, get_format("srt"), tmp_path / "file")
    with pytest.raises(ConfigError, match="unknown format 'jsn'; did you mean 'json'"):
        get_format("jsn")
