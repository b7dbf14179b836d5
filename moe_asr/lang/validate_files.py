"""Checks of a language directory: every file for itself, against the others, and against its source.

Each function is a check as `moe_asr.lang.validate_report.Runner` calls them: it tells its findings, and
returns what later checks need if that can be used, else None.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from moe_asr.errors import TextError
from moe_asr.files import PathLike
from moe_asr.fsa.check import check_lexicon
from moe_asr.fsa.compare import array_differences
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.lexicon_fst import lexicon_fst
from moe_asr.lang import provenance
from moe_asr.lang.directory import (
    FILES,
    L_DISAMBIG_FILE,
    L_FILE,
    LEXICON,
    LEXICON_DISAMBIG,
    STEP,
    TOKENIZER_DIR,
    TOKENS,
    TOKENS_DISAMBIG,
    WORDS,
    LangDir,
    disambig_table,
    disambiguated_lines,
)
from moe_asr.lang.prepare import UNSPELLABLE
from moe_asr.lang.validate_report import Findings, Skipped
from moe_asr.text.lexicon import (
    BACKOFF,
    EPSILON,
    Lexicon,
    describe_unspellable,
    parse_lexicon_line,
    spell_words,
)
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import BLANK, Tokenizer, load_tokenizer
from moe_asr.text.word_list import read_word_list

_TABLE_LINE = re.compile(r"(\S+)[ \t]+([0-9]{1,18})[ \t]*")


def check_files(found: Findings, lang: Path) -> bool:
    """Everything is there, and not empty."""
    for name in FILES:
        _check_file(found, lang / name)
    if not (lang / TOKENIZER_DIR).is_dir():
        found.error(f"{lang / TOKENIZER_DIR}: no such directory; lang/prepare_lang.py makes it")
    found.note(f"{len(FILES)} files and {TOKENIZER_DIR}/")
    return True


def _check_file(found: Findings, path: Path) -> None:
    if not path.is_file():
        found.error(f"{path}: no such file")
    elif not path.stat().st_size:
        found.error(f"{path}: empty")


def check_tokenizer(found: Findings, lang: Path) -> Tokenizer:
    """The tokenizer's files hold together."""
    tokenizer = load_tokenizer(lang / TOKENIZER_DIR)
    found.note(f"{tokenizer.kind}, {tokenizer.vocab_size} tokens")
    return tokenizer


def check_tokens(found: Findings, lang: Path, tokenizer: Tokenizer) -> SymbolTable | None:
    """``tokens.txt``: a table with blank as 0, the same as the tokenizer's."""
    table = read_table(found, lang / TOKENS)
    if table is None:
        return None
    if table.symbol(0) != BLANK:
        found.error(f"{lang / TOKENS}:1: symbol 0 is '{table.symbol(0)}', expected {BLANK}")
    if not same_table(found, table, tokenizer.tokens, str(lang / TOKENIZER_DIR)):
        return None
    found.note(f"{len(table)} tokens")
    return table


def check_lexicon_file(
    found: Findings, lang: Path, probabilities: bool, tokens: SymbolTable
) -> Lexicon | None:
    """``lexicon.txt``: every line a word and known tokens, none twice."""
    path = lang / LEXICON
    first: dict[tuple[str, tuple[str, ...]], int] = {}
    for number, line in decoded_lines(found, path):
        if not line.strip():
            continue
        try:
            entry = parse_lexicon_line(line.split(), probabilities)
        except TextError as error:
            found.error(f"{path}:{number}: {error}")
            continue
        for token in dict.fromkeys(token for token in entry.tokens if token not in tokens):
            found.error(f"{path}:{number}: word '{entry.word}': token '{token}' is not in {TOKENS}")
        before = first.setdefault((entry.word, entry.tokens), number)
        if before != number:
            found.error(f"{path}:{number}: the same entry as in line {before}: '{line.strip()}'")
    if found.num_errors:
        return None
    lexicon = Lexicon.read(path, probabilities, tokens)
    found.note(f"{len(lexicon.words)} words, {len(lexicon)} pronunciations")
    return lexicon


def is_spelled_by_tokenizer(lang: Path) -> bool:
    """Whether the lexicon was made by the tokenizer, from a word list."""
    return "words" in provenance.recorded_inputs(lang, STEP)


