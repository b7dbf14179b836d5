"""How many live streams one process holds: the time from the end of a sentence to its final result.

    python -m benchmarks.streaming_load [--model DIR --graph G] [--streams 1,2,4,8,16,32] [--seconds 20]
        [--chunk-size 16] [--threads 2] [--encoder-threads 1] [--manifest CUTS] [--hour]

People talk to an assistant, with pauses (or the cuts of a manifest are played one after the other, with
pauses); their audio arrives in real time, in pieces of 100 ms, from a thread that also computes features; one
loop decodes all streams that are ready as one batch. The latency of a final result with words is the wall
time from when the last sample arrived without which it could not be known (the last one that the encoder
needs for the chunk after which the segment ended; of the last segment, the end of the input) to when the
result was there. Late threads count: samples arrive when they are due. What the recogniser waits for to be
sure of an endpoint (half a second of silence and more) is not in it. Nothing else should run meanwhile.

Two cores are used by features beside all else, and by searches beside one another (``--threads``). More
threads in each operation of the encoder (``--encoder-threads``) wait for one another hundreds of times a
chunk, and for long wherever one of them shares its core, with the feeding thread to begin with.

A number of streams is held if 95 % of its finals come within ``--limit-ms``. If the last number is held, it
goes on doubling, and then halves the interval between the last held and the first not held; twice as many as
are held show what is beyond. ``load`` is the decoding loop's work over the audio's time: above 1 a queue
grows, and latencies with it, as the last columns show: p95 of the finals of the first and of the last third
of the audio. ``rtf``: seconds of work (both threads) for a second of audio. ``peak_mb``: of the process,
model, graph and all the audio in it.

``--hour`` instead decodes an hour of streams as fast as they go, as many at a time as the last of
``--streams``, each some seconds long, joining and leaving; and compares memory after the first tenth with
memory at the end, in both cases after the allocator has let go of what nobody uses.

The last line is one JSON object: ``{"cells": [{"streams", "final_p50_ms", "final_p95_ms", "rtf", "peak_mb",
"load", "finals", "batch", "first_third_p95_ms", "last_third_p95_ms"}], "max_streams": n}``, or
``{"hour": {...}}``.
"""

import argparse
import ctypes
import gc
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.paced_streams import PacedRun, run_paced
from benchmarks.random_streams import stream_randomly
from benchmarks.search_streaming import resident_mb
from benchmarks.second_pass import whole_numbers
from benchmarks.spoken_streams import Spoken, conversation, say_sentences
from moe_asr.data.dataset import load_waveform
from moe_asr.data.manifests import read_cuts
from moe_asr.model.directory import LoadedModel
from moe_asr.recognizer.recognizer import Recognizer

NUM_SENTENCES = 80
RELEASE = Path(__file__).parents[1] / "egs" / "voice_commands" / "release"
HEADER = (
    f"{'streams':>7}{'finals':>8}{'p50 ms':>8}{'p95 ms':>8}{'rtf':>8}{'load':>7}{'batch':>7}{'peak MB':>9}"
    f"{'first third':>13}{'last third':>12}"
)


@dataclass(frozen=True)
class Cell:
    """A number of streams, and how they fared; latencies are in ms, nan where there are no finals."""

    streams: int
    final_p50_ms: float
    final_p95_ms: float
    rtf: float
    peak_mb: float
    load: float
    finals: int
    batch: float
    first_third_p95_ms: float
    last_third_p95_ms: float

    @classmethod
    def of(cls, streams: int, run: PacedRun) -> "Cell":
        third = run.paced_seconds / 3
        latencies = [final.latency_ms for final in run.finals]
        first = [final.latency_ms for final in run.finals if final.heard <= third]
        last = [final.latency_ms for final in run.finals if final.heard > 2 * third]
        return cls(
            streams, percentile(latencies, 50), percentile(latencies, 95), run.rtf, run.peak_mb, run.load,
            len(latencies), float(np.mean(run.batch_sizes)), percentile(first, 95), percentile(last, 95),
        )  # fmt: skip

    def row(self) -> str:
        """A line under `HEADER`."""
        return (
            f"{self.streams:>7}{self.finals:>8}{self.final_p50_ms:>8.0f}{self.final_p95_ms:>8.0f}"
            f"{self.rtf:>8.4f}{self.load:>7.2f}{self.batch:>7.1f}{self.peak_mb:>9.0f}"
            f"{self.first_third_p95_ms:>13.0f}{self.last_third_p95_ms:>12.0f}"
        )

    def json(self) -> dict[str, float | None]:
        """As it is in the last line."""
        return {
            key: value if isinstance(value, int) else None if np.isnan(value) else round(value, 4)
            for key, value in vars(self).items()
        }


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest one that is not below, nan if there are none."""
    return float(np.percentile(values, percent, method="higher")) if len(values) else float("nan")


@dataclass(frozen=True)
class Bench:
    """What all cells share.

    Attributes:
        make: the recogniser for so many streams.
        sentences: what people say.
        seconds: of audio of a stream.
    """

    make: Callable[[int], Recognizer]
    loaded: LoadedModel
    sentences: Sequence[Spoken]
    seconds: float

    @property
    def sample_rate(self) -> int:
        return self.loaded.fbank_options.sample_rate

    def cell(self, streams: int) -> Cell:
        """Paces so many streams, which begin within two seconds of one another."""
        gc.collect()  # the recogniser of the cell before
        rng = np.random.default_rng(streams)
        audio = [
            conversation(self.sentences, self.seconds, self.sample_rate, rng)
            for _ in range(streams)
        ]
        starts = rng.uniform(0.0, 2.0, streams) if streams > 1 else np.zeros(1)
        return Cell.of(streams, run_paced(self.make(streams), self.loaded, audio, starts.tolist()))

    def warm_up(self) -> None:
        """Everything that is compiled, loaded or allocated once."""
        rng = np.random.default_rng(0)
        audio = {
            str(number): conversation(self.sentences, 6.0, self.sample_rate, rng)
            for number in range(4)
        }
        stream_randomly(self.make(4), audio, self.sample_rate, rng)

    def hour(self, streams: int, hours: float = 1.0) -> dict[str, float]:
        """Many streams of 3 to 30 seconds as fast as they go; memory in MB and other figures."""
        rng = np.random.default_rng(0)
        recognizer = self.make(streams)
        audio_seconds, begun, words = 0.0, 0, 0
        memory: list[float] = []  # after each round
        since = time.perf_counter()
        with tqdm(total=round(3600 * hours), unit="s", disable=not sys.stderr.isatty()) as bar:
            while audio_seconds < 3600 * hours:
                seconds, found = self._round(recognizer, streams, begun, rng)
                begun += 2 * streams
                words += found
                audio_seconds += seconds
                memory.append(settled_mb())
                bar.update(round(seconds))
        early = memory[len(memory) // 10]
        return {
            "streams": begun,
            "at_a_time": streams,
            "audio_seconds": round(audio_seconds, 1),
            "wall_seconds": round(time.perf_counter() - since, 1),
            "words": words,
            "warm_mb": round(early, 1),
            "last_mb": round(memory[-1], 1),
            "growth_mb": round(memory[-1] - early, 1),
        }

    def _round(
        self, recognizer: Recognizer, streams: int, begun: int, rng: np.random.Generator
    ) -> tuple[float, int]:
        """Streams of 3 to 30 seconds that join and leave at random; seconds of audio, words in it."""
        waveforms = {
            f"stream-{begun + n}": conversation(
                self.sentences, rng.uniform(3.0, 30.0), self.sample_rate, rng
            )
            for n in range(2 * streams)
        }
        run = stream_randomly(recognizer, waveforms, self.sample_rate, rng, streams)
        seconds = sum(map(len, waveforms.values())) / self.sample_rate
        return seconds, sum(len(r.words) for name in waveforms for r in run.finals(name))


def settled_mb() -> float:
    """Memory of this process without what its allocator keeps for later, where that can be told so."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc
    if trim is not None:
        trim(0)
    return resident_mb()


