"""The grammar format: what it means, that it survives being printed, and that mistakes are named."""

import re
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings

from moe_asr.errors import TextError
from moe_asr.fsa.grammar_ast import (
    MAX_DEPTH,
    Choice,
    Grammar,
    Maybe,
    Node,
    Position,
    Reference,
    Repeat,
    Rule,
    Sequence,
    Word,
    format_grammar,
    walk,
)
from moe_asr.fsa.grammar_parser import parse_grammar, read_grammar
from tests.fsa.grammar_references import grammars, parse_probability

A, B, C = Word("a"), Word("b"), Word("c")


def seq(*items: Node) -> Sequence:
    return Sequence(items)


def uniform(*branches: Node) -> Choice:
    return Choice(branches, (1.0,) * len(branches))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", A),
        ("a b c", seq(A, B, C)),
        ("a | b c", uniform(A, seq(B, C))),
        ("/2/ a | b | /0.5/ c", Choice((A, B, C), (2.0, 1.0, 0.5))),
        ("(a | b) c", seq(uniform(A, B), C)),
        ("((a)) (b c)", seq(A, seq(B, C))),
        ("[a] b", seq(Maybe(A, 0.5), B)),
        ("[a | b]:0.25", Maybe(uniform(A, B), 0.25)),
        ("a* b+ c{2}", seq(Repeat(A, 0, None), Repeat(B, 1, None), Repeat(C, 2, 2))),
        ("a{2,5} (b c){3,}:0.9", seq(Repeat(A, 2, 5), Repeat(seq(B, C), 3, None, 0.9))),
        ("a{ 0 , 1 }:.5", Repeat(A, 0, 1, 0.5)),
        ("[a]:0.1+:0.2", Repeat(Maybe(A, 0.1), 1, None, 0.2)),
        ("a // a comment ; | (\n b", seq(A, B)),
        ('"a b" "and/or"', seq(seq(A, B), Word("and/or"))),
        ('"a b"{2}', Repeat(seq(A, B), 2, 2)),
        ("a<other>b", seq(A, Reference("other"), B)),
        ("打开 | включи | l'été | re-do | 3 | #tag",
         uniform(*map(Word, ["打开", "включи", "l'été", "re-do", "3", "#tag"]))),
        ("start import", seq(Word("start"), Word("import"))),
    ],
)  # fmt: skip
def test_expansions(text: str, expected: Node) -> None:
    grammar = parse_grammar(f"@start <s0>;\n<s0> = {text}\n;<other> = a;")
    assert grammar.rules["s0"].body == expected


@settings(max_examples=60)
@given(grammars(bounded=False, max_leaves=10))
def test_printed_grammars_read_the_same(grammar: Grammar) -> None:
    text = format_grammar(grammar)
    again = parse_grammar(text)
    assert again == grammar and list(again.rules) == list(grammar.rules)
    assert format_grammar(again) == text


def test_positions_are_those_of_the_text() -> None:
    text = "// 注\n@start <s0>;\r\n<s0> = 打开 [ b\n\tc+ ] ;\n"
    grammar = parse_grammar(text, source="x.gram")
    at = {type(node).__name__: node.at for node in walk(grammar.rules["s0"].body)}
    words = {
        node.text: node.at for node in walk(grammar.rules["s0"].body) if isinstance(node, Word)
    }
    assert grammar.rules["s0"].at == Position("x.gram", 3, 1)
    assert words["打开"] == Position("x.gram", 3, 8) and words["b"] == Position("x.gram", 3, 13)
    assert words["c"] == Position("x.gram", 4, 2)
    assert at["Maybe"] == Position("x.gram", 3, 11) and at["Repeat"] == Position("x.gram", 4, 3)
    assert str(words["c"]) == "x.gram:4:2"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    return folder / "main.gram"


