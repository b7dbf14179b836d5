"""Lattices in Kaldi's text form: what ``lattice-copy --write-compact=false ark:... ark,t:-`` prints.

A lattice is a line with its name, then a line ``src dst ilabel olabel graph_cost,acoustic_cost`` for each
arc and ``state graph_cost,acoustic_cost`` for each final state, then an empty line. Costs are the negatives
of our scores. 0 is epsilon, so that input labels are those of frames plus one, and blank is 1; output labels
are words. An arc with several words is a chain of arcs: the first has the label, the scores and the first
word, the others read nothing and have one word each. The words of a final arc are on such arcs, before a
final state.

The text has no frames, and does not tell which arcs begin a token; of several final arcs of a state that have
no words the best is kept.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from moe_asr.errors import GraphError, TextError
from moe_asr.files import PathLike, atomic_path
from moe_asr.fsa.arcs import Arcs, contract_chains, fst_of_arcs
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.graph_openfst import fst_tables
from moe_asr.fsa.lattice import FINAL, Lattice
from moe_asr.fsa.lattice_build import LooseArcs, build_lattice
from moe_asr.fsa.openfst import parse_cost, parse_label, parse_number
from moe_asr.text.lines import read_lines
from moe_asr.text.symbol_table import SymbolTable

# A weight as it is read: graph score, acoustic score
_Weight = tuple[float, float]


def lattice_to_text(
    name: str,
    lattice: Lattice,
    token_table: SymbolTable | None = None,
    word_table: SymbolTable | None = None,
) -> str:
    """One lattice in Kaldi's text form.

    Args:
        name: of the utterance, without whitespace.
        lattice: an empty one is its name and an empty line.
        token_table, word_table: write symbols instead of ids; both, or neither.

    Raises:
        GraphError: if the name has whitespace, or an id is not in its table.
    """
    if not name or len(name.split()) != 1 or name != name.strip():
        raise GraphError(f"{name!r}: an utterance's name in Kaldi's files has no whitespace")
    if lattice.is_empty:
        return f"{name} \n\n"
    graph, acoustic = (_spread(lattice, scores) for scores in (lattice.graph, lattice.acoustic))
    ilabels, olabels = graph.ilabel.tolist(), graph.olabel.tolist()
    if token_table is not None and word_table is not None:
        try:
            inputs, outputs = fst_tables(token_table, word_table, topology_implied=False)
            ilabels = [inputs.symbol(label) for label in ilabels]
            olabels = [outputs.symbol(label) for label in olabels]
        except TextError as error:
            raise GraphError(f"{name}: {error}") from error
    weights = _weights(graph.score, acoustic.score)
    finals = _weights(graph.final_score, np.zeros(graph.num_states, np.float32))
    dst, splits = graph.dst.tolist(), graph.arc_splits.tolist()
    is_final = np.isfinite(graph.final_score).tolist()
    lines = [f"{name} \n"]
    for state in range(graph.num_states):
        for arc in range(splits[state], splits[state + 1]):
            lines.append(f"{state}\t{dst[arc]}\t{ilabels[arc]}\t{olabels[arc]}\t{weights[arc]}\n")
        if is_final[state]:
            lines.append(f"{state}\t{finals[state]}\n")
    return "".join([*lines, "\n"])


def write_lattice_text(
    path: PathLike,
    lattices: Mapping[str, Lattice] | Iterable[tuple[str, Lattice]],
    token_table: SymbolTable | None = None,
    word_table: SymbolTable | None = None,
) -> None:
    """Writes a text archive of lattices, one after another, atomically; see `lattice_to_text`."""
    pairs = lattices.items() if isinstance(lattices, Mapping) else lattices
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        for name, lattice in pairs:
            file.write(lattice_to_text(name, lattice, token_table, word_table))


def read_lattice_text(
    path: PathLike,
    token_table: SymbolTable | None = None,
    word_table: SymbolTable | None = None,
) -> Iterator[tuple[str, Lattice]]:
    """The lattices of a text archive that `write_lattice_text` wrote, or Kaldi, one read after another.

    Every arc reads one frame; tokens are found by the standard CTC topology, see
    `moe_asr.fsa.lattice_build.find_token_starts`.

    Args:
        path: the file; it may be packed by gzip.
        token_table, word_table: where it has symbols, not ids.

    Raises:
        GraphError: naming the file and the line or the lattice, if it is malformed, has epsilons other than
            in chains as described above, or is no lattice as `Lattice` has them.
        TextError: if it cannot be read as text.
    """
    inputs, outputs = None, None
    if token_table is not None and word_table is not None:
        inputs, outputs = fst_tables(token_table, word_table, topology_implied=False)
    block: _Block | None = None
    for number, line in enumerate(read_lines(path), start=1):
        fields = line.split()
        try:
            if block is None:
                if len(fields) > 1:
                    raise ValueError(f"expected the name of a lattice, found {line!r}")
                block = _Block(fields[0]) if fields else None
            elif fields:
                block.add(fields, inputs, outputs)
            else:
                yield block.name, block.lattice()
                block = None
        except ValueError as error:
            where = f"lattice {block.name}: " if block is not None and not fields else ""
            raise GraphError(f"{path}:{number}: {where}{error}") from error
    if block is not None:
        raise GraphError(f"{path}: lattice {block.name}: no empty line at its end: truncated?")


class _Block:
    """The lines of one lattice."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.arcs: list[tuple[int, int, int, int]] = []
        self.scores: list[_Weight] = []
        self.finals: dict[int, _Weight] = {}
        self.start: int | None = None

    def add(
        self, fields: list[str], isymbols: SymbolTable | None, osymbols: SymbolTable | None
    ) -> None:
        """Takes one line; ValueError says what is wrong with it."""
        state = parse_number(fields[0], "a state")
        self.start = state if self.start is None else self.start
        weight = _parse_weight(fields[-1]) if len(fields) in (2, 5) else (0.0, 0.0)
        if len(fields) in (4, 5):
            labels = parse_label(fields[2], isymbols), parse_label(fields[3], osymbols)
            self.arcs.append((state, parse_number(fields[1], "a state"), *labels))
            self.scores.append(weight)
        elif len(fields) in (1, 2):
            if state in self.finals:
                raise ValueError(f"a second final weight of state {state}")
            self.finals[state] = weight
        else:
            raise ValueError(f"expected 1, 2, 4 or 5 fields, found {len(fields)}")

    def lattice(self) -> Lattice:
        """What the lines say; `GraphError` if it is no lattice."""
        if not self.arcs and not self.finals:
            return Lattice.empty(0)
        if not self.finals:
            raise GraphError(f"{len(self.arcs)} arcs and no final state")
        rows = np.array(self.arcs, np.int64).reshape(-1, 4)
        finals = np.array(list(self.finals), np.int64)
        # the start first; no room for the numbers that a text leaves out
        used = np.unique(np.concatenate([rows[:, :2].ravel(), finals]))
        number = np.arange(len(used), dtype=np.int32)
        assert self.start is not None
        start = int(np.searchsorted(used, self.start))
        number[[0, start]] = number[[start, 0]]
        src, dst = number[np.searchsorted(used, rows[:, :2])].T
        end = np.full(len(finals), len(used), np.int32)
        words = np.append(rows[:, 3], 0 * end)
        scores = np.array([*self.scores, *self.finals.values()], np.float32)
        loose = [
            Arcs(
                src=np.append(src, number[np.searchsorted(used, finals)]),
                dst=np.append(dst, end),
                label=np.append(rows[:, 2], 0 * end - 1).astype(np.int32),
                score=column,
                row_splits=np.concatenate([[0], np.cumsum(words != 0)]),
                words=words[words != 0].astype(np.int32),
            )
            for column in scores.T
        ]
        # which arcs are chains does not depend on scores: both come out in the same order
        graph, acoustic = (contract_chains(arcs) for arcs in loose)
        epsilons = np.flatnonzero(graph.label == 0)
        if len(epsilons):
            state = int(used[number[graph.src[epsilons[0]]]])
            raise GraphError(f"state {state}: an arc of epsilon that is no part of a chain")
        return build_lattice(
            LooseArcs(
                src=graph.src,
                dst=graph.dst,
                label=np.where(graph.label == FINAL, FINAL, graph.label - 1),
                acoustic=acoustic.score,
                graph=graph.score,
                row_splits=graph.row_splits,
                words=graph.words,
            ),
            len(used) + 1,
        )


def _spread(lattice: Lattice, score: np.ndarray) -> Fst:
    """One word an arc, final scores instead of final arcs, labels one higher."""
    label = np.where(lattice.token == FINAL, FINAL, lattice.token + 1).astype(np.int32)
    arcs = Arcs(
        lattice.src,
        lattice.dst,
        label,
        score,
        lattice.word_row_splits.astype(np.int64),
        lattice.words,
    )
    return fst_of_arcs(arcs, lattice.num_states)


def _weights(graph: np.ndarray, acoustic: np.ndarray) -> list[str]:
    costs = ((np.float32(0) - scores).tolist() for scores in (graph, acoustic))  # of 0 it is not -0
    return [f"{a:.9g},{b:.9g}" for a, b in zip(*costs, strict=True)]  # 9 digits tell float32s apart


def _parse_weight(field: str) -> _Weight:
    parts = field.split(",")
    if len(parts) != 2:
        raise ValueError(f"expected graph and acoustic cost, found {field!r}")
    graph, acoustic = (0.0 - parse_cost(part) for part in parts)
    return graph, acoustic
