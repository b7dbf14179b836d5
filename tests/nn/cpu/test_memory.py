"""Kernels reach no memory but theirs: random encoders with pages around every array that may not be touched.

Kernels know memory by address, so that nothing else would notice. The search is a process of its own, as one
read or write outside ends it. What was not written before it is read is NaN, and would be seen in the result.
"""

import ctypes
import mmap
import multiprocessing
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moe_asr.nn.cpu import (
    attention,
    distances,
    encoder,
    matrices,
    stream_pool,
    subsampling,
    workspace,
)
from moe_asr.nn.cpu.encoder import EncoderShape, PackedEncoder
from moe_asr.nn.encoder import ConformerEncoder, MixtureOptions

PAGE, NO_ACCESS = mmap.PAGESIZE, 0
NUM_ENCODERS = 24


def guarded(num_bytes: int, at_end: bool) -> np.ndarray:
    """(num_bytes,) uint8 of ones, between two pages that end the process when they are touched.

    It begins right after the one, or ends right before the other (at a multiple of 8 bytes).
    """
    size = -(-num_bytes // PAGE) * PAGE
    memory = mmap.mmap(-1, size + 2 * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None).mprotect
    for page in (start, start + PAGE + size):
        assert protect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), NO_ACCESS) == 0
    offset = PAGE + (size - -(-num_bytes // 8) * 8 if at_end else 0)
    array = np.frombuffer(memory, np.uint8, size + PAGE - offset, offset)[:num_bytes]
    array[:] = 0xFF
    return array


class GuardedNumpy:
    """numpy, whose new arrays are guarded."""

    def __init__(self, at_end: bool) -> None:
        self.at_end = at_end

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def empty(self, shape: int | Sequence[int], dtype: Any = float) -> np.ndarray:
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return guarded(num_bytes, self.at_end).view(dtype).reshape(shape)

    def zeros(self, shape: int | Sequence[int], dtype: Any = float) -> np.ndarray:
        array = self.empty(shape, dtype)
        array[:] = 0
        return array

    def array(self, values: Any, dtype: Any = None, order: Any = None) -> np.ndarray:
        values = np.array(values, dtype, order=order)
        array = self.empty(values.shape, values.dtype)
        array[:] = values
        return array


class GuardedArena(workspace.Arena):
    """An arena whose parts are guarded, each on its own."""

    at_end = False

    def lay_out(self, sizes: Sequence[int]) -> list[int]:
        parts = [guarded(max(size, 1), self.at_end) for size in sizes]
        self.parts = {part.ctypes.data: part for part in parts}
        return list(self.parts)

    def view(self, address: int, dtype: type, count: int) -> np.ndarray:
        return self.parts[address][: count * np.dtype(dtype).itemsize].view(dtype)


def _random_encoder(rng: random.Random) -> ConformerEncoder:
    heads, head_dim = rng.choice([2, 4, 6]), rng.choice([1, 3, 7, 8, 16, 17, 33])
    num_experts = rng.choice([1, 2, 8, 65])
    num_chosen = rng.choice([1, min(2, num_experts), min(8, num_experts)])
    mixture = MixtureOptions(rng.choice([1, 3, 16, 31, 33, 64]), num_experts, num_chosen)
    module = ConformerEncoder(
        rng.choice([17, 23, 40]), heads * head_dim, heads, rng.choice([1, 2]), mixture,
        kernel=rng.choice([1, 2, 5, 15]), subsampling=rng.choice([4, 6, 8]),
        subsampling_channels=rng.choice([1, 2, 5, 16, 33]),
    ).eval()  # fmt: skip
    for name, parameter in module.named_parameters():
        if "norm" in name or name.endswith("bias"):
            mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            torch.nn.init.normal_(parameter, mean, 0.3)
    return module


def _compare(seed: int) -> None:
    """A random encoder and its packed ones, on random utterances and streams."""
    rng = random.Random(seed)
    at_end = rng.random() < 0.6
    numpy = GuardedNumpy(at_end)
    for module in (attention, encoder, matrices, stream_pool, subsampling):
        module.np = numpy  # type: ignore[attr-defined]
    GuardedArena.at_end = at_end
    workspace.Arena = GuardedArena  # type: ignore[misc]
    workspace.Slabs.take = lambda self, num_bytes: guarded(num_bytes, at_end)  # type: ignore[method-assign]
    distances._LARGEST_RANGE = rng.choice(
        [0, 2048]
    )  # a table for what the call needs, to the frame
    subsampling._BLOCK_BYTES = rng.choice([8 << 20, 20000])
    torch.manual_seed(seed)
    reference = _random_encoder(rng)
    num_features = reference.subsampling.num_features
    lengths = torch.tensor([rng.randint(1, 300) for _ in range(rng.choice([1, 3]))])
    features = torch.randn(len(lengths), int(lengths.max()), num_features)
    chunk, left = rng.choice([-1, 1, 4, 5, 12, 13]), rng.choice([-1, 0, 2])
    print(seed, EncoderShape.of(reference), lengths.tolist(), chunk, left, at_end, flush=True)
    with torch.no_grad():
        expected, _, _ = reference(features, lengths, chunk, left)
    for precision in ("float32", "int8"):
        packed = PackedEncoder.from_encoder(reference, precision)
        outs = []
        for size in (1, 3):
            packed._choose_threads = lambda _, size=size: size  # type: ignore[method-assign]
            outs.append(packed(features, lengths, chunk, left)[0])
        assert torch.equal(*outs)
        assert torch.isfinite(outs[0]).all()
        if precision == "float32":
            torch.testing.assert_close(outs[0], expected, rtol=1e-3, atol=1e-3)
        if chunk < 1 or left < 0:
            continue
        pool = packed.new_pool(2, chunk, left)
        slots = [pool.open(), pool.open()]
        rest = torch.randn(2, pool.window + rng.choice([1, 9]) * pool.step, num_features)
        whole = packed(rest, torch.tensor([rest.shape[1]] * 2), chunk, left)[0]
        given = []
        while rest.shape[1]:
            _, used = pool.chunk_frames(rest.shape[1], finished=True)
            given.append(torch.stack(pool.encode(slots, list(rest))))  # type: ignore[arg-type]
            rest = rest[:, used:]
        streamed = torch.cat(given, 1)
        assert torch.isfinite(streamed).all()
        if precision == "float32":
            torch.testing.assert_close(streamed, whole, rtol=1e-3, atol=1e-3)


def _search(log: str) -> None:
    with Path(log).open("w") as file:
        sys.stdout = sys.stderr = file
        for seed in range(NUM_ENCODERS):
            _compare(seed)


@pytest.mark.skipif(sys.platform != "linux", reason="protects memory as Linux does")
def test_nothing_else_is_touched(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = multiprocessing.get_context("fork").Process(target=_search, args=(str(log),))
    child.start()
    child.join()
    assert child.exitcode == 0, log.read_text()[-3000:]
