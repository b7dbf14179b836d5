"""The lattice of one utterance: an acyclic FSA over frame labels, as flat arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from moe_asr.errors import GraphError
from moe_asr.files import PathLike

if TYPE_CHECKING:
    from moe_asr.text.symbol_table import SymbolTable

FINAL = -1
_DTYPES = {
    "src": np.int32,
    "dst": np.int32,
    "token": np.int32,
    "starts_token": np.bool_,
    "acoustic": np.float32,
    "graph": np.float32,
    "word_row_splits": np.int32,
    "words": np.int32,
    "frame": np.int32,
}


@dataclass(frozen=True, eq=False)
class Lattice:
    """A arcs over states 0..S-1, topologically sorted: every arc leads to a higher state.

    State 0 is the start and S-1 the one final state; every state is on a path between them. An arc reads
    one frame, ``frame[dst] - 1``, and its ``token`` is the label of that frame (0 is blank); the arcs into
    the final state have token -1 and read none. A lattice without a path has no states and no arcs.

    Attributes:
        src, dst: (A,) int32, sorted by src.
        token: (A,) int32.
        starts_token: (A,) bool; whether the arc begins a token: neither blank, nor another frame of the token
            before, nor final. By CTC's rules the tokens of a path are those of its arcs that begin one.
        acoustic: (A,) float32, the log-probability of the label in its frame; 0 on final arcs.
        graph: (A,) float32, the graph's score (LM, lexicon), scaled as the search was told to.
        word_row_splits, words: int32, ragged; the words of arc a are
            ``words[word_row_splits[a]:word_row_splits[a + 1]]``, ids above 0.
        frame: (S,) int32, frames read when the state is reached; that of the final state is that of the
            states before it. Neighbours may differ by more than one, where the search left out frames.
        num_frames: of the utterance. State 0 is at frame 0, unless the lattice is a later piece of a stream.
        is_partial: no path had reached a final state of the graph, and every path was let end where it stood.

    Scores are natural logs, larger is better; a path's score is the sum of both scores of its arcs.

    Raises:
        GraphError: if any of this does not hold (that every state is on a path is not checked).
    """

    src: np.ndarray
    dst: np.ndarray
    token: np.ndarray
    starts_token: np.ndarray
    acoustic: np.ndarray
    graph: np.ndarray
    word_row_splits: np.ndarray
    words: np.ndarray
    frame: np.ndarray
    num_frames: int
    is_partial: bool = False

    def __post_init__(self) -> None:
        for name, dtype in _DTYPES.items():
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype != dtype:
                shape = getattr(array, "shape", None)
                found = f"{getattr(array, 'dtype', type(array).__name__)} {shape}"
                raise GraphError(
                    f"lattice: {name}: expected a vector of {np.dtype(dtype)}, found {found}"
                )
        for name in ("dst", "token", "starts_token", "acoustic", "graph"):
            if len(getattr(self, name)) != self.num_arcs:
                raise GraphError(
                    f"lattice: {name}: {len(getattr(self, name))} values for {self.num_arcs} arcs"
                )
        if not isinstance(self.num_frames, (int, np.integer)) or self.num_frames < 0:
            raise GraphError(f"lattice: num_frames is {self.num_frames}")
        self._check_words()
        if self.num_states == 0 and self.num_arcs == 0:
            return
        self._check_states()
        self._check_scores()

    def _check_words(self) -> None:
        splits, words = self.word_row_splits, self.words
        good = len(splits) == self.num_arcs + 1 and splits[0] == 0 and splits[-1] == len(words)
        if not good or (splits[1:] < splits[:-1]).any():
            raise GraphError(
                f"lattice: word_row_splits: expected {self.num_arcs + 1} values, not decreasing, "
                f"from 0 to {len(words)}"
            )
        if len(words) and words.min() < 1:
            raise GraphError(f"lattice: words: {words.min()} is no word id")

    def _check_states(self) -> None:
        src, dst, last = self.src, self.dst, self.num_states - 1
        if self.num_arcs == 0 or last < 1:
            raise GraphError(f"lattice: {last + 1} states and {self.num_arcs} arcs")
        if src[0] != 0 or (src[1:] < src[:-1]).any():
            raise GraphError("lattice: arcs must be sorted by source state, from state 0")
        wrong = (dst <= src) | (dst > last) | (src < 0)
        if wrong.any():
            arc = int(np.flatnonzero(wrong)[0])
            raise GraphError(
                f"lattice: arc {arc} leads from {src[arc]} to {dst[arc]}, of {last + 1} states; "
                "states must be sorted topologically"
            )
        frame = self.frame
        if frame.min() < 0 or frame.max() > self.num_frames:
            raise GraphError(f"lattice: frames of states must lie between 0 and {self.num_frames}")
        wrong = (dst == last) != (self.token == FINAL)
        wrong |= np.where(dst == last, frame[src] != frame[dst], frame[src] >= frame[dst])
        if wrong.any():
            arc = int(np.flatnonzero(wrong)[0])
            raise GraphError(
                f"lattice: arc {arc} with token {self.token[arc]} leads from frame "
                f"{frame[src[arc]]} to {frame[dst[arc]]}: arcs read a frame, but those of token -1, "
                "which lead to the final state"
            )

    def _check_scores(self) -> None:
        if self.token.min() < FINAL:
            raise GraphError(f"lattice: token {self.token.min()}")
        if (self.starts_token & (self.token <= 0)).any():
            raise GraphError("lattice: blank and final arcs begin no token")
        for name in ("acoustic", "graph"):
            scores = getattr(self, name)
            if not np.isfinite(scores).all():
                arc = int(np.flatnonzero(~np.isfinite(scores))[0])
                raise GraphError(f"lattice: arc {arc}: {name} score {scores[arc]} is not finite")
        wrong = (self.token == FINAL) & (self.acoustic != 0.0)
        if wrong.any():
            arc = int(np.flatnonzero(wrong)[0])
            raise GraphError(
                f"lattice: final arc {arc}: acoustic score {self.acoustic[arc]}, not 0"
            )

    @property
    def num_states(self) -> int:
        """S, the final state included; 0 if there is no path."""
        return len(self.frame)

    @property
    def num_arcs(self) -> int:
        return len(self.src)

    @property
    def is_empty(self) -> bool:
        """Whether there is no path."""
        return self.num_arcs == 0

    @property
    def is_connected(self) -> bool:
        """Whether every state is on a path from the start to the final state (and so every arc)."""
        if self.is_empty:
            return True
        # in this order of states it is enough that all but the first are entered, all but the last left
        entered = np.bincount(self.dst, minlength=self.num_states)[1:]
        left = np.bincount(self.src, minlength=self.num_states)[:-1]
        return bool(entered.all() and left.all())

    @classmethod
    def empty(cls, num_frames: int) -> "Lattice":
        """A lattice without a path."""
        arrays: dict[str, Any] = {name: np.zeros(0, dtype) for name, dtype in _DTYPES.items()}
        arrays["word_row_splits"] = np.zeros(1, np.int32)
        return cls(num_frames=num_frames, **arrays)

    def words_of(self, arc: int) -> np.ndarray:
        """The word ids of one arc."""
        return self.words[self.word_row_splits[arc] : self.word_row_splits[arc + 1]]

    def to_k2(self, device: str = "cpu") -> Any:
        """The same lattice as a single ``k2.Fsa``, see `moe_asr.fsa.lattice_k2.lattice_to_k2`."""
        from moe_asr.fsa.lattice_k2 import lattice_to_k2

        return lattice_to_k2(self, device)

    @classmethod
    def from_k2(cls, fsa: Any, num_frames: int | None = None) -> "Lattice":
        """The lattice of a single ``k2.Fsa``, see `moe_asr.fsa.lattice_k2.lattice_from_k2`."""
        from moe_asr.fsa.lattice_k2 import lattice_from_k2

        return lattice_from_k2(fsa, num_frames)

    def save(
        self,
        path: PathLike,
        token_table: "SymbolTable | None" = None,
        word_table: "SymbolTable | None" = None,
        metadata: Mapping[str, Any] | None = None,
        name: str = "lattice",
    ) -> None:
        """Writes an archive with this lattice alone, see `moe_asr.fsa.lattice_file.LatticeWriter`."""
        from moe_asr.fsa.lattice_file import write_lattices

        write_lattices(path, {name: self}, token_table, word_table, metadata)

    @classmethod
    def load(cls, path: PathLike, name: str | None = None) -> "Lattice":
        """Reads one lattice of an archive, see `moe_asr.fsa.lattice_file.LatticeArchive`.

        Args:
            name: which one; not needed where there is only one.

        Raises:
            GraphError: naming the file, if it is absent, damaged or something else, or has no such lattice.
        """
        from moe_asr.fsa.lattice_file import LatticeArchive

        with LatticeArchive(path) as archive:
            return archive.read(archive.only_name() if name is None else name)
