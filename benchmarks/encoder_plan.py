"""Which cells there are in a table of the encoder's speed, and how they are built.

Offline: one utterance of random features with full context. Streams: the next chunk of each, with the left
context that the recogniser keeps by default, full, as it is after the first seconds; all streams have their
chunk at the same time, so that they share the call.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.encoder_cells import OURS, REFERENCE, Cell, Key
from benchmarks.encoder_work import Call, Routing, count_work
from benchmarks.moe_reference import LayerCache, PlainEncoder
from benchmarks.router_loads import even_load, set_loads
from moe_asr.model.config import ModelConfig, preset
from moe_asr.model.meta import build_on_meta
from moe_asr.nn.cpu.encoder import PackedEncoder
from moe_asr.nn.cpu.layers import NUM_PHASES
from moe_asr.nn.encoder import ConformerEncoder, MixtureOptions
from moe_asr.nn.subsampling import chunk_feature_frames, output_length
from moe_asr.recognizer.options import RecognizerOptions

FRAMES_PER_SECOND = 100
MODES = ("offline10", "offline30", "chunk4", "chunk8", "chunk16", "chunk32")
STREAMS = (1, 4, 16)
PRECISIONS = {"fp32": "float32", "int8": "int8"}
NUM_WINDOWS = 3  # chunks of a stream that are encoded in turns once its left context is full
_LOAD_FRAMES = 2003  # features that routers are fitted to


@dataclass(frozen=True)
class Plan:
    """Which cells.

    Attributes:
        presets, precisions, modes, streams, threads: all combinations of these; offline, one utterance is one
            stream whatever ``streams`` say.
        references: (preset, mode, streams) that the plain encoder is measured in, too, with all ``threads``.
        seed: of weights and features.
    """

    presets: Sequence[str]
    precisions: Sequence[str]
    modes: Sequence[str]
    streams: Sequence[int]
    threads: Sequence[int]
    references: frozenset[tuple[str, str, int]] = frozenset()
    seed: int = 0

    def build(self, shares: Sequence[float] | None = None) -> list[Cell]:
        """All cells, one preset after the other; of each only what is packed stays in memory.

        Args:
            shares: load of the experts, see `set_loads`; None: the same for all.
        """
        sizes = {name: build_on_meta(preset(name)).num_parameters() for name in self.presets}
        largest_first = sorted(self.presets, key=lambda name: -sizes[name])  # building takes twice
        cells = {
            name: _Builder(self, name).build(shares)
            for name in tqdm(largest_first, desc="building", unit="model")
        }
        return [cell for name in self.presets for cell in cells[name]]


def build_encoder(config: ModelConfig) -> ConformerEncoder:
    """With random weights, by torch's generator."""
    mixture = MixtureOptions(config.hidden_dim, config.num_experts, config.num_chosen)
    encoder = ConformerEncoder(
        config.num_features, config.dim, config.num_heads, config.encoder_layers, mixture,
        config.kernel, config.subsampling, config.subsampling_channels,
    )  # fmt: skip
    return encoder.eval()


class _Builder:
    """The cells of one preset."""

    def __init__(self, plan: Plan, name: str) -> None:
        self.plan, self.name, self.config = plan, name, preset(name)
        self.encoder: ConformerEncoder

    @torch.no_grad()
    def build(self, shares: Sequence[float] | None) -> list[Cell]:
        torch.manual_seed(self.plan.seed)
        threads = torch.get_num_threads()
        torch.set_num_threads(os.cpu_count() or 1)
        self.encoder = build_encoder(self.config)
        if self.config.num_experts > 1:
            if shares is None:
                shares = even_load(self.config.num_experts)
            set_loads(self.encoder, self._features(1, _LOAD_FRAMES), shares)
        packed = {
            precision: PackedEncoder.from_encoder(self.encoder, PRECISIONS[precision])
            for precision in self.plan.precisions
        }
        uses_reference = any(self.name == name for name, _, _ in self.plan.references)
        plain = PlainEncoder(self.encoder) if uses_reference else None
        if self.config.num_experts == 1:  # nothing is routed: its shapes are enough
            self.encoder = cast(ConformerEncoder, build_on_meta(self.config).encoder)
        cells: list[Cell] = []
        for mode in tqdm(self.plan.modes, desc=self.name, unit="mode", leave=False):
            kind = self._offline if mode.startswith("offline") else self._streams
            cells += kind(mode, packed, plain)
        torch.set_num_threads(threads)
        return cells

    def _features(self, num: int, frames: int) -> Tensor:
        return torch.randn(num, frames, self.config.num_features)

    def _route(self, features: Tensor, chunk: int = -1, left_chunks: int = -1) -> Routing:
        if self.config.num_experts == 1:
            return Routing({})
        return Routing.of(self.encoder, features, chunk, left_chunks)

    def _offline(
        self, mode: str, packed: dict[str, PackedEncoder], plain: PlainEncoder | None
    ) -> list[Cell]:
        subsampling = self.encoder.subsampling
        frames = int(mode.removeprefix("offline")) * FRAMES_PER_SECOND
        frames += subsampling.receptive_field - subsampling.factor
        features, lengths = self._features(1, frames), torch.tensor([frames])
        cells = _CellsOfCall(
            self, mode, Call(1, frames), self._route(features), [slice(None)]
        )  # fmt: skip
        for precision, encoder in packed.items():
            cells.add_ours(precision, encoder, partial(encoder, features, lengths))
        if plain is not None and (self.name, mode, 1) in self.plan.references:
            cells.add_reference(partial(plain, features, lengths))
        return cells.cells

    def _streams(
        self, mode: str, packed: dict[str, PackedEncoder], plain: PlainEncoder | None
    ) -> list[Cell]:
        chunk = int(mode.removeprefix("chunk"))
        left_chunks = RecognizerOptions(chunk_size=chunk).num_left_chunks
        window, step = chunk_feature_frames(chunk, self.config.subsampling)
        most, left_frames = max(self.plan.streams), left_chunks * chunk
        num_chunks = left_chunks + NUM_WINDOWS
        features = self._features(most, window + (num_chunks - 1) * step)
        windows = [features[:, n * step : n * step + window] for n in range(num_chunks)]
        first, timed = windows[:left_chunks], windows[left_chunks:]
        routing = self._route(features, chunk, left_chunks)
        spans = [slice(n * chunk, (n + 1) * chunk) for n in range(left_chunks, num_chunks)]
        pools = {p: _Pool(one, first, chunk, left_chunks) for p, one in packed.items()}
        referenced = [n for n in self.plan.streams if (self.name, mode, n) in self.plan.references]
        caches = None
        for one in first if plain is not None and referenced else []:
            assert plain is not None
            _, caches = plain.encode_chunk(one[: max(referenced)], caches, left_frames)
        cells: list[Cell] = []
        for streams in self.plan.streams:
            call = Call(streams, window, left_frames)
            of_call = _CellsOfCall(self, mode, call, routing, spans)
            for precision, pool in pools.items():
                of_call.add_ours(precision, pool.encoder, pool.next_chunk(timed, streams))
            if plain is not None and caches is not None and streams in referenced:
                of_call.add_reference(_plain_streams(plain, caches, timed, streams, left_frames))
            cells += of_call.cells
        return cells


