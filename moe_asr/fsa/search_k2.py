"""The search engine on k2: log-probabilities intersected with a decoding graph, in batches.

Legend: N utterances, T frames, C tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from moe_asr.errors import DataError, GraphError
from moe_asr.fsa.engine import SearchOptions
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.k2_module import import_k2


@dataclass(frozen=True)
class BestPath:
    """The best path of one utterance.

    Attributes:
        words: word ids.
        tokens: one token a frame, blanks and repetitions included.
        score: acoustic score and scaled graph score of the path together, natural log.
    """

    words: tuple[int, ...]
    tokens: tuple[int, ...]
    score: float


class K2Search:
    """Offline search of batches; the graph is converted once and kept.

    Raises:
        GraphError: if the graph is no HLG (or HT): the topology must be in it.
        MissingDependencyError: if there is no k2.
    """

    def __init__(
        self,
        graph: DecodingGraph,
        options: SearchOptions | None = None,
        device: str = "cpu",
    ) -> None:
        if graph.topology_implied:
            raise GraphError(f"the k2 search needs an HLG, found a graph of kind {graph.kind}")
        k2 = import_k2()
        self.graph = graph
        self.options = options = options or SearchOptions()
        fsa = k2.arc_sort(graph.to_k2(device))
        fsa.scores = fsa.scores * options.graph_scale
        fsa.lm_scores = fsa.scores.clone()  # lattices inherit it: the graph's part of their scores
        self._graphs = k2.create_fsa_vec([fsa])

    def intersect(
        self, log_probs: Tensor, lengths: Tensor, utterance_ids: Sequence[str] | None = None
    ) -> Any:
        """The lattices of a batch.

        Args:
            log_probs: (N, T, C) float32, natural log; -inf is allowed.
            lengths: (N,) frames of each utterance, 1..T.
            utterance_ids: for messages.

        Returns:
            A ``k2.Fsa`` of N lattices in the order given, with ``aux_labels`` (words) and
            ``lm_scores`` (the graph's part of ``scores``). That of an utterance without a path has
            no path either.

        Raises:
            GraphError: if C is not the graph's number of tokens.
            DataError: naming the utterance, if it has NaN, +inf or no frames.
        """
        check_log_probs(log_probs, lengths, self.graph, utterance_ids)
        k2 = import_k2()
        num_frames = torch.as_tensor(lengths).to("cpu", torch.int32)
        order = torch.sort(num_frames, descending=True, stable=True).indices  # k2's advice
        segments = torch.stack(
            [order.to(torch.int32), torch.zeros_like(num_frames), num_frames[order]], dim=1
        )
        device = self._graphs.device
        lattice = k2.intersect_dense_pruned(
            self._graphs,
            k2.DenseFsaVec(log_probs.detach().to(device, torch.float32).contiguous(), segments),
            search_beam=self.options.search_beam,
            output_beam=self.options.output_beam,
            min_active_states=self.options.min_active,
            max_active_states=self.options.max_active,
        )
        restored = torch.argsort(order).to(device, torch.int32)
        return k2.index_fsa(lattice, restored)


def one_best(lattice: Any) -> list[BestPath | None]:
    """The best path of each lattice of a ``k2.Fsa``; None where there is no path."""
    k2 = import_k2()
    paths = k2.shortest_path(lattice, use_double_scores=True)
    splits = paths.arcs.row_splits(1).tolist()  # [utt][state]
    starts = paths.arcs.row_splits(2).tolist()  # [utt, state][arc]
    labels = paths.labels.tolist()
    scores = paths.scores.to("cpu", torch.float64)
    ragged = not isinstance(paths.aux_labels, Tensor)
    words_of = paths.aux_labels.tolist()
    results: list[BestPath | None] = []
    for first_state, end_state in zip(splits[:-1], splits[1:], strict=True):
        first, end = starts[first_state], starts[end_state]
        if first == end:
            results.append(None)
            continue
        assert labels[end - 1] == -1, labels[first:end]
        found = words_of[first:end]
        words = [word for arc in found for word in arc] if ragged else found
        results.append(
            BestPath(
                words=tuple(word for word in words if word > 0),
                tokens=tuple(labels[first : end - 1]),
                score=float(scores[first:end].sum()),
            )
        )
    return results


def check_log_probs(
    log_probs: Tensor,
    lengths: Tensor,
    graph: DecodingGraph,
    utterance_ids: Sequence[str] | None = None,
) -> None:
    """Raises `GraphError` or `DataError` as `K2Search.intersect` says."""
    if log_probs.ndim != 3 or len(lengths) != len(log_probs) or len(log_probs) == 0:
        raise DataError(
            f"expected log_probs (N, T, C) and N >= 1 lengths, found {tuple(log_probs.shape)} "
            f"and {len(lengths)} lengths"
        )
    graph.check_vocabulary(log_probs.shape[2])
    lengths = torch.as_tensor(lengths).to("cpu", torch.int64)
    inside = torch.arange(log_probs.shape[1])[None, :] < lengths[:, None]
    values = log_probs.detach().amax(dim=2).cpu()  # NaN and +inf of any token come through
    bad = inside & ~(values < float("inf"))
    for index, length in enumerate(lengths.tolist()):
        name = utterance_ids[index] if utterance_ids is not None else f"{index} of the batch"
        if length < 1:
            raise DataError(f"utterance {name}: no frames to search")
        if length > log_probs.shape[1]:
            raise DataError(
                f"utterance {name}: length {length}, but log_probs have {log_probs.shape[1]} frames"
            )
        if bool(bad[index].any()):
            frame = int(bad[index].nonzero()[0])
            raise DataError(
                f"utterance {name}: log_probs of frame {frame} hold {float(values[index, frame])}"
            )