def check_lexicon_source(
    found: Findings, lang: Path, lexicon: Lexicon, probabilities: bool, tokenizer: Tokenizer
) -> bool:
    """``lexicon.txt`` is what its word list, spelled by the tokenizer, or its lexicon file gives.

    Raises:
        Skipped: if that is not there any more.
    """
    role = "words" if is_spelled_by_tokenizer(lang) else "lexicon"
    path = provenance.recorded_inputs(lang, STEP).get(role)
    if path is None or not path.is_file():
        raise Skipped(f"{path or 'the source'} is not there")
    if role == "words":
        entries, unspellable = spell_words(read_word_list(path), tokenizer)
        if provenance.recorded_settings(lang, STEP).get("skip_unspellable"):
            skipped = [line for _, line in decoded_lines(found, lang / UNSPELLABLE)]
            _same_lines(found, lang / UNSPELLABLE, skipped, unspellable, str(path))
            found.note(f"{len(unspellable)} words of it cannot be spelled")
        elif unspellable:
            found.error(f"{path}: {describe_unspellable(unspellable)}")
        if not entries:
            found.error(f"{path}: not one word can be spelled by the tokenizer")
            return False
        expected = Lexicon(entries)
    else:
        expected = Lexicon.read(path, probabilities, tokenizer.tokens)
    what = f"{path}{' and the tokenizer' if role == 'words' else ''}"
    lines = lexicon.lines(probabilities)
    _same_lines(found, lang / LEXICON, lines, expected.lines(probabilities), what)
    found.note(f"as {path} has it")
    return True


def check_words(found: Findings, lang: Path, lexicon: Lexicon) -> SymbolTable | None:
    """``words.txt``: the words of the lexicon, each with a pronunciation, ``<eps>`` first, ``#0`` last."""
    path = lang / WORDS
    table = read_table(found, path)
    if table is None:
        return None
    for index, symbol in ((0, EPSILON), (len(table) - 1, BACKOFF)):
        if table.symbol(index) != symbol:
            line, there = index + 1, table.symbol(index)
            found.error(f"{path}:{line}: symbol {index} is '{there}', expected {symbol}")
    for index, word in enumerate(table):
        if word not in (EPSILON, BACKOFF) and word not in lexicon:
            found.error(f"{path}:{index + 1}: word '{word}' has no pronunciation in {LEXICON}")
    for word in lexicon.words:
        if word not in table:
            found.error(f"{path}: no word '{word}', which {LEXICON} has")
    expected = lexicon.word_table()
    if not found.num_errors:
        same_table(found, table, expected, LEXICON)
    found.note(f"{len(lexicon.words)} words")
    return None if found.num_errors else table


def check_lexicon_disambig(
    found: Findings, lang: Path, lexicon: Lexicon, probabilities: bool
) -> int:
    """``lexicon_disambig.txt``: the symbols that are needed and no others; returns the highest number."""
    expected, highest = disambiguated_lines(lexicon, probabilities)
    path = lang / LEXICON_DISAMBIG
    lines = [line for _, line in decoded_lines(found, path)]
    if not found.num_errors:
        _same_lines(found, path, lines, expected, LEXICON)
    marked = sum("#" in line.rsplit(" ", 1)[-1] for line in expected)
    found.note(f"#1 to #{highest} on {marked} pronunciations" if highest else "none are needed")
    return highest


def check_tokens_disambig(found: Findings, lang: Path, tokens: SymbolTable, highest: int) -> bool:
    """``tokens_disambig.txt``: the tokens, then ``#0`` to the highest symbol of the lexicon."""
    table = read_table(found, lang / TOKENS_DISAMBIG)
    if table is not None:
        expected = disambig_table(tokens, highest)
        same_table(found, table, expected, f"{TOKENS} and {LEXICON_DISAMBIG}")
        found.note(f"#0 to #{highest} have ids {len(tokens)} to {len(tokens) + highest}")
    return True


