"""The Conformer encoder for inference on CPUs: packed weights, and one compiled call for all its layers.

`PackedEncoder` gives what `ConformerEncoder` gives in evaluation mode, with full context, under a chunk mask,
and in streams, and is called alike. How it is fast is told in docs/speed.md.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from moe_asr.nn.cpu import attention, gemm
from moe_asr.nn.cpu import layers as L
from moe_asr.nn.cpu import subsampling as S
from moe_asr.nn.cpu.distances import Distances, DistanceTable
from moe_asr.nn.cpu.matrices import PRECISIONS, ModuleWeights, PackedMatrices, WeightSource
from moe_asr.nn.cpu.mixture import BLOCK
from moe_asr.nn.cpu.stream_pool import PackedStreamPool
from moe_asr.nn.cpu.team import TEAM
from moe_asr.nn.cpu.workspace import Arena, Arenas
from moe_asr.nn.encoder import ConformerEncoder, ConformerLayer
from moe_asr.nn.packing import FramePacking
from moe_asr.nn.subsampling import output_length, output_lengths, receptive_field

# Work of a call, in multiplications, that is worth another thread: some 0.2 ms, twice what starting one takes
_WORK_OF_THREAD = 1 << 24


@dataclass(frozen=True)
class EncoderShape:
    """What an encoder's weights do not tell by themselves; see `ConformerEncoder`."""

    num_features: int
    dim: int
    num_heads: int
    num_layers: int
    hidden_dim: int
    num_experts: int
    num_chosen: int
    kernel: int = 15
    subsampling: int = 4
    subsampling_channels: int = 32

    @staticmethod
    def of(encoder: ConformerEncoder) -> "EncoderShape":
        """That of an encoder."""
        layer = encoder.layers[0]
        assert isinstance(layer, ConformerLayer)
        mixture, subsampling = layer.feed_forward, encoder.subsampling
        first = subsampling.convolutions[0]
        assert isinstance(first, nn.Conv2d)
        return EncoderShape(
            num_features=subsampling.num_features,
            dim=encoder.dim,
            num_heads=layer.attention.num_heads,
            num_layers=len(encoder.layers),
            hidden_dim=mixture.w1.shape[2],
            num_experts=mixture.num_experts,
            num_chosen=mixture.num_chosen,
            kernel=layer.convolution.kernel,
            subsampling=subsampling.factor,
            subsampling_channels=first.out_channels,
        )


