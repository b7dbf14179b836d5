"""Text: normalisation, symbol tables and tokenizers."""
