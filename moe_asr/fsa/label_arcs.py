"""A lattice as arcs of at most one label: what searches over its words or tokens walk along."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from moe_asr.errors import ConfigError
from moe_asr.fsa.lattice import Lattice

Unit = Literal["word", "token"]
UNITS: tuple[str, ...] = get_args(Unit)


@dataclass(frozen=True, eq=False)
class LabelArcs:
    """A arcs over states 0..S-1, sorted by source; every arc leads to a higher state, S-1 is final.

    An arc of the lattice with several words is here a chain of arcs, whose states follow its source.

    Attributes:
        arc_splits: (S + 1,) int64; the arcs of state s are ``arc_splits[s]`` to ``arc_splits[s + 1] - 1``.
        dst: (A,) int64.
        label: (A,) int64, a word or token id; 0 is none.
        arc: (A,) int64, the arc of the lattice; -1 for all but the first of a chain.
    """

    arc_splits: np.ndarray
    dst: np.ndarray
    label: np.ndarray
    arc: np.ndarray

    @property
    def num_states(self) -> int:
        return len(self.arc_splits) - 1


def label_arcs(lattice: Lattice, unit: str = "word") -> LabelArcs:
    """The arcs of a lattice with their words, or with the tokens they begin.

    Raises:
        ConfigError: if ``unit`` is not one of `UNITS`.
    """
    if unit not in UNITS:
        raise ConfigError(f"unit must be one of {', '.join(UNITS)}, found {unit!r}")
    src, dst = lattice.src.astype(np.int64), lattice.dst.astype(np.int64)
    if unit == "token":
        label = np.where(lattice.starts_token, lattice.token, 0).astype(np.int64)
        return LabelArcs(_splits(src, lattice.num_states), dst, label, np.arange(lattice.num_arcs))
    return word_arcs(src, dst, lattice.word_row_splits, lattice.words, lattice.num_states)


def word_arcs(
    src: np.ndarray, dst: np.ndarray, row_splits: np.ndarray, words: np.ndarray, num_states: int
) -> LabelArcs:
    """Arcs with any number of words, as arcs with at most one each.

    Args:
        src, dst: (A,) states below ``num_states``, sorted by src, every arc to a higher state.
        row_splits, words: the words of arc a are ``words[row_splits[a]:row_splits[a + 1]]``, ids above 0.
    """
    src, dst = src.astype(np.int64), dst.astype(np.int64)
    arc = np.arange(len(src))
    first_word = row_splits.astype(np.int64)
    num_words = np.diff(first_word)
    num_extra = np.maximum(num_words - 1, 0)  # arcs, and as many states
    extra_before = np.cumsum(num_extra) - num_extra
    extra_of_state = np.bincount(src, num_extra, num_states).astype(np.int64)
    state = np.arange(num_states) + np.cumsum(extra_of_state) - extra_of_state

    piece_of = np.repeat(arc, 1 + num_extra)
    place = np.arange(len(piece_of)) - (arc + extra_before)[piece_of]
    inner = src + extra_before  # one below the first state of the chain of an arc
    piece_src = np.where(place == 0, state[src][piece_of], inner[piece_of] + place)
    last = place == num_extra[piece_of]
    piece_dst = np.where(last, state[dst][piece_of], inner[piece_of] + place + 1)
    padded = np.append(words, 0).astype(np.int64)
    label = np.where(num_words[piece_of] > 0, padded[first_word[piece_of] + place], 0)
    order = np.argsort(piece_src, kind="stable")
    return LabelArcs(
        _splits(piece_src[order], num_states + int(num_extra.sum())),
        piece_dst[order],
        label[order],
        np.where(place == 0, piece_of, -1)[order],
    )


def _splits(src: np.ndarray, num_states: int) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.bincount(src, minlength=num_states))]).astype(np.int64)
