"""What L and G must be before they are composed: found out first, as some of it would never end."""

from dataclasses import dataclass

import numpy as np

from moe_asr.errors import GraphError
from moe_asr.fsa.epsilon import has_cycle
from moe_asr.fsa.fst import Fst
from moe_asr.text.lexicon import BACKOFF
from moe_asr.text.symbol_table import SymbolTable


@dataclass(frozen=True)
class Pronunciations:
    """The loops of L, one a row.

    Attributes:
        labels: (P, longest) int32 token and disambiguation labels, -1 after the end.
        word: (P,) int32; the loop of ``#0`` is one too.
        score: (P,) float32.
    """

    labels: np.ndarray
    word: np.ndarray
    score: np.ndarray


def pronunciations_of(l_fst: Fst) -> Pronunciations:
    """Reads L, as `lexicon_fst` makes it, back into pronunciations.

    Raises:
        GraphError: if it is anything but loops at state 0, each with one word, on its first arc.
    """
    splits = l_fst.arc_splits
    first = np.arange(splits[1])
    inner_states = np.arange(1, l_fst.num_states)
    is_loop = np.isfinite(l_fst.final_score[0]) and not np.isfinite(l_fst.final_score[1:]).any()
    single = (np.diff(splits)[1:] == 1) & (
        np.bincount(l_fst.dst, minlength=l_fst.num_states)[1:] == 1
    )
    if not is_loop or not single.all() or len(first) == 0:
        found = "" if single.all() else f" (state {int(inner_states[~single][0])} is not)"
        raise GraphError(f"L must be pronunciations that begin and end in state 0{found}")
    if (l_fst.olabel[first] == 0).any() or l_fst.olabel[splits[1] :].any():
        raise GraphError("L must have the word of each pronunciation on its first arc, only there")
    arc, score = first, np.zeros(len(first), np.float32)
    labels = []
    running = np.ones(len(first), bool)
    while running.any():
        labels.append(np.where(running, l_fst.ilabel[arc], -1))
        score += np.where(running, l_fst.score[arc], 0.0)
        running &= l_fst.dst[arc] != 0
        arc = np.where(running, splits[l_fst.dst[arc]], arc)
    return Pronunciations(np.stack(labels, axis=1), l_fst.olabel[first], score)


def check_lexicon(l_disambig: Fst, tokens: SymbolTable, words: SymbolTable) -> None:
    """Raises `GraphError` unless words can be told apart when the last of their labels is read.

    No pronunciation with its disambiguation symbol may be another's, or its beginning; then L composed with
    any deterministic G can be determinised (and else, in general, determinisation would not end).
    """
    if l_disambig.olabel.max(initial=0) >= len(words):
        raise GraphError(
            f"L has word {l_disambig.olabel.max()}, but {words.source} has {len(words)}"
        )
    if (l_disambig.ilabel == 0).any():
        raise GraphError("L has label 0 (blank, or epsilon) on an input")
    spelled = pronunciations_of(l_disambig)
    _check_symbols(spelled, tokens, words)
    order = np.lexsort(spelled.labels.T[::-1])
    labels = spelled.labels[order]
    # a beginning sorts right before what it begins, or before other such ones
    same = (labels[:-1] == labels[1:]) | (labels[:-1] == -1)
    clash = np.flatnonzero(same.all(axis=1))
    if len(clash):
        one, two = order[clash[0]], order[clash[0] + 1]
        shown = " ".join(_symbol(label, tokens) for label in spelled.labels[one] if label != -1)
        raise GraphError(
            f"L cannot tell '{words.symbol(int(spelled.word[one]))}' ({shown}) from "
            f"'{words.symbol(int(spelled.word[two]))}', which is spelled so or begins so: "
            "it needs disambiguation symbols (L_disambig has them)"
        )


