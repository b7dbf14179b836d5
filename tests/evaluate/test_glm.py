"""Rules of a file: where they match, what they put in, what is refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.errors import DataError
from moe_asr.evaluate.glm import Rule, Rules

LETTERS = st.sampled_from("abcd")
PATTERNS = st.dictionaries(
    st.lists(LETTERS, min_size=1, max_size=3).map(tuple),
    st.lists(st.sampled_from("abxyz"), max_size=2).map(tuple),
    min_size=1,
    max_size=5,
)


@given(PATTERNS, st.lists(LETTERS, max_size=10))
def test_the_longest_pattern_from_left_to_right(
    patterns: dict[tuple[str, ...], tuple[str, ...]], words: list[str]
) -> None:
    rules = Rules([Rule(pattern, replacement) for pattern, replacement in patterns.items()])
    expected: list[str] = []
    rest = tuple(words)
    while rest:
        found = max((p for p in patterns if rest[: len(p)] == p), key=len, default=None)
        expected += rest[:1] if found is None else patterns[found]
        rest = rest[1 if found is None else len(found) :]
    assert rules(words) == expected


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_of_rules(tmp_path: Path) -> None:
    path = write(
        tmp_path / "rules.glm",
        "# what is said the same\n"
        ";; so is this\n"
        '* name "rules"\n'
        "* case_sensitive = 'F'\n"
        "\n"
        "[gonna] => [going to]   ;; brackets\n"
        "uh => []\n"
        "who's => { who's / [who is] / who has }\n"
        "[dr] => [doctor] / [ ] __ [ ]\n"
        "saint => holy\n"
        "saint => st / [ ] __ [ street]\n"
        "saint => saints / [ all ] __ [ ]\n"
        "and/or => or\n"
        "c # => c sharp\n",
    )
    rules = Rules.read(path)
    assert rules("Gonna UH see DR who".split()) == ["going", "to", "see", "doctor", "who"]
    assert rules(["Who's", "there"]) == [(("who's",), ("who", "is"), ("who", "has")), "there"]
    assert rules("all saint street all saint saint".split()) == (
        "all st street all saints holy".split()
    )
    assert rules("x and/or c #".split()) == "x or c sharp".split()
    # within alternatives too, but not across their edges
    assert rules(["saint", (("uh",), ("gonna", "x")), "street"]) == [
        "holy", ((), ("going", "to", "x")), "street",
    ]  # fmt: skip
    assert rules([(("who's", "x"), ("b",))]) == [
        (("who's", "x"), ("who", "is", "x"), ("who", "has", "x"), ("b",))
    ]
    sensitive = Rules.read(write(tmp_path / "case.glm", "uh => \n"))
    assert sensitive(["UH", "uh"]) == ["UH"]


def test_replacements_are_not_replaced_again(tmp_path: Path) -> None:
    rules = Rules.read(write(tmp_path / "swap.glm", "a => b\nb => a\n"))
    assert rules("a b a".split()) == ["b", "a", "b"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a b", "expected 'pattern => replacement', found 0 times '=>'"),
        ("a => b => c", "found 2 times"),
        (" => b", "pattern: it is empty"),
        ("[] => b", "pattern: it is empty"),
        ("[a => b", "pattern: a bracket '\\[' has no partner"),
        ("a => b]", "replacement: a bracket '\\]' has no partner"),
        ("a => { b / c", "has no '}' after"),
        ("a => { b / }", "an alternative is empty"),
        ("{ a / b } => c", "a pattern has no alternatives"),
        ("a => b / somewhere", "context: expected"),
        ("a => b / [] __ [ ]", "patterns are whole words"),
        ("a => b / [ ] __ [ly]", "patterns are whole words"),
        ("x => c", "the rule of 'x' comes twice, also in line 1"),
        ("X => c / [ ] __ [ ]", "comes twice, also in line 1"),
        ("* case_sensitive = 'F'", "expected a rule"),  # below a rule
    ],
)
def test_malformed_rules_name_their_line(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "bad.glm", f"x => y\n\n{line}\n")
    if line.startswith("X"):
        path = write(path, f"* case_sensitive = 'F'\nx => y\n{line}\n")
        message = message.replace("line 1", "line 2")
    with pytest.raises(DataError, match=f"bad.glm:3: .*{message}"):
        Rules.read(path)


def test_files_without_rules_and_of_other_kinds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty.glm: there are no rules"):
        Rules.read(write(tmp_path / "empty.glm", ";; nothing\n"))
    with pytest.raises(DataError, match="kind.glm:1: format must be 'NIST1', found 'NIST2'"):
        Rules.read(write(tmp_path / "kind.glm", "* format = 'NIST2'\na => b\n"))
    (tmp_path / "latin.glm").write_bytes(b"a => b\n\xe9 => e\n")
    with pytest.raises(DataError, match="latin.glm:2: not UTF-8"):
        Rules.read(tmp_path / "latin.glm")
    with pytest.raises(DataError, match="absent.glm: cannot be read"):
        Rules.read(tmp_path / "absent.glm")
