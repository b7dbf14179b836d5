"""ARPA files: those of SRILM, KenLM and others are read, malformed ones are refused with the line."""

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from moe_asr.errors import TextError
from moe_asr.files import PathLike, atomic_path
from moe_asr.lm.corpus import unpacked
from moe_asr.lm.model import LOG_10, LOG_ZERO, NgramModel, find_nodes, model_of_levels
from moe_asr.text.symbol_table import SymbolTable

_BLOCK_LINES, _BLOCK_BYTES = 50_000, 1 << 22
_ROUNDING = 1e-6  # how far above 0 a written log10 of a probability of 1 may be
_LARGEST = 99.0  # log10 that a backoff weight can have: larger ones are damage, and overflow
_COUNT = re.compile(rb"ngram\s+(\d{1,9})\s*=\s*(\d{1,18})")
_SECTION = re.compile(rb"\\(\d{1,9})-grams:")


def read_arpa(path: PathLike) -> NgramModel:
    """Reads an ARPA file, plain or packed by gzip (told by its content, not its name).

    Accepted: any text before ``\\data\\``, spaces or tabs between fields, backoff weights left out (they are
    0), ``-99`` or less and ``-inf`` for log 0, an order above the others without n-grams, n-grams in any
    order, whose suffixes need not be there. Word ids are the order of the unigrams in the file.

    Raises:
        TextError: with file and line, if it is anything else: counts that do not agree with ``\\data\\``,
            sections out of sequence or missing, a line that does not have the words of its order, a log
            probability that is no number or positive, a backoff weight that is no number or above 99 (its
            log10), an n-gram twice, a word that is no unigram, an n-gram without its history, text after
            ``\\end\\``; naming the file, if it cannot be read.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            return _Reader(_Lines(unpacked(file), path)).read()
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TextError(f"{path}: cannot be read: {reason}") from error


class _Lines:
    """The lines of a file, one by one or as blocks of entries, with their numbers."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream = stream
        self._block = b""  # whole lines, of which those before the position are taken
        self._position = 0
        self.path = path
        self.number = 0  # of the line last taken

    def _at_end(self) -> bool:
        if self._position == len(self._block):
            self._block = self._stream.read(_BLOCK_BYTES) + self._stream.readline()
            self._position = 0
        return not self._block

    def take(self) -> bytes | None:
        """The next line that is not blank, without the space around it; None at the end."""
        while not self._at_end():
            end = self._block.find(b"\n", self._position) + 1 or len(self._block)
            line = self._block[self._position : end].strip()
            self._position = end
            self.number += 1
            if line:
                return line
        return None

    def take_entries(self) -> bytes:
        """Some of the lines before the next one that starts with a backslash; b"" if there are none."""
        if self._at_end() or self._block.startswith(b"\\", self._position):
            return b""
        end = self._block.find(b"\n\\", self._position) + 1 or len(self._block)
        entries = self._block[self._position : end]
        self._position = end
        self.number += entries.count(b"\n") + (not entries.endswith(b"\n"))
        return entries

    def error(self, message: str, number: int | None = None) -> TextError:
        return TextError(f"{self.path}:{self.number if number is None else number}: {message}")


class _Ids(dict[bytes, int]):
    """Words that are not there are -1."""

    def __missing__(self, word: bytes) -> int:
        return -1


