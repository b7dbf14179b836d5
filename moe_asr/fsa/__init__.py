"""Lexicons, decoding graphs and the search over them."""
