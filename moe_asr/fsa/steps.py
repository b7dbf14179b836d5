"""What the steps of a building made, and what they cost."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter, process_time

from moe_asr.fsa.memory import PeakMeter, format_memory


@dataclass(frozen=True)
class BuildStep:
    """One step.

    Attributes:
        name: for instance ``det(L o G)``.
        num_states, num_arcs: of what it made; a final state of k2's form is counted.
        seconds: wall time.
        cpu_seconds: of the process, all threads together.
        peak_bytes: the most memory that the process had while the step ran; None where that is not known.
        growth_bytes: how much of it was more than the process had when the step began.
    """

    name: str
    num_states: int
    num_arcs: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int | None = None
    growth_bytes: int | None = None


@dataclass
class Made:
    """Set by the block of `StepRecorder.step` when it knows the ``size`` (states, arcs)."""

    size: tuple[int, int] = (0, 0)


@dataclass
class StepRecorder:
    """Times steps, measures their memory and counts what they make.

    Attributes:
        on_begin, on_end: called with the name of a step that begins, with a step that is done.
        steps: those that are done.
    """

    on_begin: Callable[[str], None] | None = None
    on_end: Callable[[BuildStep], None] | None = None
    steps: list[BuildStep] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[Made]:
        """The block is one step; one that raises is not recorded."""
        if self.on_begin is not None:
            self.on_begin(name)
        made = Made()
        meter = PeakMeter()
        start, cpu_start = perf_counter(), process_time()
        yield made
        seconds, cpu_seconds = perf_counter() - start, process_time() - cpu_start
        done = BuildStep(
            name, *made.size, seconds, cpu_seconds, meter.peak_bytes(), meter.growth_bytes()
        )
        self.steps.append(done)
        if self.on_end is not None:
            self.on_end(done)


def format_steps(steps: Sequence[BuildStep]) -> str:
    """A table of the steps, with their sums: lines without the last newline."""
    rows = [("graph", "states", "arcs", "seconds", "CPU", "grew by", "peak")]
    for step in steps:
        rows.append(
            (
                step.name,
                f"{step.num_states:,}",
                f"{step.num_arcs:,}",
                f"{step.seconds:.2f}",
                f"{step.cpu_seconds:.2f}",
                format_memory(step.growth_bytes),
                format_memory(step.peak_bytes),
            )
        )
    peaks = [step.peak_bytes for step in steps if step.peak_bytes is not None]
    seconds = sum(step.seconds for step in steps)
    cpu_seconds = sum(step.cpu_seconds for step in steps)
    highest = format_memory(max(peaks)) if peaks else "-"
    rows.append(("in all", "", "", f"{seconds:.2f}", f"{cpu_seconds:.2f}", "", highest))
    return "\n".join(
        f"{name:<14}{states:>12}{arcs:>13}{wall:>9}{cpu:>9}{growth:>10}{peak:>10}"
        for name, states, arcs, wall, cpu, growth, peak in rows
    )
