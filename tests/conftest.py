"""For every test: fixed seeds, one torch thread, and what happens where k2 is not installed."""

import importlib.util
import os
import random
import types
from collections.abc import Iterator

os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest
import torch
from hypothesis import register_random, settings

SEED = 20240416
K2_MISSING = "k2 is not installed here (`make test` runs this test)"

torch.set_num_threads(1)

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


class TorchRandom:
    """torch's generator, as hypothesis seeds and restores it around each example."""

    seed = staticmethod(torch.manual_seed)
    getstate = staticmethod(torch.get_rng_state)
    setstate = staticmethod(torch.set_rng_state)


TORCH_RANDOM = TorchRandom()  # hypothesis keeps a weak reference only
register_random(TORCH_RANDOM)  # type: ignore[arg-type]


def k2_is_installed() -> bool:
    """Whether k2 is there at all: one that is there but broken must fail tests, not skip them."""
    return importlib.util.find_spec("k2") is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if k2_is_installed():
        return
    for item in items:
        if item.get_closest_marker("k2"):
            item.add_marker(pytest.mark.skip(reason=K2_MISSING))


@pytest.fixture
def requires_k2() -> types.ModuleType:
    """The k2 module; skips the test where it is not installed. `pytest.mark.k2` skips likewise."""
    if not k2_is_installed():
        pytest.skip(K2_MISSING)
    return importlib.import_module("k2")


@pytest.fixture(autouse=True)
def seed() -> Iterator[int]:
    """Seeds Python, numpy and torch before each test, and gives back their states after it."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)
    yield SEED
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
