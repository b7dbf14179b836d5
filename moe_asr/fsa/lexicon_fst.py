"""L: the lexicon as a transducer from tokens to words."""

from itertools import chain

import numpy as np

from moe_asr.errors import TextError
from moe_asr.fsa.fst import Fst
from moe_asr.text.lexicon import BACKOFF, Lexicon, add_disambig_symbols
from moe_asr.text.symbol_table import SymbolTable


def lexicon_fst(
    lexicon: Lexicon, tokens: SymbolTable, words: SymbolTable, disambig: bool = True
) -> Fst:
    """L, or L_disambig: any number of words in a row, nothing (no silence) between them.

    State 0 is where words begin and end; every pronunciation is a loop of its own from there, with its word
    and its log-probability on the first arc.

    Args:
        lexicon: its pronunciations.
        tokens: the model's outputs, blank as 0; ``#i`` gets the label ``len(tokens) + i``.
        words: the lexicon's words, epsilon as 0, and ``#0``.
        disambig: with the symbols of `add_disambig_symbols`, and a loop that passes ``#0`` on.

    Raises:
        TextError: naming the word, if one of its tokens is not in ``tokens`` (or is blank), or it is not in
            ``words``.
    """
    lexicon.check_tokens(tokens)
    entries = lexicon.pronunciations
    unknown = next((entry.word for entry in entries if entry.word not in words), None)
    if unknown is not None:
        raise TextError(f"word '{unknown}' of the lexicon is not in {words.source}")
    spelled, highest = [entry.tokens for entry in entries], 0
    if disambig:
        spelled, highest = add_disambig_symbols(lexicon)
    label_of = {token: index for index, token in enumerate(tokens)}
    label_of.update({f"#{number}": len(tokens) + number for number in range(1, highest + 1)})

    length = np.fromiter(map(len, spelled), np.int64, len(spelled))
    first = np.cumsum(length) - length  # the arc that each pronunciation begins with
    num_arcs = int(length.sum())
    ilabel = np.fromiter((label_of[s] for s in chain.from_iterable(spelled)), np.int32, num_arcs)
    if not ilabel.all():
        entry = entries[int(np.searchsorted(first, np.flatnonzero(ilabel == 0)[0], "right")) - 1]
        raise TextError(f"word '{entry.word}': token 0, '{tokens.symbol(0)}', is blank")
    olabel = np.zeros(num_arcs, np.int32)
    olabel[first] = [words[entry.word] for entry in entries]
    score = np.zeros(num_arcs, np.float32)
    score[first] = [entry.log_prob for entry in entries]
    # the arcs after the first of a pronunciation leave states of their own, numbered in order
    inner = np.ones(num_arcs, bool)
    inner[first] = False
    state = np.cumsum(inner)
    src = np.where(inner, state, 0)
    dst = np.zeros(num_arcs, np.int64)
    dst[:-1] = src[1:]
    if disambig:
        src, dst = np.append(src, 0), np.append(dst, 0)
        ilabel, olabel = np.append(ilabel, len(tokens)), np.append(olabel, words[BACKOFF])
        score = np.append(score, 0.0)
    final_score = np.full(int(state[-1]) + 1, -np.inf)
    final_score[0] = 0.0
    return Fst.from_arcs(src, dst, ilabel, olabel, score, final_score)
