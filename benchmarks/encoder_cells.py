"""The cells of the encoder's speed table, and how they are measured in turns with probes of the machine."""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.encoder_work import Load, Work
from benchmarks.roofline import Peaks, Probe

OURS, REFERENCE = "ours", "reference"


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
        run: one call with the threads of the key; torch has as many.
        audio_seconds: of all streams together, of one call.
        work, load: see there; a model without experts has no load.
        rounds: seconds of a call, the median of each round.
        phases: cycles that the calls spent in each of `moe_asr.nn.cpu.layers.PHASES`, if that is known.
    """

    key: Key
    run: Callable[[], object]
    audio_seconds: float
    work: Work
    load: Load | None
    rounds: list[float] = field(default_factory=list)
    phases: np.ndarray | None = None

    def measure(self, at_least_seconds: float) -> None:
        """Calls until so much time is spent, once at least, and adds a round."""
        torch.set_num_threads(self.key.threads)
        seconds: list[float] = []
        with torch.inference_mode():
            while not seconds or sum(seconds) < at_least_seconds:
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


def warm_up(cells: Sequence[Cell]) -> None:
    """One call of each kind, so that what is compiled or allocated once is not measured."""
    most = max(cell.key.threads for cell in cells)
    chosen = [cell for cell in cells if cell.key.threads == most]
    for cell in tqdm(chosen, desc="warming up", unit="cell"):
        cell.measure(0.0)
        cell.rounds.clear()
        if cell.phases is not None:
            cell.phases[:] = 0


def measure(
    cells: Sequence[Cell], probes: Sequence[Probe], rounds: int, at_least_seconds: float
) -> dict[int, Peaks]:
    """Measures everything in turns, ``rounds`` times, each time in another order.

    Returns:
        What the machine can do, by number of threads.
    """
    all_threads = sorted({cell.key.threads for cell in cells})
    rates: dict[int, dict[tuple[str, str], list[float]]] = {n: {} for n in all_threads}

    def probe(one: Probe, threads: int) -> None:
        rates[threads].setdefault((one.limit, one.name), []).append(
            one.rate(threads, at_least_seconds)
        )

    jobs: list[Callable[[], None]] = [partial(cell.measure, at_least_seconds) for cell in cells]
    jobs += [partial(probe, one, threads) for one in probes for threads in all_threads]
    order = random.Random(0)
    with tqdm(total=rounds * len(jobs), desc="measuring", unit="cell") as bar:
        for _ in range(rounds):
            for job in order.sample(jobs, len(jobs)):
                job()
                bar.update()
    return {threads: Peaks.of(found) for threads, found in rates.items()}