class _Reader:
    """Builds the trie order by order; positions are nodes of `NgramModel`."""

    def __init__(self, lines: _Lines) -> None:
        self.lines = lines
        self.ids = _Ids()
        self.symbols: list[str] = []
        self.keys = np.array([-1], np.int64)
        self.splits = [0, 1]
        self.levels: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []

    def read(self) -> NgramModel:
        counts, line = self._header()
        for order, count in enumerate(counts, start=1):
            match = _SECTION.fullmatch(line or b"")
            if match is None or int(match[1]) != order:
                raise self.lines.error(f"expected \\{order}-grams:, found {_shown(line)}")
            line = self._section(order, count, len(counts))
        if line != b"\\end\\":
            raise self.lines.error(f"expected \\end\\, found {_shown(line)}")
        line = self.lines.take()
        if line is not None:
            raise self.lines.error(f"expected nothing after \\end\\, found {_shown(line)}")
        words = SymbolTable(self.symbols, str(self.lines.path))
        parents, level_words, log_probs, backoffs = map(list, zip(*self.levels, strict=True))
        return model_of_levels(words, parents, level_words, log_probs, backoffs)

    def _header(self) -> tuple[list[int], bytes | None]:
        """The counts, and the line after them."""
        line = self.lines.take()
        while line is not None and line != b"\\data\\":
            line = self.lines.take()
        if line is None:
            raise self.lines.error("no line \\data\\: this is no ARPA file")
        counts: list[int] = []
        while match := _COUNT.fullmatch((line := self.lines.take()) or b""):
            if int(match[1]) != len(counts) + 1:
                raise self.lines.error(
                    f"expected ngram {len(counts) + 1}=COUNT, found {_shown(line)}"
                )
            counts.append(int(match[2]))
        if not counts:
            raise self.lines.error(f"expected ngram 1=COUNT, found {_shown(line)}")
        return counts, line

    def _section(self, order: int, count: int, highest: int) -> bytes | None:
        """Reads the n-grams of one order; returns the line after them."""
        block, blocks = b"", list[tuple[np.ndarray, ...]]()
        while block or not blocks:
            first = self.lines.number + 1
            block = self.lines.take_entries()
            blocks.append(self._entries(block, first, order))
        line = self.lines.take()
        words, log_prob, backoff, numbers = map(np.concatenate, zip(*blocks, strict=True))
        if len(log_prob) != count:
            raise self.lines.error(
                f"\\{order}-grams: has {len(log_prob)} n-grams, \\data\\ says {count}; "
                f"this line, {_shown(line)}, comes after them"
            )
        if order == 1 and not count:
            raise self.lines.error("no unigrams")
        num_words = len(self.symbols)
        history = np.zeros(count, np.int64)
        for position in range(order - 1):
            history = find_nodes(self.keys, num_words, history, words[:, position])
        self._refuse(history < 0, numbers, words, "its history is not among the shorter n-grams")
        key = history * num_words + words[:, -1]
        ranks = np.argsort(key, kind="stable")
        key = key[ranks]
        again = np.zeros(count, bool)
        again[ranks[1:]] = key[1:] == key[:-1]
        self._refuse(again, numbers, words, "it is there already")
        history, word = np.divmod(key, num_words)
        backoff = np.zeros(count) if order == highest else backoff[ranks]
        self.levels.append((history - self.splits[-2], word, log_prob[ranks], backoff))
        self.keys = np.concatenate([self.keys, key])
        self.splits.append(len(self.keys))
        return line

    def _entries(self, block: bytes, first: int, order: int) -> tuple[np.ndarray, ...]:
        """(K, order) words, (K,) log probabilities, backoff weights and line numbers of lines."""
        widths = _count_fields(block)
        wrong = np.flatnonzero((widths != order + 1) & (widths != order + 2) & (widths > 0))
        if len(wrong):
            line = block.split(b"\n")[wrong[0]]
            raise self.lines.error(
                f"expected a log probability, {order} word(s) and perhaps a backoff weight, "
                f"found {widths[wrong[0]]} fields: {_shown(line)}",
                first + int(wrong[0]),
            )
        numbers = np.flatnonzero(widths) + first
        widths = widths[widths > 0]
        starts = np.cumsum(widths) - widths
        fields = np.array(block.split(), object)
        log_prob = self._numbers(fields[starts], numbers, "a log probability")
        positive = np.flatnonzero(log_prob > _ROUNDING * LOG_10)
        if len(positive):
            found = _shown(fields[starts[positive[0]]])
            raise self.lines.error(
                f"log probability {found} is positive", int(numbers[positive[0]])
            )
        backoff = np.zeros(len(widths))
        has_backoff = widths == order + 2
        backoff[has_backoff] = self._numbers(
            fields[starts[has_backoff] + order + 1],
            numbers[has_backoff],
            f"a backoff weight after {order} word(s)",
        )
        if order == 1:
            self._add_words(fields[starts + 1].tolist(), numbers)
        symbols = fields[starts[:, None] + np.arange(1, order + 1)].ravel().tolist()
        words = np.fromiter(map(self.ids.__getitem__, symbols), np.int64, len(symbols))
        unknown = np.flatnonzero(words < 0)
        if len(unknown):
            word, row = _shown(symbols[unknown[0]]), unknown[0] // order
            raise self.lines.error(f"word {word} is not among the unigrams", int(numbers[row]))
        return words.reshape(-1, order), np.minimum(log_prob, 0.0), backoff, numbers

    def _add_words(self, words: list[bytes], numbers: np.ndarray) -> None:
        size = len(self.ids)
        self.ids.update(zip(words, range(size, size + len(words)), strict=True))
        try:
            symbols = list(SymbolTable(word.decode("utf-8") for word in words)) if words else []
            is_good = len(self.ids) == len(self.symbols) + len(symbols)
        except (UnicodeDecodeError, TextError):
            is_good = False
        if not is_good:
            self._refuse_words(words, numbers)
        self.symbols += symbols

    def _refuse_words(self, words: list[bytes], numbers: np.ndarray) -> None:
        """Finds the first word of these that is there already, or cannot be one."""
        seen = {word.encode() for word in self.symbols}
        for word, number in zip(words, numbers.tolist(), strict=True):
            if word in seen:
                raise self.lines.error(f"n-gram {_shown(word)}: it is there already", number)
            seen.add(word)
            try:
                SymbolTable([word.decode("utf-8")])
            except UnicodeDecodeError as error:
                raise self.lines.error(
                    f"word {word!r} is not UTF-8: {error.reason}", number
                ) from error
            except TextError as error:
                raise self.lines.error(
                    f"word {_shown(word)} cannot be one: {error}", number
                ) from error

    def _numbers(self, fields: np.ndarray, numbers: np.ndarray, what: str) -> np.ndarray:
        """Natural logs of log10 values."""
        try:
            values = np.fromiter(map(_float, fields.tolist()), np.float64, len(fields))
        except ValueError:
            values = np.array([_float_or_nan(field) for field in fields])
        wrong = np.flatnonzero(np.isnan(values) | (values > _LARGEST))
        if len(wrong):
            found = _shown(fields[wrong[0]])
            raise self.lines.error(f"expected {what}, found {found}", int(numbers[wrong[0]]))
        return np.maximum(values, LOG_ZERO / LOG_10) * LOG_10

    def _refuse(
        self, wrong: np.ndarray, numbers: np.ndarray, words: np.ndarray, problem: str
    ) -> None:
        rows = np.flatnonzero(wrong)
        if len(rows):
            row = rows[np.argmin(numbers[rows])]
            ngram = " ".join(self.symbols[word] for word in words[row])
            raise self.lines.error(f"n-gram '{ngram}': {problem}", int(numbers[row]))