class _CellsOfCall:
    """The cells of one kind of call of a model, of all precisions, engines and numbers of threads.

    Args:
        spans: frames of each of some calls, in ``routing``.
    """

    def __init__(
        self, builder: _Builder, mode: str, call: Call, routing: Routing, spans: Sequence[slice]
    ) -> None:
        self._encoder, self._call = builder.encoder, call
        self._threads, self._name, self._mode = builder.plan.threads, builder.name, mode
        streams = call.num_streams
        self._used = routing.count_used(streams, spans)
        num_experts = builder.config.num_experts
        self._load = routing.load(num_experts, streams, spans) if routing.chosen else None
        subsampling = self._encoder.subsampling
        frames = output_length(call.feature_frames, subsampling.factor)
        self._audio_seconds = streams * frames * subsampling.factor / FRAMES_PER_SECOND
        self.cells: list[Cell] = []

    def add_ours(
        self, precision: str, encoder: PackedEncoder, run: Callable[[], object]
    ) -> None:  # fmt: skip
        """``run`` calls the encoder."""
        for threads in self._threads:
            phases = np.zeros(NUM_PHASES, np.int64)
            self._add(
                OURS, precision, threads, _with_options(encoder, threads, phases, run), phases
            )

    def add_reference(self, run: Callable[[], object]) -> None:
        """``run`` calls the plain encoder."""
        for threads in self._threads:
            self._add(REFERENCE, "fp32", threads, run, None)

    def _add(
        self, engine: str, precision: str, threads: int, run: Callable[[], object],
        phases: np.ndarray | None,
    ) -> None:  # fmt: skip
        key = Key(self._name, precision, self._mode, self._call.num_streams, threads, engine)
        work = count_work(self._encoder, self._call, precision, self._used)
        self.cells.append(
            Cell(key, run, self._audio_seconds, work, self._load, phases=phases)
        )  # fmt: skip


def _with_options(
    encoder: PackedEncoder, threads: int, phases: np.ndarray, run: Callable[[], object]
) -> Callable[[], object]:
    """``run`` with so many threads of the encoder, and its cycles added to ``phases``."""

    def call() -> object:
        encoder.num_threads, encoder.phases = threads, phases
        return run()

    return call


class _Pool:
    """Streams of a packed encoder that have had the ``first`` chunks, each (N, W, F)."""

    def __init__(
        self, encoder: PackedEncoder, first: Sequence[Tensor], chunk: int, left_chunks: int
    ) -> None:
        self.encoder = encoder
        num = len(first[0])
        self._pool = encoder.new_pool(num, chunk, left_chunks)
        opened = [self._pool.open() for _ in range(num)]
        self._slots = [slot for slot in opened if slot is not None]
        for one in first:
            self._pool.encode(self._slots, list(one))

    def next_chunk(self, windows: Sequence[Tensor], streams: int) -> Callable[[], object]:
        """Encodes one chunk of the first ``streams``, each time another one."""
        batches = [list(one[:streams]) for one in windows]
        slots, number = self._slots[:streams], -1

        def run() -> object:
            nonlocal number
            number = (number + 1) % len(batches)
            return self._pool.encode(slots, batches[number])

        return run


def _plain_streams(
    plain: PlainEncoder, caches: list[LayerCache], windows: Sequence[Tensor], streams: int, left: int
) -> Callable[[], object]:  # fmt: skip
    """`_Pool.next_chunk` of the plain encoder."""
    caches = [cache.streams(streams) for cache in caches]
    batches = [one[:streams].contiguous() for one in windows]
    number = -1

    def run() -> object:
        nonlocal caches, number
        number = (number + 1) % len(batches)
        x, caches = plain.encode_chunk(batches[number], caches, left)
        return x

    return run
