"""The step that makes a language directory, from a tokenizer and a word list or lexicon."""

import shutil
from collections.abc import Callable
from pathlib import Path

from moe_asr.errors import ConfigError, TextError
from moe_asr.files import PathLike, atomic_path
from moe_asr.lang import provenance
from moe_asr.lang.directory import FILES, STEP, TOKENIZER_DIR, write_lang_files
from moe_asr.text.lexicon import Lexicon, describe_unspellable, spell_words
from moe_asr.text.phone import PhoneTokenizer
from moe_asr.text.tokenizer import Tokenizer, load_tokenizer
from moe_asr.text.word_list import read_word_list, write_word_list

UNSPELLABLE = "unspellable.txt"


def prepare_lang(
    output: PathLike,
    tokenizer: PathLike,
    *,
    words: PathLike | None = None,
    lexicon: PathLike | None = None,
    lexicon_probabilities: bool = False,
    skip_unspellable: PathLike | None = None,
    command: str | None = None,
    report: Callable[[str], None] = print,
) -> bool:
    """Makes a language directory, unless it is there and up to date (`provenance.make`).

    Args:
        output: the directory; `LangDir` has what is in it.
        tokenizer: a tokenizer's directory, or a model's.
        words: a word list (`read_word_list`); the tokenizer spells the words, a phone tokenizer by the
            pronunciations of its lexicon.
        lexicon: or a lexicon file, of the tokenizer's tokens.
        lexicon_probabilities: whether the lexicon's lines are ``word probability token ...``.
        skip_unspellable: with ``words``: leave out what the tokenizer cannot spell, and write it to this
            file (it is in the directory too, as ``unspellable.txt``); None: that is an error.
        command, report: see `provenance.make`.

    Returns:
        Whether it was made.

    Raises:
        ConfigError: if the arguments do not fit together, or ``skip_unspellable`` is another file of these.
        TextError: with file and line of what is wrong with the word list or lexicon; if words cannot be
            spelled, how many and the first ten. The old directory stays as it is.
        StaleError: if the tokenizer, word list or lexicon is stale itself.
    """
    if (words is None) == (lexicon is None):
        found = "both" if words is not None else "neither"
        raise ConfigError(f"a language directory needs a word list or a lexicon, found {found}")
    if words is not None and lexicon_probabilities:
        raise ConfigError("probabilities were asked for: a word list has none, a lexicon may")
    if lexicon is not None and skip_unspellable is not None:
        raise ConfigError("only words of a word list can be skipped: a lexicon has its spellings")
    output, tokenizer = Path(output), Path(tokenizer)
    if tokenizer.resolve().is_relative_to(output.resolve()):
        raise ConfigError(f"{tokenizer}: lies in the directory that is to be made from it")
    units = load_tokenizer(tokenizer)
    probabilities = lexicon_probabilities or (
        words is not None and isinstance(units, PhoneTokenizer) and units.lexicon.has_probabilities
    )
    files = [f"{TOKENIZER_DIR}/{name}" for name in units.files]
    inputs = {f"{TOKENIZER_DIR}/{name}": tokenizer / name for name in units.files}
    inputs["words" if words is not None else "lexicon"] = Path(words or lexicon or "")
    outputs = [*files, *FILES]
    if skip_unspellable is not None:
        _check_place(
            Path(skip_unspellable), [*inputs.values(), *(output / name for name in outputs)]
        )
        outputs.append(UNSPELLABLE)

    def build(folder: Path) -> None:
        (folder / TOKENIZER_DIR).mkdir()
        for name in units.files:
            shutil.copyfile(tokenizer / name, folder / TOKENIZER_DIR / name)
        if lexicon is not None:
            entries = Lexicon.read(lexicon, lexicon_probabilities, units.tokens)
        else:
            assert words is not None
            entries, skipped = _spell(words, units, skip_unspellable is not None)
            if skip_unspellable is not None:
                write_word_list(skipped, folder / UNSPELLABLE)
        write_lang_files(folder, entries, units.tokens, probabilities)

    made = provenance.make(
        output,
        STEP,
        inputs=inputs,
        outputs=outputs,
        settings={
            "probabilities": probabilities,
            "skip_unspellable": skip_unspellable is not None,
        },
        build=build,
        command=command,
        report=report,
    )
    if (
        skip_unspellable is not None
        and Path(skip_unspellable).resolve() != (output / UNSPELLABLE).resolve()
    ):
        with atomic_path(skip_unspellable) as temporary:
            shutil.copyfile(output / UNSPELLABLE, temporary)
    return made


def _check_place(path: Path, others: list[Path]) -> None:
    """Raises `ConfigError` if the list of skipped words would be written over another file."""
    if path.resolve() in {other.resolve() for other in others}:
        raise ConfigError(f"{path}: the skipped words cannot be written over this file")


def _spell(path: PathLike, tokenizer: Tokenizer, skip: bool) -> tuple[Lexicon, list[str]]:
    """The lexicon of a word list, and the words left out of it."""
    entries, unspellable = spell_words(read_word_list(path), tokenizer)
    if unspellable and not skip:
        raise TextError(f"{path}: {describe_unspellable(unspellable)}")
    if not entries:
        raise TextError(f"{path}: not one word can be spelled by the tokenizer")
    return Lexicon(entries), unspellable