def _check_symbols(spelled: Pronunciations, tokens: SymbolTable, words: SymbolTable) -> None:
    """Symbols past the tokens are #0, the loop of the word #0, or #i, the last of a pronunciation."""
    num_tokens = len(tokens)
    is_backoff = spelled.word == words.get(BACKOFF, -1)
    length = (spelled.labels != -1).sum(axis=1)
    last = spelled.labels[np.arange(len(length)), length - 1]
    num_symbols = (spelled.labels >= num_tokens).sum(axis=1)
    wrong = np.where(
        is_backoff,
        (length != 1) | (last != num_tokens),
        (last == num_tokens) | (num_symbols != (last > num_tokens)) | (num_symbols == length),
    )
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        shown = " ".join(map(str, spelled.labels[row, : length[row]]))
        raise GraphError(
            f"L spells '{words.symbol(int(spelled.word[row]))}' as labels {shown}; it was not made for these "
            f"{num_tokens} tokens ({tokens.source}): {num_tokens} must be #0, on the loop of the word "
            f"{BACKOFF} only, and larger ones may only end a word"
        )


def check_grammar(g: Fst, words: SymbolTable) -> None:
    """Raises `GraphError` unless G is a deterministic acceptor over ``words``, but for ``#0:<eps>``.

    What is deterministic needs no determinisation, which for some G would not end.
    """
    backoff = words.get(BACKOFF)
    for name in ("ilabel", "olabel"):
        labels = getattr(g, name)
        if labels.max(initial=0) >= len(words):
            arc = int(labels.argmax())
            raise GraphError(
                f"G: arc {arc}: {name} {labels[arc]}, but {words.source} has {len(words)} words"
            )
    passes = np.zeros(g.num_arcs, bool) if backoff is None else g.ilabel == backoff
    wrong = np.flatnonzero(np.where(passes, g.olabel != 0, g.olabel != g.ilabel))
    if len(wrong):
        arc = int(wrong[0])
        labels = f"{words.symbol(int(g.ilabel[arc]))}:{words.symbol(int(g.olabel[arc]))}"
        raise GraphError(f"G: arc {arc} is {labels}; expected word:word or {BACKOFF}:<eps>")
    keys = (g.src.astype(np.int64) << 32) + g.ilabel
    unique, counts = np.unique(keys, return_counts=True)
    if (g.ilabel == 0).any():
        arc = int(np.flatnonzero(g.ilabel == 0)[0])
        raise GraphError(
            f"G: arc {arc} (of state {g.src[arc]}) is an epsilon: remove epsilons first"
        )
    if (counts > 1).any():
        state, label = divmod(int(unique[counts > 1][0]), 1 << 32)
        raise GraphError(
            f"G: state {state} has {counts[counts > 1][0]} arcs for '{words.symbol(label)}': "
            "determinise G first"
        )
    if has_cycle(g.src[passes], g.dst[passes], g.num_states):
        raise GraphError("G: its backoff arcs lead in a circle")
    connected = g.connect()
    if not (connected.ilabel > 0).any():
        raise GraphError("G is empty: it accepts no word, or no final state can be reached")


def words_missing(l_disambig: Fst, g: Fst, words: SymbolTable) -> list[str]:
    """The words of L that G has no arc for, in the order of their ids.

    Raises:
        GraphError: naming a word of G (or ``#0``) that L has no arc for.
    """
    in_l = np.zeros(len(words), bool)
    in_g = np.zeros(len(words), bool)
    in_l[l_disambig.olabel], in_g[g.ilabel] = True, True
    in_l[0] = in_g[0] = False
    lacking = np.flatnonzero(in_g & ~in_l)
    backoff = words.get(BACKOFF)
    if len(lacking):
        if lacking[0] == backoff:
            raise GraphError(
                f"G backs off through {BACKOFF}, but L has no loop for it (L_disambig has one)"
            )
        more = len(lacking) - (backoff in lacking)
        raise GraphError(
            f"G has the word '{words.symbol(int(lacking[0]))}', which L cannot spell "
            f"({more} such words): take it out of the LM, or add it to the lexicon"
        )
    return [words.symbol(i) for i in np.flatnonzero(in_l & ~in_g).tolist() if i != backoff]


def _symbol(label: int, tokens: SymbolTable) -> str:
    return tokens.symbol(label) if label < len(tokens) else f"#{label - len(tokens)}"
