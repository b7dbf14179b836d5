"""FSTs in k2's form as arrays: one final state entered by arcs of label -1, ragged words on arcs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe_asr.fsa.fst import Fst, reachable


@dataclass(frozen=True)
class Arcs:
    """Arcs of an FST as arrays: src, dst, label (A,) int32, score (A,) float32, ragged words.

    The words of arc a are ``words[row_splits[a]:row_splits[a + 1]]``, never 0. State 0 is the start; arcs
    of label -1 enter the final state.
    """

    src: np.ndarray
    dst: np.ndarray
    label: np.ndarray
    score: np.ndarray
    row_splits: np.ndarray
    words: np.ndarray

    def __len__(self) -> int:
        return len(self.src)

    @property
    def num_words(self) -> np.ndarray:
        """(A,) the number of words of each arc."""
        return np.diff(self.row_splits)

    def take(self, index: np.ndarray) -> "Arcs":
        """The arcs at ``index``, in that order."""
        row_splits, words = take_ragged(self.row_splits, self.words, index)
        return Arcs(
            self.src[index],
            self.dst[index],
            self.label[index],
            self.score[index],
            row_splits,
            words,
        )

    def padded_words(self) -> np.ndarray:
        """(longest, A) int32: row i holds the i-th word of every arc, 0 where it has none."""
        lengths = self.num_words
        padded = np.zeros((int(lengths.max(initial=0)), len(self)), np.int32)
        if len(padded):
            rows = np.repeat(np.arange(len(self)), lengths)
            padded[np.arange(len(self.words)) - np.repeat(self.row_splits[:-1], lengths), rows] = (
                self.words
            )
        return padded

    def sort(self) -> "Arcs":
        """Sorted by src, then label, then dst; equal ones keep their order."""
        return self.take(np.lexsort([self.dst, _pair(self.src, self.label)]))

    def best_of_equals(self) -> "Arcs":
        """Keeps the best of arcs with the same states, label and words; sorts as `sort` does."""
        padded = self.padded_words()
        first = padded[0] if len(padded) else np.zeros(len(self), np.int32)
        keys = [*padded[:0:-1], _pair(self.dst, first), _pair(self.src, self.label)]
        order = np.lexsort(keys)  # the last is the first
        new = np.zeros(len(order), bool)
        new[:1] = True
        for key in keys:
            ordered = key[order]
            new[1:] |= ordered[1:] != ordered[:-1]
        best = self.take(order[new])
        if len(order):
            best.score[:] = np.maximum.reduceat(self.score[order], np.flatnonzero(new))
        return best

    def connect(self) -> "Arcs":
        """Without what is on no path from state 0 to the final state.

        The states left are renumbered in their order, the final one last. An empty language has no arcs.
        """
        finals = np.unique(self.dst[self.label == -1])
        assert len(finals) <= 1, finals
        if len(finals) == 0:
            return self.take(np.zeros(0, np.int64))
        num_states = int(max(self.src.max(), self.dst.max())) + 1
        kept = reachable(self.src, self.dst, np.zeros(1, np.int64), num_states)
        kept &= reachable(self.dst, self.src, finals, num_states)
        number = (np.cumsum(kept) - 1).astype(np.int32)
        number[finals] = kept.sum() - 1
        number[finals[0] + 1 :] -= 1
        arcs = self.take(np.flatnonzero(kept[self.src] & kept[self.dst]))
        return Arcs(
            number[arcs.src],
            number[arcs.dst],
            arcs.label,
            arcs.score,
            arcs.row_splits,
            arcs.words,
        )


def concatenate(pieces: Sequence[Arcs]) -> Arcs:
    """The arcs of all pieces, one after another."""
    ends = np.cumsum([0] + [len(piece.words) for piece in pieces])
    splits = [piece.row_splits[1:] + end for piece, end in zip(pieces, ends, strict=False)]
    return Arcs(
        src=np.concatenate([piece.src for piece in pieces]),
        dst=np.concatenate([piece.dst for piece in pieces]),
        label=np.concatenate([piece.label for piece in pieces]),
        score=np.concatenate([piece.score for piece in pieces]),
        row_splits=np.concatenate([np.zeros(1, np.int64), *splits]),
        words=np.concatenate([piece.words for piece in pieces]),
    )


def without_words(src: np.ndarray, dst: np.ndarray, label: np.ndarray, score: np.ndarray) -> Arcs:
    """Arcs that carry no words; the arrays are converted."""
    return Arcs(
        src.astype(np.int32),
        dst.astype(np.int32),
        label.astype(np.int32),
        score.astype(np.float32),
        np.zeros(len(src) + 1, np.int64),
        np.zeros(0, np.int32),
    )


def arcs_of_fst(fst: Fst) -> Arcs:
    """The same FST in k2's form: one more state, the last, is the final one. Arcs stay sorted by src.

    Final arcs come after the other arcs of their state.
    """
    finals = np.flatnonzero(np.isfinite(fst.final_score))
    src = np.concatenate([fst.src, finals])
    order = np.argsort(src, kind="stable")
    olabel = np.concatenate([fst.olabel, np.zeros(len(finals), np.int32)])[order]
    return Arcs(
        src[order].astype(np.int32),
        np.concatenate([fst.dst, np.full(len(finals), fst.num_states)])[order].astype(np.int32),
        np.concatenate([fst.ilabel, np.full(len(finals), -1)])[order].astype(np.int32),
        np.concatenate([fst.score, fst.final_score[finals]])[order],
        np.concatenate([[0], np.cumsum(olabel != 0)]),
        olabel[olabel != 0],
    )


def fst_of_arcs(arcs: Arcs, num_states: int) -> Fst:
    """The same transducer with one output label an arc: the inverse of `arcs_of_fst` and `contract_chains`.

    An arc of several words becomes a chain: its label with the first word, then epsilons with the others. The
    words of a final arc come on epsilons before it. Of several final arcs of a state that have no words the
    best is kept. New states follow the old ones; state ``num_states - 1``, the final one, is gone.
    """
    final = num_states - 1
    is_final = arcs.label == -1
    lengths = arcs.num_words
    first = arcs.row_splits[:-1].astype(np.int64)
    # an arc has as many links as words, or one: a wordless final arc, which becomes a final score, has none
    links = np.where(is_final, lengths, np.maximum(lengths, 1))
    arc = np.repeat(np.arange(len(arcs)), links)
    place = np.arange(len(arc)) - np.repeat(np.cumsum(links) - links, links)
    ends = place == links[arc] - 1
    into_new = ~ends | is_final[arc]
    new_state = final + np.cumsum(into_new) - 1
    dst = np.where(into_new, new_state, arcs.dst[arc])
    src = np.where(place == 0, arcs.src[arc], np.roll(new_state, 1))
    has_word = lengths[arc] > 0
    olabel = np.zeros(len(arc), np.int32)
    olabel[has_word] = arcs.words[(first[arc] + place)[has_word]]
    plain = ~is_final[arc]
    ilabel = np.where(plain & (place == 0), arcs.label[arc], 0)
    score = np.where(plain & (place == 0), arcs.score[arc], 0.0)
    final_score = np.full(final + int(into_new.sum()), -np.inf, np.float32)
    wordless = np.flatnonzero(is_final & (lengths == 0))
    np.maximum.at(final_score, arcs.src[wordless], arcs.score[wordless])
    last = np.flatnonzero(is_final[arc] & ends)
    final_score[dst[last]] = arcs.score[arc[last]]
    return Fst.from_arcs(src, dst, ilabel, olabel, score, final_score)


def contract_chains(arcs: Arcs) -> Arcs:
    """Merges arcs across states with one arc in and one arc out of which one or both are epsilons.

    The language stays; the words of both are on the merged arc, with the label of the one that has one. What
    `fst_of_arcs` spread over chains is together again. Other epsilons stay as they are.
    """
    while True:
        num_states = int(max(arcs.src.max(initial=0), arcs.dst.max(initial=0))) + 1
        entering = np.full(num_states, -1, np.int64)
        leaving = np.full(num_states, -1, np.int64)
        entering[arcs.dst], leaving[arcs.src] = np.arange(len(arcs)), np.arange(len(arcs))
        single = np.bincount(arcs.dst, minlength=num_states) == 1
        single &= np.bincount(arcs.src, minlength=num_states) == 1
        single[0] = False
        states = np.flatnonzero(single)
        one, two = entering[states], leaving[states]
        states = states[((arcs.label[one] == 0) | (arcs.label[two] == 0)) & (one != two)]
        # neighbours along a chain take turns, the highest first: those that `fst_of_arcs` added
        waits = np.zeros(num_states, bool)
        waits[states] = True
        before, after = arcs.src[entering[states]], arcs.dst[leaving[states]]
        first = ~(waits[before] & (before > states)) & ~(waits[after] & (after > states))
        states = states[first]
        if len(states) == 0:
            return arcs
        one, two = entering[states], leaving[states]
        merged = join(arcs.take(one), arcs.take(two), np.arange(len(one)), np.arange(len(one)))
        label = np.where(arcs.label[one] == 0, arcs.label[two], arcs.label[one])
        merged = Arcs(merged.src, merged.dst, label, merged.score, merged.row_splits, merged.words)
        # the merged arc takes the place of the one it begins with
        rest = np.ones(len(arcs), bool)
        rest[one], rest[two] = False, False
        positions = np.concatenate([np.flatnonzero(rest), one])
        arcs = concatenate([arcs.take(np.flatnonzero(rest)), merged]).take(np.argsort(positions))


def follow(first: Arcs, second: Arcs) -> Arcs:
    """Every path of an arc of ``first`` and one of ``second``, with the label of the latter."""
    order = np.argsort(second.src, kind="stable")
    starts = np.searchsorted(second.src[order], first.dst, side="left")
    counts = np.searchsorted(second.src[order], first.dst, side="right") - starts
    left = np.repeat(np.arange(len(first)), counts)
    offsets = np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
    return join(first, second, left, order[np.repeat(starts, counts) + offsets])


def join(first: Arcs, second: Arcs, left: np.ndarray, right: np.ndarray) -> Arcs:
    """Arc ``left[i]`` of ``first`` followed by ``right[i]`` of ``second``, with the label of the latter."""
    a, b = first.take(left), second.take(right)
    row_splits = a.row_splits + b.row_splits
    words = np.empty(len(a.words) + len(b.words), a.words.dtype)
    # each row of the result is the row of a, then the row of b
    before_a = np.repeat(b.row_splits[:-1], a.num_words)
    before_b = np.repeat(a.row_splits[1:], b.num_words)
    words[np.arange(len(a.words)) + before_a] = a.words
    words[np.arange(len(b.words)) + before_b] = b.words
    return Arcs(a.src, b.dst, b.label, a.score + b.score, row_splits, words)


def _pair(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """One int64 for two int32, in the order of (high, low); low may be -1."""
    return (high.astype(np.int64) << 32) + low + 1


def take_ragged(
    row_splits: np.ndarray, values: np.ndarray, index: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The rows at ``index`` of a ragged array, in that order: their row splits (int64) and values."""
    starts = row_splits[:-1][index].astype(np.int64)
    lengths = row_splits[1:][index].astype(np.int64) - starts
    taken_splits = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    positions = np.arange(taken_splits[-1]) - np.repeat(taken_splits[:-1] - starts, lengths)
    return taken_splits, values[positions]
