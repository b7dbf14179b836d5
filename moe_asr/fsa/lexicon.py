"""Moved to `moe_asr.text.lexicon`."""

from moe_asr.text.lexicon import (  # noqa: F401
    BACKOFF,
    EPSILON,
    Lexicon,
    Pronunciation,
    add_disambig_symbols,
    lexicon_from_tokenizer,
)