def test_imports_and_lists(tmp_path: Path) -> None:
    """Paths are those of the file that names them; what several import is read once."""
    main = write(
        tmp_path,
        main_gram='@import "lib/one.gram"; @import "lib/two.gram"; @start <s0>; <s0> = <one> <two>;',
        lib__one_gram='@start <one>; @import "two.gram"; <one> = a <two>; <spare> = b;',
        lib__two_gram='@import "one.gram"; <two> = c @"names.txt";',
        lib__names_txt="// names\nanna\t3\r\n\nmary  ann\t0.5\n  bob\n",
    )
    grammar = read_grammar(main)
    assert list(grammar.rules) == ["two", "one", "spare", "s0"]
    names = Choice((Word("anna"), seq(Word("mary"), Word("ann")), Word("bob")), (3.0, 0.5, 1.0))
    assert grammar.rules["two"].body == seq(C, names)
    found = [path.relative_to(tmp_path).as_posix() for path in grammar.files]
    assert found == ["main.gram", "lib/one.gram", "lib/two.gram", "lib/names.txt"]
    assert grammar.warnings == ()  # <spare> belongs to a library
    where = grammar.words()["ann"]
    assert (Path(where.source), where.line, where.column) == (tmp_path / "lib/names.txt", 4, 7)
    assert grammar.reachable() == ["s0", "one", "two"]
    assert list(grammar.words()) == ["a", "ann", "anna", "bob", "c", "mary"]
    assert parse_grammar(format_grammar(grammar)) == grammar


def test_a_list_of_one_phrase(tmp_path: Path) -> None:
    main = write(tmp_path, main_gram='@start <s0>; <s0> = @"x.txt"+;', x_txt="a b\t7\n")
    assert read_grammar(main).rules["s0"].body == Repeat(seq(A, B), 1, None)


def test_unused_rules_are_reported() -> None:
    text = "@start <s0>;\n<s0> = a;\n <t> = <u>;\n<u> = b;"
    grammar = parse_grammar(text, source="x.gram")
    assert grammar.warnings == (
        "x.gram:3:2: rule <t> is not used",
        "x.gram:4:1: rule <u> is not used",
    )
    assert list(grammar.words()) == ["a"]


