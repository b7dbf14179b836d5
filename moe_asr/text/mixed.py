"""A tokenizer for text in which Chinese or Japanese stands beside other languages."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from moe_asr.errors import TextError
from moe_asr.text.bpe import train_bpe_model
from moe_asr.text.cjk import has_cjk, space_cjk, text_words
from moe_asr.text.symbol_table import SymbolTable
from moe_asr.text.tokenizer import (
    TOKENS_FILE,
    UNK_ID,
    BpeTokenizer,
    Tokenizer,
    register_tokenizer,
)


@register_tokenizer("mixed")
class MixedTokenizer(Tokenizer):
    """One token a CJK character, byte-pair encoding for everything else (see `moe_asr.text.cjk`).

    The tokens are the pieces of the encoding, then the characters. Texts are spaced by `space_cjk`
    first, so a word is spelt alike whether or not its writer put a space beside a Chinese character;
    `decode` gives text that is spaced so.

    Args:
        bpe: none of its pieces may have a CJK character.
        characters: CJK characters.
        source: where they come from, for messages.

    Raises:
        TextError: if a piece has, or something among ``characters`` is not, a CJK character, or one is
            there twice.
    """

    files = BpeTokenizer.files

    def __init__(
        self, bpe: BpeTokenizer, characters: Iterable[str], source: str = "mixed tokens"
    ) -> None:
        characters = list(characters)
        for piece in bpe.tokens:
            if has_cjk(piece):
                raise TextError(f"{bpe.tokens.source}: piece {piece!r} has a CJK character")
        for index, character in enumerate(characters, start=bpe.vocab_size):
            if len(character) != 1 or not has_cjk(character):
                raise TextError(
                    f"{source}: token {index} is {character!r}; expected a CJK character"
                )
        super().__init__(SymbolTable([*bpe.tokens, *characters], source))
        self._bpe = bpe

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, source: str | None = None
    ) -> "MixedTokenizer":
        """The tokenizer of all CJK characters of ``texts``, the encoding trained on the rest.

        Args:
            texts: transcripts; empty ones are passed over.
            vocab_size: number of tokens, characters and special ones included.
            source: the file whose lines they are, for messages.

        Raises:
            TextError: if the texts have no CJK characters or nothing else, or support fewer tokens or
                need more; see also `moe_asr.text.bpe.train_bpe`.
        """
        characters: set[str] = set()
        rest = []
        for text in texts:
            words = text_words(text)
            characters.update(word for word in words if has_cjk(word))
            rest.append(" ".join(word for word in words if not has_cjk(word)))
        if not characters:
            raise TextError("no Chinese or Japanese in the text: train a byte-pair encoding (bpe)")
        if not any(rest):
            raise TextError("nothing but Chinese or Japanese in the text: use characters (char)")
        bpe = BpeTokenizer(
            train_bpe_model(rest, vocab_size, source=source, num_other=len(characters)),
            "trained BPE",
        )
        return cls(bpe, sorted(characters), "trained mixed tokens")

    def encode(self, text: str, strict: bool = False) -> list[int]:
        ids: list[int] = []
        others: list[str] = []  # words up to the next CJK character
        for word in text_words(text):
            if not has_cjk(word):
                others.append(word)
                continue
            ids.extend(self._bpe.encode(" ".join(others), strict))
            others.clear()
            index = self.tokens.get(word)
            if index is None and strict:
                raise TextError(f"character '{word}' is not in {self.tokens.source}: {text!r}")
            ids.append(UNK_ID if index is None else index)
        ids.extend(self._bpe.encode(" ".join(others), strict))
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """See `Tokenizer.decode`; spaced by `space_cjk`."""
        return space_cjk(super().decode(ids))

    def _save_files(self, directory: Path) -> dict[str, Any]:
        return self._bpe._save_files(directory)

    @classmethod
    def from_dir(cls, directory: Path, settings: Mapping[str, Any]) -> "MixedTokenizer":
        bpe = BpeTokenizer.model_from_dir(directory, settings)
        tokens = SymbolTable.read(directory / TOKENS_FILE)
        pieces, characters = list(tokens)[: bpe.vocab_size], list(tokens)[bpe.vocab_size :]
        if pieces != list(bpe.tokens):
            raise TextError(
                f"{tokens.source}: does not begin with the pieces of {bpe.tokens.source}"
            )
        return cls(bpe, characters, tokens.source)