def _count_fields(block: bytes) -> np.ndarray:
    """The number of fields of every line, as ``bytes.split`` splits it."""
    data = np.frombuffer(block, np.uint8)
    is_space = (data == 32) | ((data >= 9) & (data <= 13))
    is_start = ~is_space
    is_start[1:] &= is_space[:-1]
    line_ends = np.flatnonzero(data == 10)
    num_lines = len(line_ends) + (len(data) > 0 and data[-1] != 10)
    line = np.searchsorted(line_ends, np.flatnonzero(is_start))
    return np.bincount(line, minlength=num_lines)


def _float(field: bytes) -> float:
    if b"_" in field:
        raise ValueError  # Python's own digit groups
    return float(field)


def _float_or_nan(field: bytes) -> float:
    try:
        return _float(field)
    except ValueError:
        return float("nan")


def _shown(text: bytes | None) -> str:
    if text is None:
        return "the end of the file"
    return repr(text.strip()[:80].decode("utf-8", "replace"))


def write_arpa(model: NgramModel, path: PathLike) -> None:
    """Writes an ARPA file, atomically; packed by gzip if its name ends in ``.gz``.

    Values have nine significant digits. Backoff weights are written of n-grams that have n-grams after them
    or a weight other than 0.
    """
    with atomic_path(path) as temporary, _output(temporary) as stream:
        counts = "".join(f"ngram {n}={count}\n" for n, count in enumerate(model.counts, start=1))
        stream.write(f"\\data\\\n{counts}".encode())
        words, has_backoff = list(model.words), model.has_children | (model.backoff != 0.0)
        histories, first = [""], 0  # of the nodes of the order below, each with a space after it
        for order in range(1, model.order + 1):
            nodes = model.order_nodes(order)
            texts: Iterable[str] = map(
                str.__add__,
                map(histories.__getitem__, (model.parent[nodes] - first).tolist()),
                map(words.__getitem__, model.word[nodes].tolist()),
            )
            if order < model.order:
                texts = list(texts)
                histories = [text + " " for text in texts]
            log_probs = map("%.9g".__mod__, (model.log_prob[nodes] / LOG_10).tolist())
            weights = map("\t%.9g".__mod__, (model.backoff[nodes] / LOG_10).tolist())
            is_written = has_backoff[nodes].tolist()
            ends = (
                weight if flag else "" for weight, flag in zip(weights, is_written, strict=True)
            )
            lines = map("%s\t%s%s\n".__mod__, zip(log_probs, texts, ends, strict=True))
            stream.write(f"\n\\{order}-grams:\n".encode())
            while block := "".join(islice(lines, _BLOCK_LINES)):
                stream.write(block.encode("utf-8"))
            first = nodes.start
        stream.write(b"\n\\end\\\n")


@contextmanager
def _output(path: Path) -> Iterator[BinaryIO]:
    with open(path, "wb") as file:
        if path.suffix != ".gz":
            yield file
        else:
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
                yield packed  # type: ignore[misc]
