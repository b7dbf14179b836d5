"""Word lists: the vocabulary of a language directory and of its language model, one word a line."""

from collections import Counter
from collections.abc import Iterable

from moe_asr.errors import ConfigError, TextError
from moe_asr.files import PathLike, write_text
from moe_asr.text.cjk import WordSplitter, text_words
from moe_asr.text.lexicon import check_word
from moe_asr.text.lines import read_lines
from moe_asr.text.tokenizer import UNK


def read_word_list(path: PathLike) -> list[str]:
    """The words of a file with one word a line and nothing else, in their order.

    Raises:
        TextError: with file and line, on an empty line, more than a word (a count, say), a second line
            with the same word, a reserved symbol (``<s>``, ``#0``, ...), a word that is not normalised, or
            text that is not UTF-8; naming the file if there is no word in it.
    """
    line_of: dict[str, int] = {}
    for number, word in enumerate(read_lines(path), start=1):
        where = f"{path}:{number}"
        if len(word.split()) != 1:
            found = "more than one" if word.split() else "an empty line"
            raise TextError(f"{where}: expected a word, found {found}: {word!r}")
        try:
            check_word(word)
        except TextError as error:
            raise TextError(f"{where}: {error}") from error
        if line_of.setdefault(word, number) != number:
            raise TextError(f"{where}: duplicate word '{word}', also in line {line_of[word]}")
    if not line_of:
        raise TextError(f"{path}: empty; expected one word a line")
    return list(line_of)


def write_word_list(words: Iterable[str], path: PathLike) -> None:
    """Writes the file that `read_word_list` reads, atomically."""
    write_text(path, "".join(f"{word}\n" for word in words))


def words_from_text(
    path: PathLike,
    min_count: int = 1,
    max_words: int | None = None,
    splitter: WordSplitter | None = None,
) -> list[str]:
    """The words of a text, sorted by code point; texts are normalised, one a line.

    Args:
        path: of the text. ``<unk>`` in it is passed over: its place is in a lexicon, with a spelling.
        min_count: rarer words are left out.
        max_words: only so many of the most frequent words, the first by code point among equals.
        splitter: splits lines into words; None: `text_words`.

    Raises:
        TextError: with file and line, if a line is not UTF-8 or has a reserved symbol; naming the file if
            no word is left.
        ConfigError: if ``min_count`` or ``max_words`` is less than 1.
    """
    for name, value in (("min_count", min_count), ("max_words", max_words)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, found {value}")
    split = text_words if splitter is None else splitter
    counts: Counter[str] = Counter()
    for number, line in enumerate(read_lines(path), start=1):
        words = split(line)
        for word in words:
            if word not in counts and word != UNK:
                try:
                    check_word(word)
                except TextError as error:
                    raise TextError(f"{path}:{number}: {error}") from error
        counts.update(words)
    counts.pop(UNK, None)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    kept = [word for word, count in ranked[:max_words] if count >= min_count]
    if not kept:
        found = f", found {len(counts)} rarer ones" if counts else ""
        raise TextError(f"{path}: no word that occurs {min_count} time(s) or more{found}")
    return sorted(kept)
