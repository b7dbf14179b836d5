"""The language directory: units, words, lexicon and L, which fit together or are refused.

What is in it, all of it written by `moe_asr.lang.prepare.prepare_lang`:

- ``tokenizer/``: the files of the tokenizer, copied byte for byte from where training has them
- ``tokens.txt``: the model's outputs; ``tokens_disambig.txt``: these and ``#0``, ``#1``, ...
- ``words.txt``: ``<eps>`` as 0, the words, ``#0`` last
- ``lexicon.txt``: ``word token ...``, or ``word probability token ...`` (`LangDir.has_probabilities`);
  ``lexicon_disambig.txt``: the same with disambiguation symbols
- ``L.safetensors``, ``L_disambig.safetensors``: the lexicon as `Fst`
- ``provenance.json``: what it was made from (`moe_asr.lang.provenance`)
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_asr.errors import ConfigError, GraphError, TextError
from moe_asr.files import PathLike
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.lexicon_fst import lexicon_fst
from moe_asr.lang import provenance
from moe_asr.text.lexicon import Lexicon, add_disambig_symbols
from moe_asr.text.lines import read_lines
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import Tokenizer, load_tokenizer

STEP = "lang"
TOKENIZER_DIR = "tokenizer"
TOKENS, TOKENS_DISAMBIG, WORDS = "tokens.txt", "tokens_disambig.txt", "words.txt"
LEXICON, LEXICON_DISAMBIG = "lexicon.txt", "lexicon_disambig.txt"
L_FILE, L_DISAMBIG_FILE = "L.safetensors", "L_disambig.safetensors"
FILES = (
    TOKENS,
    TOKENS_DISAMBIG,
    WORDS,
    LEXICON,
    LEXICON_DISAMBIG,
    L_FILE,
    L_DISAMBIG_FILE,
)


@dataclass(frozen=True)
class LangDir:
    """A language directory, read and found to hold together.

    Attributes:
        path: the directory.
        tokenizer: what spells its words; training uses the same.
        lexicon: the pronunciations of all words.
        has_probabilities: whether the lines of ``lexicon.txt`` have them.
        words: the lexicon's words, ``<eps>`` as 0 and ``#0`` last.
        tokens_disambig: the tokens, then ``#0``, ``#1``, ... as many as the lexicon needs.
        L, L_disambig: tokens in, words out.
    """

    path: Path
    tokenizer: Tokenizer
    lexicon: Lexicon
    has_probabilities: bool
    words: SymbolTable
    tokens_disambig: SymbolTable
    L: Fst
    L_disambig: Fst

    @property
    def tokens(self) -> SymbolTable:
        """The model's outputs, ids 0 to V - 1."""
        return self.tokenizer.tokens

    @property
    def num_disambig(self) -> int:
        """The highest k of the symbols ``#0`` to ``#k``."""
        return len(self.tokens_disambig) - len(self.tokens) - 1

    @classmethod
    def load(cls, path: PathLike, verify: bool = True) -> "LangDir":
        """Reads a directory and checks every file against the others.

        Args:
            path: of the directory.
            verify: also refuse files that are not as `prepare_lang` wrote them, and a directory whose
                tokenizer, word list or lexicon has changed since. Without it a directory can be used
                where those are not to be had.

        Raises:
            StaleError: by ``verify``; and if nothing tells how the directory was made.
            TextError: with file and line where a text file does not fit the others.
            GraphError: if L or L_disambig is not that of the lexicon.
            ConfigError: if there is no such directory, or ``provenance.json`` is damaged.
        """
        path = Path(path)
        if not path.is_dir():
            raise ConfigError(f"{path}: no such directory; lang/prepare_lang.py makes one")
        if verify:
            provenance.verify(path)
        probabilities = provenance.recorded_settings(path, STEP).get("probabilities")
        if not isinstance(probabilities, bool):
            raise ConfigError(
                f"{path / provenance.PROVENANCE_FILE}: step '{STEP}': probabilities is "
                f"{probabilities!r}; expected true or false"
            )
        tokenizer = load_tokenizer(path / TOKENIZER_DIR)
        tokens = tokenizer.tokens
        lexicon = Lexicon.read(path / LEXICON, probabilities, tokens)
        words = lexicon.word_table()
        disambiguated, highest = disambiguated_lines(lexicon, probabilities)
        tokens_disambig = disambig_table(tokens, highest)
        check_table(path / TOKENS, tokens, f"the tokens of {path / TOKENIZER_DIR}")
        check_table(
            path / TOKENS_DISAMBIG, tokens_disambig, f"{TOKENS} and its {highest + 1} symbols"
        )
        check_table(path / WORDS, words, f"the words of {LEXICON}")
        check_lines(path / LEXICON_DISAMBIG, disambiguated, LEXICON)
        return cls(
            path,
            tokenizer,
            lexicon,
            probabilities,
            words,
            tokens_disambig,
            _load_l(path, lexicon, tokens, words, disambig=False),
            _load_l(path, lexicon, tokens, words, disambig=True),
        )


