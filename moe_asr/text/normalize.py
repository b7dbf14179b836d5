"""The one normalisation that every tokenizer applies to its text."""

import unicodedata

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # ▁, stands for a space inside tokens, as in sentencepiece


def normalize_text(text: str) -> str:
    """NFC, with whitespace of any kind (and ``▁``) as single spaces, none at the ends.

    Byte order marks are dropped. Case and punctuation stay: changing them is the recipe's choice.
    """
    text = unicodedata.normalize("NFC", text.replace("\ufeff", ""))
    return " ".join(text.replace(SPACE, " ").split())