MALFORMED = {
    "unknown rule": ("<s0> = a\n  <nmaes>;\n<names> = b;", "3:3: no rule <nmaes>; did you mean <names>"),
    "duplicate rule": ("<s0> = a;\n <s0> = b;", "3:2: rule <s0> is defined twice, first at x.gram:2:1"),
    "recursion": ("<s0> = a <t>;\n<t> = b [<u>];\n<u> = <t>;",
                  "4:7: recursion is not allowed: <t> -> <u> -> <t>"),
    "right recursion": ("<s0> = a [<s0>];", "2:11: recursion is not allowed: <s0> -> <s0>"),
    "unused recursion": ("<s0> = a;\n<t> = <t>;", "3:7: recursion is not allowed"),
    "open group": ("<s0> = a (b | (c) ;", "2:10: '(' is not closed before ';'"),
    "open option": ("<s0> = a [b | c;", "2:10: '[' is not closed before ';'"),
    "crossed brackets": ("<s0> = a (b [c) d];", "2:13: '[' is not closed before ')'"),
    "stray )": ("<s0> = a b) c;", "2:11: unbalanced ')'"),
    "stray ]": ("<s0> = a b];", "2:11: unbalanced ']'"),
    "stray }": ("<s0> = a b}2{;", "2:11: unbalanced '}'"),
    "open {": ("<s0> = a{2,\n3};", "2:9: expected bounds as in {2,5}"),
    "end in a group": ("<s0> = a (b", "2:10: '(' is not closed before the end of the file"),
    "empty rule": ("<s0> = ;", "2:8: empty alternative: expected words before ';'"),
    "empty first": ("<s0> = | a;", "2:8: empty alternative: expected words before '|'"),
    "empty middle": ("<s0> = a | | b;", "2:12: empty alternative: expected words before '|'"),
    "empty last": ("<s0> = a |\n;", "3:1: empty alternative"),
    "only a weight": ("<s0> = a | /2/ | b;", "2:12: empty alternative"),
    "empty group": ("<s0> = a ();", "2:11: empty alternative: expected words before ')'"),
    "empty option": ("<s0> = a [ ];", "2:12: empty alternative: expected words before ']'"),
    "empty phrase": ('<s0> = a "  ";', "2:10: an empty phrase"),
    "open quote": ('<s0> = a "b ;\n', "2:10: this quotation mark is not closed"),
    "negative weight": ("<s0> = a | /-1/ b;", "2:12: a weight must be a finite number above 0, found -1"),
    "NaN weight": ("<s0> = /nan/ a | b;", "2:8: a weight must be a finite number above 0, found nan"),
    "infinite weight": ("<s0> = /inf/ a | b;", "2:8: a weight must be a finite number above 0"),
    "zero weight": ("<s0> = a | /0/ b;", "2:12: a weight must be a finite number above 0, found 0"),
    "tiny weight": ("<s0> = (/1e-20/ a | b);", "2:8: the weight 1e-20 is too small beside the others"),
    "infinite sum": ("<s0> = (/1e308/ a | /1e308/ b);", "2:8: the weight 1e+308 is too small"),
    "no number": ("<s0> = /much/ a | b;", "2:8: expected a weight, found 'much'"),
    "digit groups": ("<s0> = /1_0/ a | b;", "2:8: expected a weight, found '1_0'"),
    "late weight": ("<s0> = a /2/ | b;", "2:10: a weight belongs at the beginning of an alternative"),
    "open weight": ("<s0> = /2 a | b;", "2:8: a weight stands between two slashes"),
    "slash in a word": ("<s0> = and/or;", "2:11: a weight stands between two slashes"),
    "probability 0": ("<s0> = a [b]:0;", "2:10: a probability must lie between 0 and 1"),
    "probability 1": ("<s0> = a+:1.0;", "2:9: a probability must lie between 0 and 1"),
    "probability -1": ("<s0> = a{1,2}:-1;", "2:9: a probability must lie between 0 and 1"),
    "no probability": ("<s0> = a [b]: c;", "2:13: expected a probability, found ''"),
    "stray probability": ("<s0> = (a):0.5;", "2:11: ':0.5': a probability follows ']' or a repetition"),
    "pointless probability": ("<s0> = a{2}:0.5;", "2:9: repetition {2,2} leaves no choice"),
    "descending bounds": ("<s0> = a{3,2};", "2:9: repetition {3,2}: expected {m,n} with 0 <= m <= n"),
    "zero times": ("<s0> = a{0};", "2:9: repetition {0,0}: expected {m,n}"),
    "odd bounds": ("<s0> = a{2;3};", "2:9: expected bounds as in {2,5} or {2,}, found {2;3}"),
    "nothing to repeat": ("<s0> = * a;", "2:8: '*' must follow a word, a rule or a bracket"),
    "repeated twice": ("<s0> = a+*;", "2:10: '*' must follow a word, a rule or a bracket, and only one"),
    "bounds alone": ("<s0> = {2} a;", "2:8: '{2}' must follow a word"),
    "reserved <eps>": ("<s0> = a <eps>;", "2:10: '<eps>' is reserved"),
    "reserved <s>": ("<s> = a;", "2:1: '<s>' is reserved"),
    "reserved </s>": ("<s0> = a </s>;", "2:10: '</s>' is no name of a rule"),
    "reserved #0": ("<s0> = a #0;", "2:10: '#0' is reserved and cannot be a word"),
    "reserved in quotes": ('<s0> = "a <unk>";', "2:11: '<unk>' is reserved and cannot be a word"),
    "no name": ("<> = a;", "2:1: '<>' is no name of a rule"),
    "bad name": ("<a+b> = a;", "2:1: '<a+b>' is no name of a rule"),
    "open name": ("<s0> = a <b c>;", "2:10: a rule is named in angle brackets"),
    "stray >": ("<s0> = a > b;", "2:10: a rule is named in angle brackets"),
    "missing =": ("<s0> a;", "2:6: expected '=' after <s0>"),
    "missing ;": ("<s0> = a\n<t> = b;", "3:5: missing ';' before '='"),
    "missing ; before directive": ('<s0> = a\n@import "x.gram";', "3:1: missing ';' before '@import'"),
    "missing ; at the end": ("<s0> = a", "2:9: missing ';' after the statement that begins at x.gram:2:1"),
    "word outside": ("<s0> = a; b", "2:11: expected '<name> = ... ;'"),
    "second start": ("@start <s0>;\n<s0> = a;", "2:1: a second @start, the first is at x.gram:1:8"),
    "unknown directive": ("@strat <s0>;", "2:1: expected '<name> = ... ;'"),
    "import of a rule": ("@import <s0>;", "2:9: expected the name of a file"),
    "missing import": ('@import "none.gram";', r"2:9: "),
    "stray @": ("<s0> = @ a;", "2:8: expected @start, @import or a list file"),
    "odd list": ('<s0> = a @"a\0b";', "2:10: "),
    "missing list": ('<s0> = a @"none.txt";', "2:10: "),
    "deep brackets": ("<s0> = " + "(" * 100 + "a" + ")" * 100 + ";", "2:68: more than 60 brackets"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_grammars_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TextError) as caught:
        parse_grammar(f"@start <s0>;\n{text}", "x.gram", tmp_path)
    assert str(caught.value).startswith(f"x.gram:{message}"), caught.value
    if "none." in text:
        assert "none." in str(caught.value) and "cannot be read" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.gram: there is no rule in it"),
        ("// nothing\n", "x.gram: there is no rule in it"),
        ("<a> = b;", "x.gram: no start rule: expected '@start <a>;'"),
        ("@start <aa>;\n<a> = b;", "x.gram:1:8: no rule <aa>; did you mean <a>"),
        ("\ufeff@start <a>;\n<a> = b;", "x.gram:1:1: a byte order mark"),
        (
            "@start a;\n<a> = b;",
            "x.gram:1:8: expected the name of a rule, as in <command>, found 'a'",
        ),
        (
            "@start <a>\n<a> = b;",
            "x.gram:2:1: missing ';' after the statement that begins at x.gram:1:1",
        ),
    ],
)
def test_files_without_a_start_are_named(text: str, message: str) -> None:
    with pytest.raises(TextError) as caught:
        parse_grammar(text, "x.gram")
    assert str(caught.value).startswith(message), caught.value


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("", "names.txt:1:1", "empty: expected a phrase a line (used at "),
        ("// only this\n\n", "names.txt:1:1", "empty"),
        ("anna\nbob\t-2\n", "names.txt:2:5", "a weight must be a finite number above 0, found -2"),
        ("anna\tnan\n", "names.txt:1:6", "a weight must be a finite number above 0, found nan"),
        ("anna\tmuch\n", "names.txt:1:6", "expected a weight, found 'much'"),
        ("anna\t\n", "names.txt:1:6", "expected a weight, found ''"),
        ("anna\n\t2\n", "names.txt:2:1", "expected a phrase"),
        ("anna\t2\t3\n", "names.txt:1:1", "expected a phrase, or phrase<tab>weight"),
        ("mary ann\nbob\nmary  ann\n", "names.txt:3:1", "'mary ann' is already in line 1"),
        ("anna\nbob #1\n", "names.txt:2:5", "'#1' is reserved"),
        ('the "best"\n', "names.txt:1:5", "a word cannot be empty or hold whitespace, quotes"),
        ("a\t1\nb\t1e30\n", "main.gram:2:8", "the weight 1 is too small beside the others"),
    ],
)
def test_malformed_lists_are_named(tmp_path: Path, text: str, where: str, message: str) -> None:
    main = write(tmp_path, main_gram='@start <s0>;\n<s0> = @"names.txt";', names_txt=text)
    with pytest.raises(TextError) as caught:
        read_grammar(main)
    assert str(caught.value).startswith(f"{tmp_path / where}: {message}"), caught.value


