"""The state of the random generators that training draws from."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int) -> None:
    """Seeds Python's, numpy's global and torch's generators (CPU and all GPUs)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def preserved_random_state(seed: int | None = None) -> Iterator[None]:
    """Whatever the block draws from the CPU generators, they continue afterwards as if it had not.

    Data loading and validation run inside it: they then cannot shift the dropout masks of the
    training steps, so a run that was resumed in mid-epoch sees the same ones. A ``seed`` seeds all
    generators for the block, GPU ones included.
    """
    seeds_cuda = seed is not None and torch.cuda.is_initialized()
    cuda = torch.cuda.get_rng_state_all() if seeds_cuda else []
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        if seed is not None:
            seed_everything(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


def get_random_state() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state of all generators as (tensors by name, values for JSON)."""
    tensors = {"torch": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        for i, state in enumerate(torch.cuda.get_rng_state_all()):
            tensors[f"cuda.{i}"] = state
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    version, words, python_gauss = random.getstate()
    return tensors, {
        "python": [version, list(words), python_gauss],
        "numpy": [kind, [int(key) for key in keys], position, has_gauss, gauss],
    }


def set_random_state(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Puts back what `get_random_state` gave. GPUs that the state does not know are left alone."""
    version, words, python_gauss = values["python"]
    random.setstate((version, tuple(words), python_gauss))
    kind, keys, position, has_gauss, gauss = values["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(tensors["torch"])
    if torch.cuda.is_initialized():
        for i in range(torch.cuda.device_count()):
            if f"cuda.{i}" in tensors:
                torch.cuda.set_rng_state(tensors[f"cuda.{i}"], i)
