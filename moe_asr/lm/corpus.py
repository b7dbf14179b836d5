"""Text as one array of word ids: what n-gram counting and scoring work on."""

import gzip
import io
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from moe_asr.errors import TextError
from moe_asr.files import PathLike
from moe_asr.lm.model import BOS, EOS, UNK
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import SPECIAL_TOKENS, Tokenizer

UNK_ID, BOS_ID, EOS_ID = 0, 1, 2
_BLOCK_BYTES = 1 << 22
_NOT_WORDS = (BOS, EOS, "<eps>", "#0")  # they mean something else in models and graphs
_WORD_TABLE_LINE = re.compile(r"\S+[ \t]+[0-9]+[ \t]*")


@dataclass(frozen=True, eq=False)
class Corpus:
    """Sentences in a row, each between ``<s>`` and ``</s>``.

    Attributes:
        words: the vocabulary; ``<unk>``, ``<s>``, ``</s>`` are its words 0, 1, 2.
        ids: (T,) int32 word ids.
        source: where it comes from, for messages.
    """

    words: SymbolTable
    ids: np.ndarray
    source: str = "text"

    @property
    def num_sentences(self) -> int:
        """Sentences; empty lines are none."""
        return int(np.count_nonzero(self.ids == EOS_ID))

    @property
    def num_words(self) -> int:
        """Words, those outside the vocabulary included, ``<s>`` and ``</s>`` not."""
        return len(self.ids) - 2 * self.num_sentences

    @property
    def num_unknown(self) -> int:
        """Words outside the vocabulary, and those that the text itself calls ``<unk>``."""
        return int(np.count_nonzero(self.ids == UNK_ID))

    def limit_vocabulary(self, min_count: int) -> "Corpus":
        """The same text, its words that occur less than ``min_count`` times as ``<unk>``."""
        kept = np.bincount(self.ids, minlength=len(self.words)) >= min_count
        kept[: EOS_ID + 1] = True
        number = np.where(kept, np.cumsum(kept) - 1, UNK_ID).astype(np.int32)
        words = [word for word, keep in zip(self.words, kept.tolist(), strict=True) if keep]
        return Corpus(SymbolTable(words, self.words.source), number[self.ids], self.source)


def read_corpus(
    path: PathLike,
    vocabulary: Iterable[str] | None = None,
    tokenizer: Tokenizer | None = None,
    progress: bool = False,
) -> Corpus:
    """Reads a text file, one sentence a line, words between whitespace; ``.gz`` is unpacked.

    Args:
        path: UTF-8; lines without words are skipped.
        vocabulary: what other words are than these is ``<unk>``; None: every word of the text is in
            it, in the order of appearance.
        tokenizer: the "words" are its tokens, as it encodes each line; all of them (but the blank and
            sos/eos) are the vocabulary.
        progress: show a bar of the bytes read.

    Raises:
        TextError: with file and line: not UTF-8, or ``<s>``, ``</s>``, ``<eps>`` or ``#0`` as a word;
            naming the file: it cannot be read, or has no words.
    """
    assert vocabulary is None or tokenizer is None, "the tokens of a tokenizer are the vocabulary"
    encoder = _TokenEncoder(tokenizer) if tokenizer is not None else _WordEncoder(vocabulary)
    blocks = [
        encoder.encode(text, f"{path}", line) for text, line in _text_blocks(Path(path), progress)
    ]
    return _corpus(encoder, blocks, str(path))


def corpus_of(
    lines: Iterable[str],
    vocabulary: Iterable[str] | None = None,
    source: str = "text",
    keep_empty: bool = False,
) -> Corpus:
    """`read_corpus` of sentences in memory; with ``keep_empty``, those without words too."""
    encoder = _WordEncoder(vocabulary)
    text = "".join(" ".join(line.split()) + "\n" for line in lines)
    return _corpus(encoder, [encoder.encode(text, source, 1)], source, keep_empty)


def read_vocabulary(path: PathLike) -> list[str]:
    """The words of a list: one a line, or a ``words.txt`` of ``word id`` lines.

    ``<eps>``, ``<unk>``, ``<s>``, ``</s>`` and ``#0``, ``#1``, ... are no words and left out.

    Raises:
        TextError: with file and line, on a duplicate or a malformed line; naming the file, if it cannot
            be read or holds no words.
    """
    text = "".join(block for block, _ in _text_blocks(Path(path), False))
    lines = text.split("\n")
    if _WORD_TABLE_LINE.fullmatch(lines[0].rstrip("\r")):
        words = list(SymbolTable.read(path))
    else:
        seen: dict[str, int] = {}
        for number, line in enumerate(lines, start=1):
            fields = line.split()
            if len(fields) > 1:
                raise TextError(f"{path}:{number}: expected one word, found {line.strip()!r}")
            if fields and seen.setdefault(fields[0], number) != number:
                first = seen[fields[0]]
                raise TextError(f"{path}:{number}: '{fields[0]}' is also in line {first}")
        words = list(seen)
    words = [word for word in words if word not in {*_NOT_WORDS, UNK}]
    words = [word for word in words if not re.fullmatch(r"#\d+", word)]
    if not words:
        raise TextError(f"{path}: no words in it")
    return words