def write_lang_files(
    directory: PathLike, lexicon: Lexicon, tokens: SymbolTable, probabilities: bool
) -> None:
    """Writes `FILES`: all of a language directory but its tokenizer and provenance.

    Raises:
        TextError: if a word has a token that is not in ``tokens``, or these have one that looks like a
            disambiguation symbol.
    """
    directory = Path(directory)
    lexicon.check_tokens(tokens)
    lexicon.write(directory / LEXICON, probabilities)
    if probabilities:  # their decimals decide from here on
        lexicon = Lexicon.read(directory / LEXICON, probabilities)
    words = lexicon.word_table()
    disambiguated, highest = disambiguated_lines(lexicon, probabilities)
    tokens.write(directory / TOKENS)
    disambig_table(tokens, highest).write(directory / TOKENS_DISAMBIG)
    words.write(directory / WORDS)
    (directory / LEXICON_DISAMBIG).write_text("\n".join(disambiguated) + "\n", encoding="utf-8")
    for name, kind in ((L_FILE, "L"), (L_DISAMBIG_FILE, "L_disambig")):
        fst = lexicon_fst(lexicon, tokens, words, disambig=kind == "L_disambig")
        fst.save(directory / name, {"kind": kind, "num_pronunciations": len(lexicon)})


def disambiguated_lines(lexicon: Lexicon, probabilities: bool) -> tuple[list[str], int]:
    """The lines of ``lexicon_disambig.txt``, and the highest k of the symbols ``#k`` in them."""
    tokens, highest = add_disambig_symbols(lexicon)
    return lexicon.lines(probabilities, tokens), highest


def disambig_table(tokens: SymbolTable, highest: int) -> SymbolTable:
    """The tokens, then ``#0`` to ``#highest``; TextError if there is such a symbol among the tokens."""
    symbols = [f"#{number}" for number in range(highest + 1)]
    for symbol in symbols:
        if symbol in tokens:
            raise TextError(
                f"{tokens.source}: token {tokens[symbol]}, '{symbol}', is a disambiguation symbol"
            )
    return SymbolTable([*tokens, *symbols], tokens.source)


def check_table(path: Path, expected: SymbolTable, source: str) -> None:
    """Raises `TextError` with file and line unless a file has this table as `SymbolTable.write` writes it."""
    check_lines(path, (f"{symbol} {index}" for index, symbol in enumerate(expected)), source)


def check_lines(path: Path, expected: Iterable[str], source: str) -> None:
    """Raises `TextError` with file and line unless a file has these lines, which come from ``source``."""
    for number, (found, wanted) in enumerate(
        itertools.zip_longest(read_lines(path), expected), start=1
    ):
        if found != wanted:
            found, wanted = (
                "the end of the file" if line is None else f"'{line}'" for line in (found, wanted)
            )
            raise TextError(f"{path}:{number}: expected {wanted} by {source}, found {found}")


def check_l(
    fst: Fst, lexicon: Lexicon, tokens: SymbolTable, words: SymbolTable, disambig: bool
) -> None:
    """Raises `GraphError` unless this is the L, or the L_disambig, that `lexicon_fst` makes."""
    expected = lexicon_fst(lexicon, tokens, words, disambig)
    if (fst.num_states, fst.num_arcs) != (expected.num_states, expected.num_arcs):
        raise GraphError(
            f"{fst.num_states} states and {fst.num_arcs} arcs; the lexicon has "
            f"{expected.num_states} and {expected.num_arcs}"
        )
    for name in ("src", "dst", "ilabel", "olabel", "score", "final_score"):
        found, wanted = getattr(fst, name), getattr(expected, name)
        different = np.flatnonzero(found != wanted)
        if len(different):
            place = int(different[0])
            where = f"state {place}" if name == "final_score" else f"arc {place}"
            raise GraphError(f"{where}: {name} {found[place]}; the lexicon has {wanted[place]}")


def _load_l(
    directory: Path, lexicon: Lexicon, tokens: SymbolTable, words: SymbolTable, disambig: bool
) -> Fst:
    name, kind = (L_DISAMBIG_FILE, "L_disambig") if disambig else (L_FILE, "L")
    fst, metadata = Fst.load(directory / name)
    if metadata.get("kind") != kind:
        raise GraphError(f"{directory / name}: expected {kind}, found {metadata.get('kind')!r}")
    try:
        check_l(fst, lexicon, tokens, words, disambig)
    except GraphError as error:
        raise GraphError(f"{directory / name}: {error}") from error
    return fst