def test_files_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    main = write(tmp_path, main_gram='@start <s0>;\n<s0> = @"names.txt";', names_txt="")
    (tmp_path / "names.txt").write_bytes("jos\xe9\n".encode("latin-1"))
    with pytest.raises(TextError, match=r"main\.gram:2:8: .*names\.txt: not UTF-8"):
        read_grammar(main)
    main.write_bytes(b"\xff")
    with pytest.raises(TextError, match=r"main\.gram: not UTF-8"):
        read_grammar(main)
    with pytest.raises(TextError, match=r"other\.gram: cannot be read"):
        read_grammar(tmp_path / "other.gram")


def test_long_chains_of_imports_are_refused(tmp_path: Path) -> None:
    for i in range(100):
        (tmp_path / f"f{i}.gram").write_text(f'@import "f{i + 1}.gram";\n<r{i}> = a;')
    (tmp_path / "f100.gram").write_text("<end> = a;")
    main = write(tmp_path, main_gram='@start <s0>; <s0> = a; @import "f0.gram";')
    with pytest.raises(
        TextError, match=r"f59\.gram:1:9: more than 60 files that import one another"
    ):
        read_grammar(main)
    beside = "".join(f'@import "f{i}.gram"; ' for i in range(99, 40, -1))
    main = write(tmp_path, main_gram=f"@start <s0>; <s0> = a; {beside}")
    assert len(read_grammar(main).files) == 61