class _Ids(dict[str, int]):
    """Words outside the vocabulary are 0."""

    def __missing__(self, word: str) -> int:
        return UNK_ID


class _WordEncoder:
    """Words to ids, block by block; a vocabulary that is open grows."""

    def __init__(self, vocabulary: Iterable[str] | None) -> None:
        given = [UNK, BOS, EOS, *(vocabulary if vocabulary is not None else ())]
        self.ids: dict[str, int]
        if vocabulary is None:
            self.ids = defaultdict(lambda: len(self.ids))
            self.ids.update({word: index for index, word in enumerate(given)})
        else:
            self.ids = _Ids({word: index for index, word in enumerate(given)})
            assert len(self.ids) == len(given), "a word twice, or a reserved one, in the vocabulary"

    @property
    def words(self) -> list[str]:
        return list(self.ids)

    def encode(self, text: str, source: str, first_line: int) -> np.ndarray:
        """Ids of whole lines; every line end is </s>, <s>."""
        if any(symbol in text for symbol in _NOT_WORDS):
            _refuse_reserved(text, source, first_line)
        fields = text.replace("\n", f" {EOS} {BOS} ").split()
        return np.fromiter(map(self.ids.__getitem__, fields), np.int32, len(fields))


class _TokenEncoder:
    """Lines to the tokens of a tokenizer; ids 0, 1, 2 are those of `Corpus`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._encode = tokenizer.encode
        self.words = [UNK, BOS, EOS, *list(tokenizer.tokens)[len(SPECIAL_TOKENS) :]]
        self._id_of_token = np.arange(tokenizer.vocab_size, dtype=np.int32)
        self._id_of_token[: len(SPECIAL_TOKENS)] = UNK_ID

    def encode(self, text: str, source: str, first_line: int) -> np.ndarray:
        lines = text.split("\n")
        assert lines.pop() == "", "whole lines are expected"
        ends, parts = np.array([EOS_ID, BOS_ID], np.int32), []
        for line in lines:
            parts += [self._id_of_token[np.array(self._encode(line), np.intp)], ends]
        return np.concatenate(parts) if parts else ends[:0]


def _corpus(
    encoder: _WordEncoder | _TokenEncoder,
    blocks: list[np.ndarray],
    source: str,
    keep_empty: bool = False,
) -> Corpus:
    start = np.array([BOS_ID], np.int32)
    ids = np.concatenate([start, *blocks])[:-1]  # the last line end opens no sentence
    if not keep_empty:
        after_bos = np.flatnonzero(ids[:-1] == BOS_ID) + 1
        empty = after_bos[ids[after_bos] == EOS_ID]
        kept = np.ones(len(ids), bool)
        kept[empty] = kept[empty - 1] = False
        ids = ids[kept]
    if not keep_empty and not len(ids):
        raise TextError(f"{source}: no words in it")
    return Corpus(SymbolTable(encoder.words, f"words of {source}"), ids, source)


def _refuse_reserved(text: str, source: str, first_line: int) -> None:
    """The symbols were found somewhere in the text: they may be parts of words, which is fine."""
    for number, line in enumerate(text.split("\n"), start=first_line):
        for word in line.split():
            if word in _NOT_WORDS:
                raise TextError(
                    f"{source}:{number}: '{word}' cannot be a word: sentences are lines, "
                    f"and {', '.join(_NOT_WORDS)} mean something else in models and graphs"
                )


def _text_blocks(path: Path, progress: bool) -> Iterator[tuple[str, int]]:
    """Blocks of whole lines, each ended by a line feed, with the number of their first line."""
    from tqdm import tqdm

    disable = None if progress else True  # None: shown on terminals only
    try:
        with open(path, "rb") as file:
            size = path.stat().st_size
            stream = unpacked(file)
            line = 1
            with tqdm(
                total=size, unit="B", unit_scale=True, desc=path.name, disable=disable
            ) as bar:
                while block := stream.read(_BLOCK_BYTES):
                    block += stream.readline()
                    text = _decode(block, path, line)
                    text = text.replace("\ufeff", "")  # as normalize_text does
                    yield text if text.endswith("\n") else text + "\n", line
                    line += block.count(b"\n")
                    bar.update(file.tell() - bar.n)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TextError(f"{path}: cannot be read: {reason}") from error


def unpacked(file: BinaryIO) -> BinaryIO:
    """The stream itself, or what gzip packed into it; told by its first bytes."""
    magic = file.read(2)
    file.seek(0)
    if magic != b"\x1f\x8b":
        return file
    return io.BufferedReader(gzip.GzipFile(fileobj=file))  # type: ignore[return-value, arg-type]


def _decode(block: bytes, path: Path, first_line: int) -> str:
    try:
        return block.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + block.count(b"\n", 0, error.start)
        raise TextError(f"{path}:{line}: not UTF-8 text: {error.reason}") from error
