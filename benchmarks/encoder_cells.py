"""The cells of the encoder's speed table: a model, a precision, a mode, streams, threads; measured in turns.

Offline: one utterance of random features with full context. Streams: the next chunk of each, with the left
context that the recogniser keeps by default, full, as it is after the first seconds; all streams have their
chunk at the same time, so that they share the call.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.encoder_work import Call, Load, Routing, Work, count_work
from benchmarks.moe_reference import LayerCache, PlainEncoder
from benchmarks.roofline import Peaks, Probe
from benchmarks.router_loads import even_load, set_loads
from moe_asr.model.config import ModelConfig, preset
from moe_asr.nn.cpu.encoder import PackedEncoder
from moe_asr.nn.encoder import ConformerEncoder, MixtureOptions
from moe_asr.nn.subsampling import chunk_feature_frames, output_length
from moe_asr.recognizer.options import RecognizerOptions

FRAMES_PER_SECOND = 100
OFFLINE, CHUNKS = (10, 30), (4, 8, 16, 32)
MODES = (*(f"offline{n}" for n in OFFLINE), *(f"chunk{n}" for n in CHUNKS))
STREAMS = (1, 4, 16)
PRECISIONS = {"fp32": "float32", "int8": "int8"}
OURS, REFERENCE = "ours", "reference"
NUM_WINDOWS = (
    3  # different chunks of a stream that are encoded in turns once its left context is full
)


@dataclass(frozen=True)
class Key:
    """Which cell: what identifies it in the JSON object, and whose it is."""

    preset: str
    precision: str
    mode: str
    streams: int
    threads: int
    engine: str = OURS


@dataclass
class Cell:
    """What is measured.

    Attributes:
        run: one call with the threads of the key.
        audio_seconds: of all streams together, of one call.
        work, load: see there; a model without experts has no load.
        rounds: seconds of a call, the median of each round.
    """

    key: Key
    run: Callable[[], object]
    audio_seconds: float
    work: Work
    load: Load | None
    rounds: list[float] = field(default_factory=list)

    def measure(self, at_least_seconds: float) -> None:
        """Calls until so much time is spent, once at least, and adds a round."""
        torch.set_num_threads(self.key.threads)
        seconds: list[float] = []
        with torch.inference_mode():
            while sum(seconds) < at_least_seconds:
                since = time.perf_counter()
                self.run()
                seconds.append(time.perf_counter() - since)
        self.rounds.append(statistics.median(seconds))

    @property
    def seconds(self) -> float:
        """Of a call."""
        return statistics.median(self.rounds)

    @property
    def rtf(self) -> float:
        """Seconds of work for a second of audio."""
        return self.seconds / self.audio_seconds


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
        cells: list[Cell] = []
        for name in tqdm(self.presets, desc="building", unit="model"):
            cells += _Builder(self, name).build(shares)
        return cells


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
        torch.set_num_threads(max(self.plan.threads))
        self.encoder = build_encoder(self.config)
        if self.config.num_experts > 1:
            if shares is None:
                shares = even_load(self.config.num_experts)
            set_loads(self.encoder, self._features(1, 2003), shares)
        packed = {
            precision: PackedEncoder.from_encoder(self.encoder, PRECISIONS[precision])
            for precision in self.plan.precisions
        }
        for one in packed.values():
            one.num_threads = max(self.plan.threads)
        uses_reference = any(self.name == name for name, _, _ in self.plan.references)
        plain = PlainEncoder(self.encoder) if uses_reference else None
        cells: list[Cell] = []
        for mode in tqdm(self.plan.modes, desc=self.name, unit="mode", leave=False):
            kind = self._offline if mode.startswith("offline") else self._streams
            cells += kind(mode, packed, plain)
        return cells

    def _features(self, num: int, frames: int) -> Tensor:
        return torch.randn(num, frames, self.config.num_features)

    def _cells(
        self, mode: str, streams: int, call: Call, routing: Routing, spans: Sequence[slice],
        engine: str, precision: str, run: Callable[[int], object],
    ) -> list[Cell]:  # fmt: skip
        """One for each number of threads, which ``run`` is given; ``spans``: frames of its calls."""
        work = count_work(self.encoder, call, precision, routing.count_used(streams, spans))
        load = routing.load(self.config.num_experts, streams, spans) if routing.chosen else None
        subsampling = self.encoder.subsampling
        frames = output_length(call.feature_frames, subsampling.factor)
        audio_seconds = streams * frames * subsampling.factor / FRAMES_PER_SECOND

        def cell(threads: int) -> Cell:
            key = Key(self.name, precision, mode, streams, threads, engine)
            return Cell(key, lambda: run(threads), audio_seconds, work, load)

        return [cell(threads) for threads in self.plan.threads]

    def _route(self, features: Tensor, chunk: int = -1, left_chunks: int = -1) -> Routing:
        if self.config.num_experts == 1:
            return Routing({})
        return Routing.of(self.encoder, features, chunk, left_chunks)

    def _offline(
        self, mode: str, packed: dict[str, PackedEncoder], plain: PlainEncoder | None
    ) -> list[Cell]:
        seconds = int(mode.removeprefix("offline"))
        subsampling = self.encoder.subsampling
        frames = seconds * FRAMES_PER_SECOND + subsampling.receptive_field - subsampling.factor
        features, lengths = self._features(1, frames), torch.tensor([frames])
        call = mode, 1, Call(1, frames), self._route(features), [slice(None)]

        def ours(encoder: PackedEncoder) -> Callable[[int], object]:
            def run(threads: int) -> object:
                encoder.num_threads = threads
                return encoder(features, lengths)

            return run

        cells: list[Cell] = []
        for precision, encoder in packed.items():
            cells += self._cells(*call, OURS, precision, ours(encoder))
        if plain is not None and (self.name, mode, 1) in self.plan.references:
            cells += self._cells(*call, REFERENCE, "fp32", lambda _: plain(features, lengths))
        return cells

    def _streams(
        self, mode: str, packed: dict[str, PackedEncoder], plain: PlainEncoder | None
    ) -> list[Cell]:
        chunk = int(mode.removeprefix("chunk"))
        left_chunks = RecognizerOptions(chunk_size=chunk).num_left_chunks
        window, step = chunk_feature_frames(chunk, self.config.subsampling)
        most = max(self.plan.streams)
        num_chunks = left_chunks + NUM_WINDOWS
        features = self._features(most, window + (num_chunks - 1) * step)
        windows = [features[:, n * step : n * step + window] for n in range(num_chunks)]
        first, timed = windows[:left_chunks], windows[left_chunks:]
        routing = self._route(features, chunk, left_chunks)
        spans = [slice(n * chunk, (n + 1) * chunk) for n in range(left_chunks, num_chunks)]
        pools = {p: _Pool(encoder, most, chunk, left_chunks) for p, encoder in packed.items()}
        for pool in pools.values():
            pool.fill(first)
        left_frames = left_chunks * chunk
        referenced = [n for n in self.plan.streams if (self.name, mode, n) in self.plan.references]
        caches = None
        for one in first if plain is not None and referenced else []:
            assert plain is not None
            _, caches = plain.encode_chunk(one[: max(referenced)], caches, left_frames)
        cells: list[Cell] = []
        for streams in self.plan.streams:
            call = mode, streams, Call(streams, window, left_frames), routing, spans
            for precision, pool in pools.items():
                cells += self._cells(*call, OURS, precision, pool.next_chunk(timed, streams))
            if plain is not None and caches is not None and streams in referenced:
                run = _plain_streams(plain, caches, timed, streams, left_frames)
                cells += self._cells(*call, REFERENCE, "fp32", run)
        return cells


class _Pool:
    """Streams of a packed encoder."""

    def __init__(self, encoder: PackedEncoder, num: int, chunk: int, left_chunks: int) -> None:
        self.encoder = encoder
        self.pool = encoder.new_pool(num, chunk, left_chunks)
        self.slots = [self.pool.open() for _ in range(num)]

    def fill(self, windows: Iterable[Tensor]) -> None:
        """Encodes chunks of all streams."""
        for one in windows:
            self.pool.encode(self.slots, list(one))

    def next_chunk(self, windows: Sequence[Tensor], streams: int) -> Callable[[int], object]:
        """Encodes one chunk of the first ``streams``, each time another one."""
        batches = [list(one[:streams]) for one in windows]
        slots, number = self.slots[:streams], -1

        def run(threads: int) -> object:
            nonlocal number
            self.encoder.num_threads = threads
            number = (number + 1) % len(batches)
            return self.pool.encode(slots, batches[number])

        return run


def _plain_streams(
    plain: PlainEncoder,
    caches: list[LayerCache],
    windows: Sequence[Tensor],
    streams: int,
    left: int,
) -> Callable[[int], object]:
    """`_Pool.next_chunk` of the plain encoder."""
    caches = [cache.streams(streams) for cache in caches]
    batches = [one[:streams] for one in windows]
    number = -1

    def run(threads: int) -> object:
        nonlocal caches, number
        number = (number + 1) % len(batches)
        x, caches = plain.encode_chunk(batches[number], caches, left)
        return x

    return run


def measure(
    cells: Sequence[Cell], probes: Sequence[Probe], rounds: int, at_least_seconds: float
) -> dict[int, Peaks]:
    """Measures everything in turns, ``rounds`` times, each time in another order.

    Returns:
        What the machine can do, by number of threads.
    """
    all_threads = sorted({cell.key.threads for cell in cells})
    rates: dict[int, dict[tuple[str, str], list[float]]] = {n: {} for n in all_threads}
    jobs: list[Callable[[], None]] = [lambda c=cell: c.measure(at_least_seconds) for cell in cells]  # type: ignore[misc]

    def probe(one: Probe, threads: int) -> None:
        rates[threads].setdefault((one.limit, one.name), []).append(one.rate(threads))

    jobs += [lambda p=one, n=n: probe(p, n) for one in probes for n in all_threads]  # type: ignore[misc]
    order = random.Random(0)
    with tqdm(total=rounds * len(jobs), desc="measuring", unit="cell") as bar:
        for _ in range(rounds):
            for job in order.sample(jobs, len(jobs)):
                job()
                bar.update()
    return {threads: Peaks.of(found) for threads, found in rates.items()}


def warm_up(cells: Sequence[Cell]) -> None:
    """One call of each kind, so that what is compiled or allocated once is not measured."""
    most = max(cell.key.threads for cell in cells)
    chosen = [cell for cell in cells if cell.key.threads == most]
    for cell in tqdm(chosen, desc="warming up", unit="cell"):
        torch.set_num_threads(cell.key.threads)
        with torch.inference_mode():
            cell.run()
