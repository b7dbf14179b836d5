import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.errors import TextError
from moe_asr.text.symbol_table import SymbolTable


def is_symbol(text: str) -> bool:
    return bool(text) and not any(c.isspace() or c == "\ufeff" for c in text)


symbols = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6).filter(
    is_symbol
)
TRICKY = ["#0", "<eps>", "▁the", "中", "0", "7", "\x00", "\u200b", "a\u0301", "🙂", "é", "e\u0301"]


@given(st.lists(symbols | st.sampled_from(TRICKY), min_size=1, max_size=30, unique=True))
def test_read_gives_back_what_was_written(tmp_path_factory, items):
    path = tmp_path_factory.mktemp("symbols") / "tokens.txt"
    table = SymbolTable(items)
    table.write(path)
    read = SymbolTable.read(path)
    assert read == table and list(read) == items and len(read) == len(items)
    for index, symbol in enumerate(items):
        assert read[symbol] == read.get(symbol) == index
        assert read.symbol(index) == symbol
        assert symbol in read


def test_the_file_is_what_kaldi_and_k2_write(tmp_path):
    SymbolTable(["<eps>", "你", "b"]).write(tmp_path / "words.txt")
    assert (tmp_path / "words.txt").read_bytes() == "<eps> 0\n你 1\nb 2\n".encode()


@pytest.mark.parametrize(
    "content",
    ["a 0\nb 1\n", "a 0\nb 1", "b\t1\na   0\n", "a 0 \nb 1\t\n", "a 0\r\nb 1\r\n", "a 00\nb 01"],
)
def test_files_written_by_others_are_read(tmp_path, content):
    (tmp_path / "t.txt").write_bytes(content.encode())
    table = SymbolTable.read(tmp_path / "t.txt")
    assert list(table) == ["a", "b"] and table["b"] == 1


@pytest.mark.parametrize(
    "content, where, message",
    [
        (b"", "", "empty"),
        (b"a 0\nb\n", ":2", "expected 'symbol id', found 'b'"),
        (b"a 0\n\nb 1\n", ":2", "expected 'symbol id', found ''"),
        (b"a 0\nb c 1\n", ":2", "expected 'symbol id'"),
        (b" a 0\n", ":1", "expected 'symbol id'"),
        (b"a 0\nb -1\n", ":2", "expected 'symbol id'"),
        (b"a 0\nb 1.0\n", ":2", "expected 'symbol id'"),
        (b"a 0\nb x\n", ":2", "expected 'symbol id'"),
        ("a 0\nb ١\n".encode(), ":2", "expected 'symbol id'"),
        ("a 0\nb\u00a01\n".encode(), ":2", "expected 'symbol id'"),
        (b"0 a\n1 b\n", ":1", "expected 'symbol id'"),
        (b"a 0\nb 1\na 2\n", ":3", "duplicate symbol 'a', also in line 1"),
        (b"a 0\nb 1\nc 1\n", ":3", "duplicate id 1, 'b' has it in line 2"),
        (b"a 0\nb 2\n", ":2", "id 2 among 2 symbols, and no id 1"),
        (b"a 1\nb 2\n", ":2", "no id 0"),
        (b"a 0\nb 99999999999999999\n", ":2", "no id 1"),
        (b"a 0\nb 99999999999999999999999\n", ":2", "expected 'symbol id'"),
        ("\ufeffa 0\nb 1\n".encode(), ":1", "byte order mark"),
        (b"a 0\nb\xff 1\n", ":2", "not UTF-8"),
        ("a 0\n".encode("utf-16"), ":1", "not UTF-8"),
    ],
)
def test_malformed_files_are_refused_with_the_line(tmp_path, content, where, message):
    path = tmp_path / "tokens.txt"
    path.write_bytes(content)
    with pytest.raises(TextError) as raised:
        SymbolTable.read(path)
    assert str(raised.value).startswith(f"{path}{where}: ") and message in str(raised.value)


def test_files_that_cannot_be_read_are_named(tmp_path):
    for path in (tmp_path / "nowhere.txt", tmp_path):
        with pytest.raises(TextError, match="cannot be read"):
            SymbolTable.read(path)


@pytest.mark.parametrize(
    "items, message",
    [
        (["a", "b", "a"], "symbol 2, 'a': duplicate of 0"),
        (["a", ""], "symbol 1, '': empty"),
        (["a b"], "whitespace inside"),
        (["a\u2028"], "whitespace inside"),
        (["a\n"], "whitespace inside"),
        (["\ufeff"], "byte order mark"),
        (["\ud800"], "surrogate"),
    ],
)
def test_symbols_that_a_file_cannot_hold_are_refused(items, message):
    with pytest.raises(TextError, match=message):
        SymbolTable(items)


def test_look_ups_that_fail_say_what_was_looked_for(tmp_path):
    SymbolTable(["a", "b"]).write(tmp_path / "t.txt")
    table = SymbolTable.read(tmp_path / "t.txt")
    with pytest.raises(TextError, match="t.txt: no symbol 'c'"):
        table["c"]
    for index in (2, -1):
        with pytest.raises(TextError, match=f"t.txt: no id {index}; expected 0 to 1"):
            table.symbol(index)
    assert table.get("c") is None and table.get("c", 7) == 7 and "c" not in table


def test_tables_are_equal_by_their_symbols():
    assert SymbolTable(["a", "b"], "x") == SymbolTable(["a", "b"], "y")
    assert SymbolTable(["a", "b"]) != SymbolTable(["b", "a"])
    assert hash(SymbolTable(["a", "b"], "x")) == hash(SymbolTable(["a", "b"], "y"))