def check_l(
    found: Findings,
    lang: Path,
    lexicon: Lexicon,
    tokens: SymbolTable,
    words: SymbolTable,
    name: str,
) -> Fst | None:
    """``L.safetensors`` or ``L_disambig.safetensors``: the FST of ``lexicon.txt``, arc by arc."""
    path = lang / name
    kind = {L_FILE: "L", L_DISAMBIG_FILE: "L_disambig"}[name]
    fst, metadata = Fst.load(path)
    expected = lexicon_fst(lexicon, tokens, words, disambig=kind == "L_disambig")
    for key, value in (("kind", kind), ("num_pronunciations", len(lexicon))):
        if metadata.get(key) != value:
            found.error(f"{path}: its {key} is {metadata.get(key)!r}, expected {value!r}")
    sizes = (fst.num_states, fst.num_arcs), (expected.num_states, expected.num_arcs)
    if sizes[0] != sizes[1]:
        found.error(
            f"{path}: {sizes[0][0]} states and {sizes[0][1]} arcs; {LEXICON} has {sizes[1][0]} and "
            f"{sizes[1][1]}"
        )
        return None
    for array, index in array_differences(fst, expected):
        where = f"state {index}" if array == "final_score" else f"arc {index}"
        mine, wanted = getattr(fst, array)[index], getattr(expected, array)[index]
        found.error(f"{path}: {where}: {array} {mine}, expected {wanted} by {LEXICON}")
    found.note(f"{fst.num_states} states, {fst.num_arcs} arcs")
    return None if found.num_errors else fst


def check_determinizable(
    found: Findings, l_disambig: Fst, tokens: SymbolTable, words: SymbolTable
) -> bool:
    """No pronunciation of L_disambig is another's, or its beginning: what L o G needs to be determinised."""
    check_lexicon(l_disambig, tokens, words)
    found.note("words can be told apart when the last label is read")
    return True


def check_loads(found: Findings, lang: Path) -> bool:
    """`LangDir.load`, which everything reads the directory with, takes it."""
    LangDir.load(lang, verify=False)
    return True


def decoded_lines(found: Findings, path: PathLike) -> Iterator[tuple[int, str]]:
    """(number, text) of the lines of a file; those that are not UTF-8 are errors and left out."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise TextError(f"{path}: cannot be read: {error.strerror}") from error
    lines = content.split(b"\n")
    for number, line in enumerate(lines[:-1] if lines[-1] == b"" else lines, start=1):
        try:
            yield number, line.decode("utf-8").removesuffix("\r")
        except UnicodeDecodeError as error:
            found.error(f"{path}:{number}: not UTF-8 text: {error}")


def read_table(found: Findings, path: Path) -> SymbolTable | None:
    """A table of ``symbol id`` lines in the order of the ids, 0 to n - 1; None if anything is wrong."""
    lines: dict[str, int] = {}
    line_of: dict[int, int] = {}
    ordered = []
    for number, line in decoded_lines(found, path):
        match = _TABLE_LINE.fullmatch(line)
        if match is None:
            found.error(f"{path}:{number}: expected 'symbol id', found {line!r}")
            continue
        symbol, index = match[1], int(match[2])
        before = lines.setdefault(symbol, number)
        if before != number:
            found.error(f"{path}:{number}: duplicate symbol '{symbol}', also in line {before}")
        before = line_of.setdefault(index, number)
        if before != number:
            found.error(f"{path}:{number}: duplicate id {index}, also in line {before}")
        ordered.append((index, number))
    missing = np.setdiff1d(np.arange(len(ordered)), [index for index, _ in ordered])
    found.errors(missing, lambda index: f"{path}: no symbol has id {index}")
    if found.num_errors:
        return None
    for position, (index, number) in enumerate(ordered):
        if index != position:
            found.error(f"{path}:{number}: id {index}, expected {position}: sorted by id")
    return None if found.num_errors else SymbolTable.read(path)


def same_table(
    found: Findings, table: SymbolTable, expected: SymbolTable, source: str, where: str = ""
) -> bool:
    """Whether two tables are equal; an error for each id where they are not.

    ``where`` stands in the place of ``file:line`` if the table is not from a file of its own.
    """
    same = True
    for index, (mine, wanted) in enumerate(itertools.zip_longest(table, expected)):
        if mine != wanted:
            shown = "nothing" if mine is None else f"'{mine}'"
            other = "nothing" if wanted is None else f"'{wanted}'"
            place = where or f"{table.source}:{index + 1}"
            found.error(f"{place}: symbol {index} is {shown}, expected {other} by {source}")
            same = False
    return same


def _same_lines(
    found: Findings, path: Path, lines: list[str], expected: Iterable[str], source: str
) -> None:
    for number, (mine, wanted) in enumerate(itertools.zip_longest(lines, expected), start=1):
        if mine != wanted:
            shown, other = (
                "the end of the file" if line is None else f"'{line}'" for line in (mine, wanted)
            )
            found.error(f"{path}:{number}: found {shown}, expected {other} by {source}")