def find_most(
    bench: Bench, streams: Sequence[int], limit_ms: float, most: int
) -> tuple[list[Cell], int]:
    """Runs the cells asked for and those of the search; the largest number that is held, 0 if none is."""
    cells: dict[int, Cell] = {}

    def holds(number: int) -> bool:
        cells[number] = bench.cell(number)
        print(cells[number].row(), flush=True)
        return cells[number].final_p95_ms <= limit_ms

    held, missed = 0, 0  # the largest below the smallest that is not held
    for number in sorted(set(streams)):
        good = holds(number)
        if good and not missed:
            held = number
        elif not good and not missed:
            missed = number
    while not missed and 2 * held <= most:
        if holds(2 * held):
            held *= 2
        else:
            missed = 2 * held
    while missed - held > max(1, held // 16):
        middle = (held + missed) // 2
        if holds(middle):
            held = middle
        else:
            missed = middle
    if held and 2 * held not in cells:
        holds(2 * held)
    return [cells[number] for number in sorted(cells)], held


def make_bench(args: argparse.Namespace) -> Bench:
    """Loads the model once; every cell has a recogniser of its own."""
    torch.set_num_threads(args.encoder_threads)
    base = Recognizer.from_dir(args.model, args.graph)
    options = base.options.replace(chunk_size=args.chunk_size)
    sentences = (
        read_sentences(args.manifest, base.sample_rate)
        if args.manifest
        else say_sentences(NUM_SENTENCES, base.sample_rate)
    )

    def make(streams: int) -> Recognizer:
        return Recognizer(
            base.loaded, base.graph, options.replace(max_streams=streams), args.threads
        )

    return Bench(make, base.loaded, sentences, args.seconds)


def read_sentences(manifest: Path, sample_rate: int) -> list[Spoken]:
    """The audio of at most `NUM_SENTENCES` cuts."""
    cuts = itertools.islice(read_cuts(manifest), NUM_SENTENCES)
    return [Spoken(cut.id, load_waveform(cut, sample_rate)) for cut in cuts]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--model", type=Path, default=RELEASE, help="a model directory, or a release"
    )
    parser.add_argument("--graph", type=Path, help="default: that of the release")
    parser.add_argument("--manifest", type=Path, help="play these cuts, instead of made speech")
    parser.add_argument("--streams", type=whole_numbers, default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--seconds", type=float, default=20.0, help="of audio of a stream")
    parser.add_argument("--chunk-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2, help="streams searched at a time")
    parser.add_argument("--encoder-threads", type=int, default=1, help="of torch, in one operation")
    parser.add_argument("--limit-ms", type=float, default=300.0)
    parser.add_argument("--most", type=int, default=1024, help="streams to go up to")
    parser.add_argument(
        "--hour", action="store_true", help="memory over an hour's worth of streams"
    )
    args = parser.parse_args(arguments)
    bench = make_bench(args)
    bench.warm_up()
    if args.hour:
        found = bench.hour(max(args.streams))
        for key, value in found.items():
            print(f"{key:15s} {value}")
        print(json.dumps({"hour": found}))
        return
    print(HEADER)
    cells, held = find_most(bench, args.streams, args.limit_ms, args.most)
    print(f"{held} streams are held: 95 % of their finals within {args.limit_ms:.0f} ms")
    print(json.dumps({"cells": [cell.json() for cell in cells], "max_streams": held}))


if __name__ == "__main__":
    main()
