"""Steps on text: a word list of it, and its lines as words with spaces between them."""

from collections.abc import Callable
from pathlib import Path

from moe_asr.errors import TextError
from moe_asr.files import PathLike
from moe_asr.lang import provenance
from moe_asr.text.cjk import WordSplitter, text_words
from moe_asr.text.lines import read_lines
from moe_asr.text.word_list import read_word_list, words_from_text, write_word_list


def make_word_list(
    output: PathLike,
    text: PathLike,
    min_count: int = 1,
    max_words: int | None = None,
    command: str | None = None,
    report: Callable[[str], None] = print,
) -> bool:
    """Writes the word list of a text (`words_from_text`), unless it is there and up to date.

    The record is in the ``provenance.json`` beside it. See `provenance.make` for ``command``, ``report``
    and what is returned, `words_from_text` for the errors.
    """
    output = Path(output)
    return provenance.make(
        output.parent,
        output.name,
        inputs={"text": text},
        outputs=[output.name],
        settings={"min_count": min_count, "max_words": max_words},
        build=lambda folder: write_word_list(
            words_from_text(text, min_count, max_words), folder / output.name
        ),
        command=command,
        report=report,
    )


def split_text(
    output: PathLike,
    text: PathLike,
    words: PathLike | None = None,
    command: str | None = None,
    report: Callable[[str], None] = print,
) -> bool:
    """Writes a text as language models read it, unless that is there and up to date.

    Every line is normalised and split into words with one space between them: CJK characters are words of
    their own unless a word list joins them (`WordSplitter`). Other languages come out as they were. The
    record is in the ``provenance.json`` beside the file.

    Args:
        output: the file.
        text: one sentence a line; lines without words are left out.
        words: a word list (`read_word_list`).
        command, report: see `provenance.make`.

    Raises:
        TextError: as `read_word_list`; with file and line on text that is not UTF-8; if there are no words.
    """
    output = Path(output)

    def build(folder: Path) -> None:
        split = text_words if words is None else WordSplitter(read_word_list(words))
        num_words = 0
        with open(folder / output.name, "w", encoding="utf-8") as stream:
            for line in read_lines(text):
                found = split(line)
                if found:
                    num_words += len(found)
                    stream.write(" ".join(found) + "\n")
        if not num_words:
            raise TextError(f"{text}: no words in it")

    return provenance.make(
        output.parent,
        output.name,
        inputs={"text": text} if words is None else {"text": text, "words": words},
        outputs=[output.name],
        settings={},
        build=build,
        command=command,
        report=report,
    )
