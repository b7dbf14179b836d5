"""The order of packed weights against its definition, for sources of every layout."""

import numpy as np
import pytest

from moe_asr.nn.cpu.packing import pack_float32, pack_int8
from moe_asr.nn.cpu.simd import PANEL

SHAPES = [
    (1, 1),
    (3, PANEL + 1),
    (64, 2 * PANEL),
    (66, 2 * PANEL + 4),
    (41, PANEL - 1),
    (0, 3),
    (4, 0),
]


def layouts(values: np.ndarray) -> dict[str, np.ndarray]:
    """The same matrix, laid out in memory in different ways."""
    rows, columns = np.repeat(values, 2, 0), np.repeat(values, 3, 1)
    odd = np.zeros(values.size + 1, values.dtype)[1:].reshape(values.shape[::-1])
    odd[:] = values.T
    return {
        "rows": values,
        "columns": np.asfortranarray(values),
        "every other row": rows[::2],
        "every third column": columns[:, ::3],
        "columns of a wider one": np.asfortranarray(columns)[:, ::3],
        "a part of longer columns": np.asfortranarray(np.vstack([values] * 2))[: len(values)],
        "backwards": values[::-1, ::-1].copy()[::-1, ::-1],
        "columns at an odd address": odd.T,
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_float32(shape: tuple[int, int]) -> None:
    inputs, outputs = shape
    num_panels = -(-outputs // PANEL)
    values = np.random.randn(*shape).astype(np.float32)
    padded = np.zeros((inputs, num_panels * PANEL), np.float32)
    padded[:, :outputs] = values
    expected = np.concatenate(
        [padded[:, PANEL * p : PANEL * (p + 1)].reshape(-1) for p in range(num_panels)] or [[]]
    )
    for name, weight in layouts(values).items():
        found = np.full(len(expected), np.nan, np.float32)
        pack_float32(weight, found)
        np.testing.assert_array_equal(found, expected, name)


@pytest.mark.parametrize("shape", SHAPES)
def test_int8(shape: tuple[int, int]) -> None:
    inputs, outputs = shape
    fours, num_panels = -(-inputs // 4), -(-outputs // PANEL)
    values = np.random.randint(-127, 128, shape).astype(np.int8)
    expected = np.zeros((num_panels, fours, PANEL, 4), np.int8)
    for (k, n), value in np.ndenumerate(values):
        expected[n // PANEL, k // 4, n % PANEL, k % 4] = value
    total = np.zeros(num_panels * PANEL, np.float32)
    total[:outputs] = values.sum(0, dtype=np.int64)
    for name, weight in layouts(values).items():
        found = np.full(expected.size, 77, np.int8)
        sums = np.full(num_panels * PANEL, np.nan, np.float32)
        pack_int8(weight, found, sums)
        np.testing.assert_array_equal(found, expected.reshape(-1), name)
        np.testing.assert_array_equal(sums, total, name)
