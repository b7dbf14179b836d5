"""k2, imported where it is needed and only there; FSAs as arrays and back."""

import importlib
import importlib.metadata
import re
from typing import Any

import numpy as np

from moe_asr.errors import MissingDependencyError


def import_k2() -> Any:
    """The ``k2`` module.

    Raises:
        MissingDependencyError: saying how to get it, if it is absent or does not load.
    """
    try:
        return importlib.import_module("k2")
    except (ImportError, OSError) as error:  # OSError: built for another torch
        raise MissingDependencyError(
            f"this needs k2, which cannot be imported ({error}). `make env` installs it (1.23.4, "
            "for Python 3.10 and torch 1.13.1); for newer torch, take the k2 wheel built for "
            "exactly that torch version, see https://k2-fsa.github.io/k2/installation/"
        ) from error


def k2_version() -> tuple[int, ...]:
    """The numbers of k2's version, (1, 23, 4) for instance; `MissingDependencyError` if it is absent."""
    import_k2()
    text = importlib.metadata.version("k2")
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


def arrays_of_k2(fsa: Any) -> tuple[np.ndarray, ...]:
    """A single ``k2.Fsa`` with ``aux_labels`` (a tensor, or ragged) as arrays on the CPU.

    Returns:
        src, dst, label (A,) int32, score (A,) float32, and the words as row splits (A + 1,) int32
        and values (W,) int32, without 0 and -1 (k2's fillers of arcs without words and final arcs).
    """
    import torch

    arcs = fsa.arcs.values().cpu().numpy()
    aux = fsa.aux_labels
    if isinstance(aux, torch.Tensor):
        words = aux.cpu().numpy()
        row_splits = np.arange(len(words) + 1, dtype=np.int32)
    else:
        words = aux.values.cpu().numpy()
        row_splits = aux.shape.row_splits(1).cpu().numpy()
    row_splits, words = drop_words(row_splits, words, (words == 0) | (words == -1))
    src, dst, label, score = (np.ascontiguousarray(column) for column in arcs.T)
    return src, dst, label, score.view(np.float32), row_splits, words


def drop_words(
    row_splits: np.ndarray, words: np.ndarray, dropped: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Ragged words (row splits and values, int32) without those marked in ``dropped`` (W,) bool."""
    kept_before = np.concatenate([[0], np.cumsum(~dropped)])
    return kept_before[row_splits].astype(np.int32), words[~dropped].astype(np.int32)


def k2_of_arrays(
    src: np.ndarray,
    dst: np.ndarray,
    label: np.ndarray,
    score: np.ndarray,
    row_splits: np.ndarray,
    words: np.ndarray,
    device: str = "cpu",
) -> Any:
    """A single ``k2.Fsa`` with ragged ``aux_labels``; arrays as `arrays_of_k2` gives them.

    Arcs must be sorted by src; the highest state is the final one. Of no arcs there are no states.
    """
    import torch

    k2 = import_k2()
    if len(src) == 0:
        fsa = k2.connect(k2.Fsa.from_str("1")).to(device)  # no array gives k2 an FSA without states
    else:
        arcs = np.stack([src, dst, label, score.astype(np.float32).view(np.int32)], axis=1)
        fsa = k2.Fsa(torch.from_numpy(arcs.astype(np.int32)).to(device))
    shape = k2.ragged.create_ragged_shape2(
        torch.from_numpy(row_splits.astype(np.int32)).to(device), None, len(words)
    )
    values = torch.from_numpy(words.astype(np.int32)).to(device)
    fsa.aux_labels = k2.RaggedTensor(shape, values)
    return fsa
