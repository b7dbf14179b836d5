"""The words and tokens of a path, read off its arcs piece by piece."""

import numpy as np

from moe_asr.fsa.native.search_graph import SearchGraph


class PathLabels:
    """What is on a path, and when; a path grows by pieces, and a token may go on from one to the next.

    Attributes:
        words, word_frames: word ids, and the frame in which each label was passed.
        tokens: token ids, as CTC reads the labels.
        token_frames, token_ends: the first and the last frame of each token.
    """

    def __init__(self) -> None:
        self.words: list[int] = []
        self.word_frames: list[int] = []
        self.tokens: list[int] = []
        self.token_frames: list[int] = []
        self.token_ends: list[int] = []

    def copy(self) -> "PathLabels":
        """The same, to be extended on its own."""
        other = PathLabels()
        for name, values in vars(self).items():
            setattr(other, name, values.copy())
        return other

    def extend(self, graph: SearchGraph, arcs: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Adds the next arcs of the path.

        Args:
            graph: that they are of.
            arcs: (R,) integers, one a frame that was searched, as the layout has them.
            frames: (R,) integers, the frame that each of them reads.

        Returns:
            (W,) int64: the positions of the arcs on which the words are that were added.
        """
        words, at = graph.words_of(arcs)
        self.words += words.tolist()
        self.word_frames += frames[at].tolist()
        label, begins = graph.labels_of(arcs)
        voiced = np.flatnonzero(label > 0)
        begins = begins[voiced]
        first = voiced[begins]
        # the last frame before each beginning, and that of all: the token's that is under way there
        place = np.append(np.flatnonzero(begins), len(voiced)) - 1
        if place[0] >= 0 and self.tokens:
            self.token_ends[-1] = int(frames[voiced[place[0]]])
        self.tokens += label[first].tolist()
        self.token_frames += frames[first].tolist()
        self.token_ends += frames[voiced[place[1:]]].tolist()
        return at
