"""A tokenizer of phones: words are looked up in a lexicon."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from moe_asr.errors import TextError
from moe_asr.text.cjk import WordSplitter
from moe_asr.text.lexicon import Lexicon
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import (
    BLANK_ID,
    SETTINGS_FILE,
    SOS_EOS_ID,
    SPECIAL_TOKENS,
    TOKENS_FILE,
    UNK,
    UNK_ID,
    Tokenizer,
    check_keys,
    read_hashed,
    register_tokenizer,
)

LEXICON_FILE = "lexicon.txt"


@register_tokenizer("phone")
class PhoneTokenizer(Tokenizer):
    """The phones of each word, by a lexicon that may have several pronunciations of a word.

    Texts are split at spaces; CJK characters, which have none, into the words of the lexicon
    (`WordSplitter`). A word that is not in the lexicon becomes what the lexicon has for the word
    ``<unk>`` (a noise or garbage phone, as Kaldi has it), or else the token ``<unk>``.

    Args:
        tokens: the special ones, then phones.
        lexicon: words as normalised texts have them, made of these phones.

    Raises:
        TextError: if the lexicon has a phone that is none of the tokens.
    """

    files = (*Tokenizer.files, LEXICON_FILE)
    spells_words = False

    def __init__(self, tokens: SymbolTable, lexicon: Lexicon) -> None:
        super().__init__(tokens)
        lexicon.check_tokens(tokens)
        self.lexicon = lexicon
        self._splitter = WordSplitter(lexicon.words)
        self._best: dict[str, tuple[int, ...]] = {}
        highest: dict[str, float] = {}
        for entry in lexicon.pronunciations:
            if entry.word not in highest or entry.log_prob > highest[entry.word]:
                highest[entry.word] = entry.log_prob
                self._best[entry.word] = tuple(tokens[token] for token in entry.tokens)
        self._unknown = self._best.get(UNK, (UNK_ID,))

    @classmethod
    def from_lexicon(cls, lexicon: Lexicon) -> "PhoneTokenizer":
        """The tokenizer of all phones of a lexicon, sorted by code point."""
        phones = {token for entry in lexicon.pronunciations for token in entry.tokens}
        table = SymbolTable([*SPECIAL_TOKENS, *sorted(phones - {UNK})], "phones of the lexicon")
        return cls(table, lexicon)

    def encode(self, text: str, strict: bool = False) -> list[int]:
        """See `Tokenizer.encode`; a word's most probable pronunciation, the first among equals."""
        ids: list[int] = []
        for word in self._splitter(text):
            phones = self._best.get(word)
            if phones is None:
                if strict:
                    raise TextError(f"word '{word}' is not in the lexicon: {text!r}")
                phones = self._unknown
            ids.extend(phones)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The phones of token ids with spaces between them: phones do not tell which words were said."""
        return " ".join(self.tokens.symbol(i) for i in ids if i not in (BLANK_ID, SOS_EOS_ID))

    def spellings(self, word: str) -> list[tuple[tuple[int, ...], float]]:
        """See `Tokenizer.spellings`: all pronunciations of the lexicon."""
        if word not in self.lexicon:
            return []
        return [
            (tuple(self.tokens[token] for token in entry.tokens), entry.log_prob)
            for entry in self.lexicon[word]
        ]

    def _save_files(self, directory: Path) -> dict[str, Any]:
        path = directory / LEXICON_FILE
        probabilities = self.lexicon.has_probabilities
        self.lexicon.write(path, probabilities)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return {"lexicon_sha256": digest, "probabilities": probabilities}

    @classmethod
    def from_dir(cls, directory: Path, settings: Mapping[str, Any]) -> "PhoneTokenizer":
        source = directory / SETTINGS_FILE
        check_keys(settings, {"lexicon_sha256", "probabilities"}, source)
        if not isinstance(settings["probabilities"], bool):
            raise TextError(
                f"{source}: probabilities is {settings['probabilities']!r}; expected true or false"
            )
        path = directory / LEXICON_FILE
        read_hashed(path, settings["lexicon_sha256"])
        tokens = SymbolTable.read(directory / TOKENS_FILE)
        return cls(tokens, Lexicon.read(path, settings["probabilities"], tokens))
