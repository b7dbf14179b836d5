"""Lattices as k2's FSAs and back."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from moe_asr.errors import GraphError
from moe_asr.fsa.k2_module import arrays_of_k2, k2_of_arrays
from moe_asr.fsa.lattice import FINAL, Lattice
from moe_asr.fsa.lattice_build import LooseArcs, build_lattice

# how far rounding may part the score of a final arc and the graph's part of it
_ROUNDING = 1e-3


def lattice_to_k2(lattice: Lattice, device: str = "cpu") -> Any:
    """The same lattice as a single ``k2.Fsa``; `lattice_from_k2` gives it back, every bit.

    Returns:
        An FSA with the same states and arcs, labels being those of frames, and the attributes

        - ``scores``: float32, the sum of both scores, rounded; ``am_scores`` and ``lm_scores``: the acoustic
          and the graph's part.
        - ``aux_labels``: ragged, the words.
        - ``starts_token``: int32, 0 or 1; ``src_frame``: int32, the frame of each arc's source state.
        - ``num_frames`` and ``is_partial``: of the whole.

        A lattice without a path gives an FSA without states.

    Raises:
        GraphError: if two scores add up to infinity.
        MissingDependencyError: if there is no k2.
    """
    import torch

    with np.errstate(over="ignore"):
        scores = lattice.acoustic + lattice.graph
    if not np.isfinite(scores).all():
        raise GraphError("lattice: scores too large for k2, which adds them in float32")
    fsa = k2_of_arrays(
        lattice.src,
        lattice.dst,
        lattice.token,
        scores,
        lattice.word_row_splits,
        lattice.words,
        device,
    )
    attributes = {
        "am_scores": lattice.acoustic,
        "lm_scores": lattice.graph,
        "starts_token": lattice.starts_token.astype(np.int32),
        "src_frame": lattice.frame[lattice.src],
    }
    for name, values in attributes.items():
        setattr(fsa, name, torch.from_numpy(values.copy()).to(device))
    fsa.num_frames = lattice.num_frames
    fsa.is_partial = lattice.is_partial
    return fsa


def lattice_from_k2(fsa: Any, num_frames: int | None = None) -> Lattice:
    """The lattice of a single ``k2.Fsa``: of `lattice_to_k2`, or of k2's own intersection.

    Args:
        fsa: as `lattices_from_k2` takes it, but single.
        num_frames: of the utterance; by default the FSA's attribute, or the frames that it reads.

    Raises:
        GraphError: as `lattices_from_k2` does.
    """
    if len(fsa.shape) != 2:
        raise GraphError(f"expected a single FSA, found one of shape {tuple(fsa.shape)}")
    arcs = _arcs_of(fsa)
    if num_frames is None:
        num_frames = getattr(fsa, "num_frames", None)
    is_partial = bool(getattr(fsa, "is_partial", False))
    return _build(arcs, int(fsa.shape[0]), num_frames, is_partial)


def lattices_from_k2(fsas: Any, num_frames: Sequence[int]) -> list[Lattice]:
    """The lattices of a ``k2.Fsa`` of several, as ``k2.intersect_dense_pruned`` returns them.

    They are connected and sorted; what is on no path is left out.

    Args:
        fsas: N FSAs whose labels are those of frames, -1 on the arcs into the final state, with the
            attributes

            - ``lm_scores``: float, the graph's part of ``scores``; the rest is the acoustic part. Where
              ``am_scores`` and ``lm_scores`` add up to ``scores``, the former are that part.
            - ``aux_labels``: a tensor or ragged, the words; 0 and -1 stand for none.
            - ``starts_token``: integers, 1 where an arc begins a token. Without it, by the standard CTC
              topology: an arc begins a token if its label is not blank, and not that of the arcs before it.
            - ``src_frame``: integers, see `lattice_to_k2`. Without it every arc reads the next frame.
        num_frames: of each utterance.

    Raises:
        GraphError: if an attribute is missing, states are not at one frame each, final arcs have an
            acoustic score, or it cannot be told which arcs begin a token.
    """
    if len(fsas.shape) != 3 or int(fsas.shape[0]) != len(num_frames):
        raise GraphError(
            f"expected FSAs of {len(num_frames)} utterances, found one of shape {tuple(fsas.shape)}"
        )
    arcs = _arcs_of(fsas)
    state_splits = fsas.arcs.row_splits(1).cpu().numpy()
    arc_splits = fsas.arcs.row_splits(2).cpu().numpy()[state_splits]
    lattices = []
    for index, frames in enumerate(num_frames):
        mine = arcs.take(np.arange(arc_splits[index], arc_splits[index + 1]))
        num_states = int(state_splits[index + 1] - state_splits[index])
        try:
            lattices.append(_build(mine, num_states, int(frames), False))
        except GraphError as error:
            raise GraphError(f"utterance {index} of the batch: {error}") from error
    return lattices


def _arcs_of(fsas: Any) -> LooseArcs:
    for name, what in (("lm_scores", "the graph's part of scores"), ("aux_labels", "the words")):
        if not hasattr(fsas, name):
            raise GraphError(f"expected an FSA with {name} ({what})")

    def attribute(name: str) -> np.ndarray | None:
        values = getattr(fsas, name, None)
        return None if values is None else values.detach().cpu().numpy()

    src, dst, label, score, row_splits, words = arrays_of_k2(fsas)
    graph, am_scores = attribute("lm_scores"), attribute("am_scores")
    assert graph is not None
    graph = graph.astype(np.float32)
    acoustic = (score.astype(np.float64) - graph).astype(np.float32)
    if am_scores is not None:  # they have what was rounded away when the two were added
        am_scores = am_scores.astype(np.float32)
        acoustic = np.where(am_scores + graph == score, am_scores, acoustic)
    return LooseArcs(
        src=src,
        dst=dst,
        label=label,
        acoustic=acoustic,
        graph=graph,
        row_splits=row_splits,
        words=words,
        starts_token=attribute("starts_token"),
        src_frame=attribute("src_frame"),
    )


def _build(arcs: LooseArcs, num_states: int, num_frames: int | None, is_partial: bool) -> Lattice:
    is_final = arcs.label == FINAL
    rounding = _ROUNDING * np.maximum(1.0, np.abs(arcs.graph))
    wrong = np.flatnonzero(is_final & ~(np.abs(arcs.acoustic) <= rounding))
    if len(wrong):
        raise GraphError(
            f"a final arc has an acoustic score, {arcs.acoustic[wrong[0]]}: do lm_scores belong to "
            "these scores?"
        )
    arcs.acoustic[is_final] = 0.0
    return build_lattice(arcs, num_states, num_frames, is_partial)
