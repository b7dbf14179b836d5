"""TextGrid files: what is written is read, and what Praat writes."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_asr.errors import DataError
from moe_asr.evaluate.textgrid import Interval, fill_gaps, read_textgrid, write_textgrid

LONG = '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.5
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 0.75
            text = "say ""5 = 6"""
        intervals [2]:
            xmin = 0.75
            xmax = 1.5
            text = ""
    item [2]:
        class = "IntervalTier"
        name = "灯"
        xmin = 0
        xmax = 1.5
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 1.5
            text = "two
lines"
'''
SHORT = '''File type = "ooTextFile"
Object class = "TextGrid"

0
1.5
<exists>
2
"IntervalTier"
"words"
0
1.5
2
0
0.75
"say ""5 = 6"""
0.75
1.5
""
"IntervalTier"
"灯"
0
1.5
1
0
1.5
"two
lines"
'''
TIERS = {
    "words": [Interval(0.0, 0.75, 'say "5 = 6"'), Interval(0.75, 1.5, "")],
    "灯": [Interval(0.0, 1.5, "two\nlines")],
}
LABELS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=8)


@st.composite
def intervals(draw: st.DrawFn) -> list[Interval]:
    places = draw(st.lists(st.integers(0, 50_000), max_size=12).map(sorted))
    pairs = zip(places[::2], places[1::2], strict=False)
    return [Interval(start / 1e4, end / 1e4, draw(LABELS)) for start, end in pairs if end > start]


@settings(max_examples=30)
@given(st.dictionaries(LABELS, intervals(), max_size=3), st.floats(5.001, 1e4))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, tiers: dict[str, list[Interval]], duration: float
) -> None:
    path = tmp_path_factory.getbasetemp() / "round.TextGrid"
    write_textgrid(path, tiers, duration)
    found, end = read_textgrid(path)
    assert end == pytest.approx(duration, abs=1e-6)
    assert list(found) == list(tiers)
    for name, expected in tiers.items():
        filled = found[name]
        assert [interval for interval in filled if interval.label] == expected
        borders = [0.0, *(interval.end_seconds for interval in filled)]
        assert [interval.start_seconds for interval in filled] == borders[:-1]
        assert borders[-1] == end
        assert all(a < b for a, b in zip(borders, borders[1:], strict=False))


@pytest.mark.parametrize("text", [LONG, SHORT], ids=["long", "short"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_praat_writes(tmp_path: Path, text: str, encoding: str) -> None:
    spaced = text.replace("\n", " \n").replace("two \n", "two\n")  # Praat's lines end so
    (tmp_path / "p.TextGrid").write_bytes(spaced.encode(encoding))
    assert read_textgrid(tmp_path / "p.TextGrid") == (TIERS, 1.5)


def test_the_long_format(tmp_path: Path) -> None:
    """Line by line what Praat writes, but for the spaces at the ends of its lines."""
    write_textgrid(tmp_path / "w.TextGrid", TIERS, 1.5)
    written = (tmp_path / "w.TextGrid").read_text(encoding="utf-8")
    assert written == LONG


def test_intervals_without_length() -> None:
    """Praat has none: they get a microsecond."""
    found = fill_gaps(
        [Interval(0.5, 0.5, "a"), Interval(0.5, 0.5, "b"), Interval(0.5, 0.7, "c")], 1
    )
    assert found == [
        Interval(0.0, 0.5, ""),
        Interval(0.5, 0.500001, "a"),
        Interval(0.500001, 0.500002, "b"),
        Interval(0.500002, 0.7, "c"),
        Interval(0.7, 1, ""),
    ]
    assert fill_gaps(
        [Interval(0.2, 1.0, "a"), Interval(1.0, 1.0, "b"), Interval(1.0, 1.0, "c")], 1
    ) == [
        Interval(0.0, 0.2, ""),
        Interval(0.2, 0.999998, "a"),
        Interval(0.999998, 0.999999, "b"),
        Interval(0.999999, 1, "c"),
    ]
    with pytest.raises(DataError, match="3 intervals are too many for 2e-06 s"):
        fill_gaps([Interval(0.0, 0.0, "a")] * 3, 2e-6)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([Interval(0.5, 0.4, "a")], "interval 'a' from 0.5 to 0.4 s: expected one between 0.0 and"),
        ([Interval(0.1, 0.4, "a"), Interval(0.3, 0.5, "b")], "interval 'b' from 0.3"),
        ([Interval(0.5, 1.1, "a")], "interval 'a' from 0.5 to 1.1 s: .* 1.0 s"),
        ([Interval(math.nan, 1.0, "a")], "interval 'a' from nan"),
    ],
)
def test_impossible_intervals(tmp_path: Path, bad: list[Interval], message: str) -> None:
    with pytest.raises(DataError, match=f"x.TextGrid: tier 'words': {message}"):
        write_textgrid(tmp_path / "x.TextGrid", {"words": bad}, 1.0)
    assert not (tmp_path / "x.TextGrid").exists()
    with pytest.raises(DataError, match="the duration must be positive, found 0"):
        write_textgrid(tmp_path / "x.TextGrid", {}, 0.0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"TextGrid"', '"Pitch"', "not a TextGrid"),
        ("<exists>", "<absent>", r":7: expected <exists>, found 2"),
        ("xmax = 0.75", "xmax = long", r":18: expected a number, found \"say"),
        ("size = 2\n    ", "size = 2.5\n    ", "expected a count, found 2.5"),
        ('class = "IntervalTier"\n        name = "灯"', 'class = "TextTier" "灯"', "is a TextTier"),
        ('name = "灯"', 'name = "words"', "a second tier 'words'"),
        ('text = "two\nlines"\n', "", "expected a quoted string, found the end of the file"),
    ],
)
def test_damaged_files(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = LONG.replace(old, new, 1)
    assert text != LONG
    (tmp_path / "bad.TextGrid").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=f"bad.TextGrid.*{message}"):
        read_textgrid(tmp_path / "bad.TextGrid")


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "bad.TextGrid").write_bytes(b"\xc3(")
    with pytest.raises(DataError, match="bad.TextGrid: neither UTF-8 nor UTF-16"):
        read_textgrid(tmp_path / "bad.TextGrid")
    with pytest.raises(DataError, match="no.TextGrid: cannot be read"):
        read_textgrid(tmp_path / "no.TextGrid")