class PackedEncoder(nn.Module):
    """A Conformer encoder for inference on CPUs. It has no parameters: weights are packed when it is made.

    Args:
        shape: of the encoder.
        source: its weights, by the names of `ConformerEncoder`'s ``state_dict``.
        precision: "float32", or "int8": products of 8-bit integers, with weights that have a scale for each
            output channel and inputs that are quantised row by row; the router, norms, softmax, the first
            convolution and depthwise convolutions stay float32.

    Attributes:
        num_threads: of a call; None is torch's number of threads, and one where there is little to do. Never
            more than the processor cores that this process may use.
        num_bytes: of packed weights.
        phases: None, or an int64 array to which calls add the processor cycles that they spent in each of
            `layers.PHASES`.

    Raises:
        ValueError: on another precision.
        KeyError: if the source has not all weights.
    """

    def __init__(
        self, shape: EncoderShape, source: WeightSource, precision: str = "float32"
    ) -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {PRECISIONS}, found {precision!r}")
        self.shape, self.precision, self.dim = shape, precision, shape.dim
        self.num_threads: int | None = None
        self.phases: np.ndarray | None = None
        self._matrices = PackedMatrices(precision)
        self._arrays: list[np.ndarray] = []
        self._subsampling = S.PackedSubsampling(
            source, self._matrices, shape.num_features, shape.subsampling
        )
        self._norm_input = self._norm(source, "norm_input")
        table = [self._layer(source, f"layers.{number}") for number in range(shape.num_layers)]
        biases = [
            [
                self._keep(source.tensor(f"layers.{number}.attention.{name}_bias").numpy())
                for name in ("content", "position")
            ]
            for number in range(shape.num_layers)
        ]
        self._attention_biases = np.array(biases, np.int64)  # addresses, (num_layers, 2)
        self._layers = np.array(table, np.int64)
        self._table = self._matrices.table()
        self._distances = Distances(
            [
                self._position(source, f"layers.{number}.attention.position.weight")
                for number in range(shape.num_layers)
            ],
            shape.num_heads,
        )
        self._arenas = Arenas()
        self.eval()

    @staticmethod
    def from_encoder(encoder: ConformerEncoder, precision: str = "float32") -> "PackedEncoder":
        """Of a torch encoder, which is left as it is."""
        return PackedEncoder(EncoderShape.of(encoder), ModuleWeights(encoder), precision)

    @property
    def num_bytes(self) -> int:
        arrays = sum(array.nbytes for array in self._arrays)
        more = self._distances.num_bytes + self._subsampling.num_bytes
        return self._matrices.num_bytes + arrays + more

    def __getstate__(self) -> dict[str, object]:
        raise TypeError(
            "a PackedEncoder cannot be copied or pickled: its kernels know its weights by address; "
            "make another from the same weights"
        )

    def _keep(self, array: np.ndarray) -> int:
        array = np.array(array, np.float32, order="C")  # a copy: the source's may change
        self._arrays.append(array)
        return array.ctypes.data

    def _norm(self, source: WeightSource, name: str) -> int:
        pair = [source.tensor(f"{name}.weight").numpy(), source.tensor(f"{name}.bias").numpy()]
        return self._keep(np.stack(pair))

    def _router(self, source: WeightSource, name: str) -> int:
        return self._keep(source.tensor(name).numpy()) if self.shape.num_experts > 1 else 0

    @staticmethod
    def _position(source: WeightSource, name: str) -> tuple[Tensor, Tensor | None]:
        weight, scale = source.matrix(name)
        return weight.clone(), None if scale is None else scale.clone()

    def _layer(self, source: WeightSource, name: str) -> list[int]:
        row = [0] * L.LAYER_FIELDS
        for field, norm in (
            (L.MACARON_NORM, "norm_macaron"), (L.ATTENTION_NORM, "norm_attention"),
            (L.CONVOLUTION_NORM, "norm_convolution"), (L.DEPTHWISE_NORM, "convolution.norm"),
            (L.FEED_FORWARD_NORM, "norm_feed_forward"), (L.OUTPUT_NORM, "norm_output"),
        ):  # fmt: skip
            row[field] = self._norm(source, f"{name}.{norm}")
        matrices = self._matrices
        row[L.MACARON_ROUTER] = self._router(source, f"{name}.feed_forward_macaron.router")
        row[L.MACARON_EXPERTS] = matrices.add_experts(source, f"{name}.feed_forward_macaron")
        row[L.QUERY_KEY_VALUE] = matrices.add_linear(source, f"{name}.attention.query_key_value")
        row[L.ATTENTION_OUTPUT] = matrices.add_linear(source, f"{name}.attention.output")
        row[L.EXPAND] = matrices.add_linear(source, f"{name}.convolution.expand")
        depthwise = source.tensor(f"{name}.convolution.depthwise.weight")  # (D, 1, taps)
        row[L.DEPTHWISE] = self._keep(depthwise[:, 0].t().numpy())
        row[L.DEPTHWISE_BIAS] = self._keep(
            source.tensor(f"{name}.convolution.depthwise.bias").numpy()
        )
        row[L.CONVOLUTION_OUTPUT] = matrices.add_linear(source, f"{name}.convolution.output")
        row[L.FEED_FORWARD_ROUTER] = self._router(source, f"{name}.feed_forward.router")
        row[L.FEED_FORWARD_EXPERTS] = matrices.add_experts(source, f"{name}.feed_forward")
        return row

    @property
    def head_dim(self) -> int:
        return self.shape.dim // self.shape.num_heads

    @property
    def factor(self) -> int:
        """Feature frames of an encoder frame."""
        return self.shape.subsampling

    def train(self, mode: bool = True) -> "PackedEncoder":
        """There is only evaluation: `RuntimeError` if ``mode``."""
        if mode:
            raise RuntimeError("a PackedEncoder cannot be trained: it has no parameters")
        super().train(False)
        return self

    @torch.no_grad()
    def forward(
        self,
        features: Tensor,
        feature_lengths: Tensor,
        chunk_size: int = -1,
        left_chunks: int = -1,
    ) -> tuple[Tensor, Tensor, FramePacking]:
        """Encodes whole utterances, as `ConformerEncoder.forward`; padding costs nothing.

        Raises:
            ValueError: on features that are not on the CPU, have not the encoder's number of bins, or are
                fewer than their lengths say.
        """
        if len(features) != len(feature_lengths):
            raise ValueError(f"found {len(features)} features and {len(feature_lengths)} lengths")
        lengths = output_lengths(feature_lengths, self.factor)
        num_frames = output_length(features.shape[1], self.factor)
        out = torch.zeros(len(features), num_frames, self.dim)
        counts = [int(length) for length in lengths]
        present = [index for index, count in enumerate(counts) if count > 0]
        if present:
            inputs = [features[index, : int(feature_lengths[index])] for index in present]
            left = left_chunks * chunk_size if chunk_size > 0 and left_chunks >= 0 else -1
            encoded = self._encode_whole(inputs, [counts[i] for i in present], chunk_size, left)
            for index, frames in zip(present, encoded, strict=True):
                out[index, : len(frames)] = frames
        return out, lengths, FramePacking()

    def _encode_whole(
        self, inputs: Sequence[Tensor], counts: Sequence[int], chunk_size: int, left: int
    ) -> list[Tensor]:
        before = self.shape.kernel - 1
        sizes = [
            attention.cache_bytes(self.shape.num_heads, self.head_dim, count) for count in counts
        ]
        caches = np.empty(sum(sizes) + 64, np.uint8)
        start = (caches.ctypes.data + 63) // 64 * 64
        segments = np.zeros((len(counts), attention.SEGMENT_FIELDS), np.int64)
        segments[:, attention.CACHE] = start + np.cumsum([0, *sizes[:-1]])
        segments[:, attention.RING] = counts
        segments[:, attention.CHUNK], segments[:, attention.LEFT] = chunk_size, left
        rows = np.add(counts, before)
        seen = np.zeros((int(rows.sum()), self.dim), np.float32)
        histories = np.zeros((len(counts), L.HISTORY_FIELDS), np.int64)
        histories[:, L.HISTORY] = seen.ctypes.data + 4 * self.dim * (np.cumsum(rows) - rows)
        histories[:, L.HISTORY_ROWS] = rows
        encoded = self.run(inputs, counts, segments, histories)
        return list(encoded.split(list(counts)))

    def run(
        self,
        inputs: Sequence[Tensor],
        counts: Sequence[int],
        segments: np.ndarray,
        histories: np.ndarray,
        cache_layer_bytes: int = 0,
        history_layer_bytes: int = 0,
        distances: DistanceTable | None = None,
    ) -> Tensor:
        """Encodes frames of several utterances or streams in one call.

        Args:
            inputs: of each (T, F) features, at least what ``counts`` frames need.
            counts: of each, its encoder frames, at least 1.
            segments: (N, attention.SEGMENT_FIELDS) int64, but for FIRST_ROW and NUM_FRAMES.
            histories: (N, layers.HISTORY_FIELDS) int64.
            cache_layer_bytes, history_layer_bytes: from one layer's caches to the next's.
            distances: what the segments need; None: the encoder's own.

        Returns:
            (sum of counts, D).
        """
        shape = self.shape
        num_frames = sum(counts)
        features = [
            self._check(one, count).detach().to(torch.float32).contiguous()
            for one, count in zip(inputs, counts, strict=True)
        ]
        starts = np.cumsum([0, *counts[:-1]])
        segments[:, attention.FIRST_ROW], segments[:, attention.NUM_FRAMES] = starts, counts
        heard = np.zeros((len(counts), S.SEGMENT_FIELDS), np.int64)
        for row, one in enumerate(features):
            frames = receptive_field(shape.subsampling) + (counts[row] - 1) * shape.subsampling
            heard[row] = one.data_ptr(), 4 * shape.num_features, frames, starts[row]
        ring = int(segments[:, attention.RING].max())
        if distances is None:
            distances = self._distances.get(attention.reach(segments))
        of_attention = np.zeros((shape.num_layers, attention.LAYER_FIELDS), np.int64)
        of_attention[:, attention.CONTENT_BIAS] = self._attention_biases[:, 0]
        of_attention[:, attention.POSITION_BIAS] = self._attention_biases[:, 1]
        of_attention[:, attention.DISTANCES] = [one.ctypes.data for one in distances.arrays]
        of_attention[:, attention.DISTANCE_STRIDE] = distances.stride
        of_attention[:, attention.ZERO_INDEX] = distances.zero_index
        of_attention[:, attention.CACHE_OFFSET] = np.arange(shape.num_layers) * cache_layer_bytes
        of_attention[:, attention.NUM_HEADS] = shape.num_heads
        of_attention[:, attention.HEAD_DIM] = self.head_dim
        num_threads = self._choose_threads(num_frames)
        call = np.zeros(L.CALL_FIELDS, np.int64)
        call[L.NUM_FRAMES], call[L.DIM], call[L.TAPS] = num_frames, shape.dim, shape.kernel
        call[L.NUM_EXPERTS], call[L.NUM_CHOSEN] = shape.num_experts, shape.num_chosen
        call[L.HISTORY_LAYER_BYTES] = history_layer_bytes
        scratch = attention.scratch_bytes(self.head_dim, ring)
        call[L.SCRATCH_STRIDE] = (max(scratch, gemm.SCRATCH_BYTES) + 127) // 64 * 64
        subsampling = self._subsampling.work_bytes(
            [int(n) for n in heard[:, S.NUM_FRAMES]], num_threads
        )
        with self._arenas.borrow() as arena:
            work, sampling = self._lay_out(
                arena, num_frames, num_threads * int(call[L.SCRATCH_STRIDE]), subsampling
            )
            TEAM.run(
                L.encode, num_threads, self._subsampling.plan, heard, sampling, self._norm_input,
                self._layers, of_attention, self._table, segments, histories, work, call,
            )  # fmt: skip
            if self.phases is not None:
                self.phases += arena.view(int(work[L.SPENT]), np.int64, L.NUM_PHASES)
            out = arena.view(int(work[L.X]), np.float32, num_frames * shape.dim)
            return torch.from_numpy(out.reshape(num_frames, shape.dim).copy())

    def _check(self, features: Tensor, count: int) -> Tensor:
        """Features, if the kernels can read those of ``count`` frames at their address."""
        num_features = self.shape.num_features
        frames = receptive_field(self.factor) + (count - 1) * self.factor
        if features.device.type != "cpu":
            raise ValueError(f"features must be on the CPU, found them on {features.device}")
        if len(features) < frames or features.shape[1:] != (num_features,):
            raise ValueError(
                f"expected at least {frames} frames of {num_features} features, "
                f"found {tuple(features.shape)}"
            )
        return features

    def _choose_threads(self, num_frames: int) -> int:
        wanted = torch.get_num_threads() if self.num_threads is None else self.num_threads
        if hasattr(os, "sched_getaffinity"):  # threads that share a core wait for one another
            wanted = min(wanted, len(os.sched_getaffinity(0)))
        shape = self.shape
        of_layer = 6 * shape.dim**2 + 4 * shape.num_chosen * shape.dim * shape.hidden_dim
        work = num_frames * shape.num_layers * of_layer
        return max(min(wanted, 1 + work // _WORK_OF_THREAD), 1)

    def _lay_out(
        self, arena: Arena, num_frames: int, scratch: int, subsampling: int
    ) -> tuple[np.ndarray, int]:
        """The work memory of a call: its addresses, and that of the subsampling's."""
        shape = self.shape
        dim, assignments = shape.dim, num_frames * shape.num_chosen
        rows = BLOCK + min(BLOCK, assignments)  # the second block begins after a whole first
        sizes = np.zeros(L.WORK_FIELDS + 1, np.int64)
        sizes[L.X] = sizes[L.NORMED] = sizes[L.NARROW] = 4 * num_frames * dim
        sizes[L.BYTES] = num_frames * ((dim + 3) // 4 * 4)
        sizes[L.SCALES] = sizes[L.ZEROS] = sizes[L.ONES] = 4 * num_frames
        sizes[L.WIDE] = 12 * num_frames * dim
        sizes[L.EXPERTS] = sizes[L.FRAMES] = sizes[L.IDENTITY] = 8 * assignments
        sizes[L.GATES] = sizes[L.ROW_GATES] = 4 * assignments
        sizes[L.STARTS] = 8 * (shape.num_experts + 1)
        sizes[L.HIDDEN] = 4 * rows * shape.hidden_dim
        sizes[L.HIDDEN_BYTES] = rows * ((shape.hidden_dim + 3) // 4 * 4)
        sizes[L.HIDDEN_SCALES] = sizes[L.HIDDEN_ZEROS] = 4 * assignments
        sizes[L.SCRATCH] = scratch
        sizes[L.SPENT] = 8 * L.NUM_PHASES
        sizes[L.WORK_FIELDS] = subsampling
        addresses = arena.lay_out([int(size) for size in sizes])
        arena.view(addresses[L.IDENTITY], np.int64, assignments)[:] = np.arange(assignments)
        arena.view(addresses[L.ONES], np.float32, num_frames)[:] = 1.0
        arena.view(addresses[L.SPENT], np.int64, L.NUM_PHASES)[:] = 0
        return np.array(addresses[: L.WORK_FIELDS], np.int64), addresses[L.WORK_FIELDS]

    def chunk_distances(self, chunk_size: int, ring: int) -> DistanceTable:
        """What the last ``chunk_size`` frames of a ring need, and no more: a stream reads all of it."""
        return self._distances.of(chunk_size, ring)

    def new_pool(self, num_slots: int, chunk_size: int, left_chunks: int) -> PackedStreamPool:
        """Caches of streams that this encoder encodes; see `StreamPool`."""
        return PackedStreamPool(self, num_slots, chunk_size, left_chunks)
