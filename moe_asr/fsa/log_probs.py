"""What search engines ask of the log-probabilities they are given.

Legend: N utterances, T frames, C tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from moe_asr.errors import DataError
from moe_asr.fsa.graph import DecodingGraph


def check_log_probs(
    log_probs: Tensor,
    lengths: Tensor,
    graph: DecodingGraph | None,
    utterance_ids: Sequence[str] | None = None,
) -> list[int]:
    """The lengths of a batch as integers, if it is what `SearchEngine.search` takes.

    Args:
        log_probs: (N, T, C); -inf is allowed, and anything behind an utterance's length.
        lengths: (N,) 0..T.
        graph: its tokens must be C; None for a search without a graph.
        utterance_ids: for messages.

    Raises:
        GraphError: if C is not the graph's number of tokens.
        DataError: on other shapes; or naming the utterance, if it has NaN or +inf, or a length out of range.
    """
    if log_probs.ndim != 3 or len(lengths) != len(log_probs):
        raise DataError(
            f"expected log_probs (N, T, C) and N lengths, found {tuple(log_probs.shape)} "
            f"and {len(lengths)} lengths"
        )
    if utterance_ids is not None and len(utterance_ids) != len(log_probs):
        raise DataError(f"found {len(utterance_ids)} ids of {len(log_probs)} utterances")
    if graph is not None:
        graph.check_vocabulary(log_probs.shape[2])
    lengths = torch.as_tensor(lengths).to("cpu", torch.int64)
    inside = torch.arange(log_probs.shape[1])[None, :] < lengths[:, None]
    values = log_probs.detach().amax(dim=2).cpu()  # NaN and +inf of any token come through
    bad = inside & ~(values < float("inf"))
    for index, length in enumerate(lengths.tolist()):
        name = name_of(index, utterance_ids)
        if not 0 <= length <= log_probs.shape[1]:
            raise DataError(
                f"utterance {name}: length {length}, but log_probs have {log_probs.shape[1]} frames"
            )
        if bool(bad[index].any()):
            frame = int(bad[index].nonzero()[0])
            raise DataError(
                f"utterance {name}: log_probs of frame {frame} hold {float(values[index, frame])}"
            )
    return [int(length) for length in lengths]


def name_of(index: int, utterance_ids: Sequence[str] | None) -> str:
    """An utterance's id, or its place in the batch if there are no ids."""
    return utterance_ids[index] if utterance_ids is not None else f"{index} of the batch"


def frame_offsets(log_probs: Tensor) -> Tensor:
    """(N, T, C) -> (N, T): the best log-probability of each frame, 0 where there is none."""
    peaks = log_probs.detach().amax(dim=2)
    return torch.where(torch.isfinite(peaks), peaks, torch.zeros_like(peaks))
