"""Symbols and their ids, in the ``symbol id`` files that Kaldi, OpenFst and k2 share."""

import re
from collections.abc import Iterable, Iterator

from moe_asr.errors import TextError
from moe_asr.files import PathLike, write_text
from moe_asr.text.lines import read_lines

_LINE = re.compile(r"(\S+)[ \t]+([0-9]{1,18})[ \t]*")


class SymbolTable:
    """An immutable list of distinct symbols; a symbol's id is its position.

    Args:
        symbols: not empty, without whitespace in them.
        source: where they come from (a file name), for messages.

    Raises:
        TextError: on a duplicate, or a symbol that the file format cannot hold.
    """

    def __init__(self, symbols: Iterable[str], source: str = "symbol table") -> None:
        self.source = source
        self._symbols = list(symbols)
        self._ids: dict[str, int] = {}
        for index, symbol in enumerate(self._symbols):
            problem = _problem(symbol)
            if problem:
                raise TextError(f"{source}: symbol {index}, {symbol!r}: {problem}")
            if symbol in self._ids:
                raise TextError(
                    f"{source}: symbol {index}, {symbol!r}: duplicate of {self._ids[symbol]}"
                )
            self._ids[symbol] = index

    @classmethod
    def read(cls, path: PathLike) -> "SymbolTable":
        """Reads one ``symbol id`` pair a line, in any order, ids 0 to n-1 each exactly once.

        Raises:
            TextError: with file and line, on a malformed line, a duplicate symbol or id, or a
                missing id, or text that is not UTF-8; naming the file if it is empty or unreadable.
        """
        symbols: dict[int, str] = {}
        lines: dict[str, int] = {}
        for number, line in enumerate(read_lines(path), start=1):
            where = f"{path}:{number}"
            match = _LINE.fullmatch(line)
            if match is None:
                raise TextError(f"{where}: expected 'symbol id', found {line!r}")
            symbol, index = match[1], int(match[2])
            problem = _problem(symbol)
            if problem:
                raise TextError(f"{where}: symbol {symbol!r}: {problem}")
            if symbol in lines:
                raise TextError(
                    f"{where}: duplicate symbol {symbol!r}, also in line {lines[symbol]}"
                )
            if index in symbols:
                other = symbols[index]
                raise TextError(
                    f"{where}: duplicate id {index}, {other!r} has it in line {lines[other]}"
                )
            symbols[index] = symbol
            lines[symbol] = number
        if not symbols:
            raise TextError(f"{path}: empty; expected one 'symbol id' pair a line")
        missing = next((index for index in range(len(symbols)) if index not in symbols), None)
        if missing is not None:
            largest = max(symbols)
            raise TextError(
                f"{path}:{lines[symbols[largest]]}: id {largest} among {len(symbols)} symbols, "
                f"and no id {missing}; expected every id from 0 to {len(symbols) - 1}"
            )
        return cls((symbols[index] for index in range(len(symbols))), str(path))

    def write(self, path: PathLike) -> None:
        """Writes the file that `read` reads, atomically, sorted by id."""
        write_text(path, "".join(f"{symbol} {i}\n" for i, symbol in enumerate(self._symbols)))

    def __getitem__(self, symbol: str) -> int:
        """The id of ``symbol``; TextError if it is not there (see ``in`` and `get`)."""
        try:
            return self._ids[symbol]
        except KeyError:
            raise TextError(f"{self.source}: no symbol {symbol!r}") from None

    def get(self, symbol: str, default: int | None = None) -> int | None:
        """The id of ``symbol``, or ``default``."""
        return self._ids.get(symbol, default)

    def symbol(self, index: int) -> str:
        """The symbol with id ``index``; TextError if there is none."""
        if not 0 <= index < len(self._symbols):
            raise TextError(f"{self.source}: no id {index}; expected 0 to {len(self._symbols) - 1}")
        return self._symbols[index]

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._ids

    def __len__(self) -> int:
        return len(self._symbols)

    def __iter__(self) -> Iterator[str]:
        """The symbols in the order of their ids."""
        return iter(self._symbols)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SymbolTable) and self._symbols == other._symbols

    def __hash__(self) -> int:
        return hash(tuple(self._symbols))

    def __repr__(self) -> str:
        return f"SymbolTable({len(self)} symbols, {self.source})"


def _problem(symbol: str) -> str | None:
    """What keeps ``symbol`` out of a text file of symbols, if anything does."""
    if not symbol:
        return "empty"
    if any(char.isspace() for char in symbol):
        return "whitespace inside"
    if "\ufeff" in symbol:
        return "a byte order mark inside"
    if any("\ud800" <= char <= "\udfff" for char in symbol):
        return "half a surrogate pair inside"
    return None