def test_errors_in_imported_files_name_them(tmp_path: Path) -> None:
    main = write(
        tmp_path, main_gram='@import "b.gram"; @start <s0>; <s0> = <t>;', b_gram="\n<t> = a |;"
    )
    with pytest.raises(TextError, match=r"b\.gram:2:10: empty alternative"):
        read_grammar(main)
    write(tmp_path, b_gram="<s0> = a;")
    with pytest.raises(
        TextError, match=r"main\.gram:1:32: rule <s0> is defined twice, .*b\.gram:1:1"
    ):
        read_grammar(main)


def test_a_long_chain_of_rules_is_refused_before_the_stack_ends() -> None:
    def chain(length: int) -> str:
        rules = "".join(f"<r{i}> = <r{i + 1}>;\n" for i in range(length))
        return f"@start <r0>;\n{rules}<r{length}> = a;"

    parse_grammar(chain(MAX_DEPTH - 1))
    with pytest.raises(TextError, match=f"is nested more than {MAX_DEPTH} levels deep"):
        parse_grammar(chain(5000))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Grammar("b", {"a": Rule("a", A)}), "no start rule <b>"),
        (lambda: Grammar("a", {"a": Rule("a", Reference("b"))}), "no rule <b>"),
        (lambda: Sequence((A,)), "a sequence needs two items"),
        (lambda: Choice((A, B), (1.0,)), "a choice of 2 branches with 1 weights"),
        (lambda: Choice((A,), (1.0,)), "a choice of 1 branches"),
        (lambda: Repeat(A, -1, None), "repetition {-1,}"),
        (lambda: Maybe(A, 2.0), "a probability must lie between 0 and 1"),
        (lambda: Word("a b"), "hold whitespace"),
    ],
)
def test_nodes_made_by_hand_are_checked(make: object, message: str) -> None:
    with pytest.raises(TextError, match=message):
        make()  # type: ignore[operator]


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "grammar.md").read_text(encoding="utf-8")
    example = re.search(r"(?:    .*\n|\n)*?    @start(?:.*\n)(?:    .*\n|\n)+", text)
    assert example is not None
    (tmp_path / "rooms.txt").write_text("garage\nguest room\t2\n")
    grammar = parse_grammar(textwrap.dedent(example[0]), folder=tmp_path)
    assert set(grammar.reachable()) == {"command", "switch", "dim", "place", "tens", "digit"}
    sentence = "please dim the guest room lights to thirty two percent".split()
    expected = 0.2 * (1 / 4) * (1 / 3) * (2 / 3) * (1 / 3) * 0.5 * (1 / 3)
    assert parse_probability(grammar, sentence) == pytest.approx(expected)
