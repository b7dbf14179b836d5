"""Graphs built by k2."""

from typing import Any

import numpy as np

from moe_asr.fsa.arcs import Arcs, arcs_of_fst
from moe_asr.fsa.builder import GraphBuilder
from moe_asr.fsa.fst import Fst
from moe_asr.fsa.k2_module import arrays_of_k2, import_k2, k2_of_arrays


class K2Builder(GraphBuilder):
    """k2's composition and determinisation, and its own CTC topology.

    Raises:
        MissingDependencyError: if there is no k2.
    """

    name = "k2"

    def __init__(self) -> None:
        self._k2 = import_k2()

    def compose(self, lexicon: Fst, grammar: Fst) -> Any:
        left, right = self._fsa(lexicon), self._fsa(grammar)
        return self._k2.connect(self._k2.compose(left, right))

    def determinize(self, fst: Any) -> Any:
        return self._k2.connect(self._k2.determinize(fst))

    def size(self, fst: Any) -> tuple[int, int]:
        return int(fst.shape[0] or 0), int(fst.num_arcs)

    def to_arcs(self, fst: Any) -> Arcs:
        return Arcs(*arrays_of_k2(fst))

    def compose_topology(self, graph: Arcs, num_tokens: int, topology: str) -> Arcs:
        k2 = self._k2
        right = k2_of_arrays(
            graph.src, graph.dst, graph.label, graph.score, graph.row_splits, graph.words
        )
        h = k2.ctc_topo(num_tokens - 1, modified=topology == "modified")
        composed = k2.connect(k2.compose(h, k2.arc_sort(right)))
        return Arcs(*arrays_of_k2(composed)).sort()

    def _fsa(self, fst: Fst) -> Any:
        """With its output labels as a tensor, which k2 asks of the left side of a composition."""
        import torch

        arcs = arcs_of_fst(fst)
        rows = np.stack([arcs.src, arcs.dst, arcs.label, arcs.score.view(np.int32)], axis=1)
        fsa = self._k2.Fsa(torch.from_numpy(rows))
        outputs = np.zeros(len(arcs), np.int32)
        outputs[arcs.num_words > 0] = arcs.words
        outputs[arcs.label == -1] = -1
        fsa.aux_labels = torch.from_numpy(outputs)
        return self._k2.arc_sort(fsa)
