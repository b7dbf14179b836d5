"""Graphs built from files to files, in a process of its own that cannot take all of the memory.

The parent watches how much physical memory the child has and ends it above a limit, with advice; without
that the system would end some process, after minutes of swapping. The child is also the first that
the system ends if memory runs out all the same.
"""

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import moe_asr.errors
from moe_asr.errors import GraphError, MoeAsrError
from moe_asr.files import PathLike
from moe_asr.fsa.builder import AUTO
from moe_asr.fsa.memory import available_memory, format_memory, resident_bytes
from moe_asr.fsa.steps import BuildStep

DEFAULT_SHARE = 0.8  # of the memory that is available
_POLL_SECONDS = 0.01
_ADVICE = (
    "Make G smaller: prune the LM with a larger threshold, raise its count cut-offs, lower its order, or "
    "use a smaller vocabulary; or raise the memory limit"
)


@dataclass(frozen=True)
class GraphJob:
    """What to build: LG and HLG of a lexicon and a grammar, or T and HT of a grammar of tokens.

    Attributes:
        g: a file of an `Fst`, over words, or over tokens if there is no lexicon.
        tokens: a symbol table, the model's outputs.
        l_disambig: a file of an `Fst`; None: `token_graph` is made.
        words: a symbol table; None if there is no lexicon.
        backoff: of a `token_graph`.
        builder: one of `builder_names`.
        topology: one of `TOPOLOGIES`.
        metadata: kept in the graphs; plain JSON values.
    """

    g: PathLike
    tokens: PathLike
    l_disambig: PathLike | None = None
    words: PathLike | None = None
    backoff: str = "epsilon"
    builder: str = AUTO
    topology: str = "standard"
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.l_disambig is None) != (self.words is None):
            raise ValueError("a lexicon and its words belong together")

    @property
    def outputs(self) -> tuple[str, str]:
        """The names of the files, the one whose topology is implied first."""
        kinds = ("LG", "HLG") if self.l_disambig is not None else ("T", "HT")
        return (f"{kinds[0]}.safetensors", f"{kinds[1]}.safetensors")


def default_memory_limit() -> int | None:
    """`DEFAULT_SHARE` of what is available now, in bytes; None where that cannot be told."""
    available = available_memory()
    return None if available is None else int(DEFAULT_SHARE * available)


def build_graph_files(
    job: GraphJob,
    directory: PathLike,
    memory_limit: int | None = None,
    report: Callable[[BuildStep], None] | None = None,
) -> list[BuildStep]:
    """Builds the graphs of a job (`GraphJob.outputs`) in ``directory``, in a process of its own.

    Args:
        job: what to build.
        directory: must be there; nothing is left in it but the two graphs, and nothing if this fails.
        memory_limit: bytes of physical memory that the process may have; None: `default_memory_limit`.
        report: is told each step when it is done.

    Returns:
        The steps.

    Raises:
        GraphError: naming the step, if the limit is reached; and all that `build_lg` raises.
        MoeAsrError: if a file cannot be read.
    """
    limit = memory_limit if memory_limit is not None else default_memory_limit()
    folder = Path(tempfile.mkdtemp(prefix=".graph.", dir=directory))
    try:
        with _stopped_by_signals():
            steps = _run(job, folder, limit, report)
        for name in job.outputs:
            os.replace(folder / name, Path(directory) / name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return steps


def _run(
    job: GraphJob, folder: Path, limit: int | None, report: Callable[[BuildStep], None] | None
) -> list[BuildStep]:
    request = {**asdict(job), "folder": str(folder), "parent": os.getpid()}
    for name in ("g", "tokens", "l_disambig", "words"):
        request[name] = os.path.abspath(request[name]) if request[name] is not None else None
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        "TMPDIR": str(folder),
    }
    with open(folder / "stderr", "w+b") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "moe_asr.fsa.build_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
        )
        try:
            assert child.stdin is not None and child.stdout is not None
            with contextlib.suppress(BrokenPipeError):  # then its status tells
                child.stdin.write(json.dumps(request).encode() + b"\n")
                child.stdin.flush()  # not closed: its end tells the child that the parent has gone
            return _Watch(child, limit, report).until_done(errors.name)
        finally:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]


class _Watch:
    """Follows a child: its messages, and how much memory it has."""

    def __init__(
        self,
        child: "subprocess.Popen[bytes]",
        limit: int | None,
        report: Callable[[BuildStep], None] | None,
    ) -> None:
        self._child = child
        self._limit = limit
        self._report = report
        self._steps: list[BuildStep] = []
        self._step = "start"
        self._peak = 0  # of the step that runs, as polled
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        with contextlib.suppress(
            ValueError, OSError
        ):  # closed while reading: nobody listens any more
            for line in self._child.stdout:
                self._messages.put(json.loads(line))
        self._messages.put(None)

    def until_done(self, stderr_path: str) -> list[BuildStep]:
        """The steps; raises what went wrong."""
        while True:
            try:
                message = self._messages.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                self._check_memory()
                continue
            if message is None:
                raise self._died(self._child.wait(), Path(stderr_path))
            if "begin" in message:
                self._step, self._peak = message["begin"], 0
            elif "end" in message:
                self._end(BuildStep(**message["end"]))
            elif "done" in message:
                return self._steps
            elif message.get("error") == MemoryError.__name__:
                raise self._too_large("could not get more memory from the system")
            else:
                raise _known_error(message["error"], message["message"])

    def _end(self, step: BuildStep) -> None:
        if step.peak_bytes is None and self._peak:
            step = replace(step, peak_bytes=self._peak)
        self._steps.append(step)
        if self._report is not None:
            self._report(step)

    def _check_memory(self) -> None:
        used = resident_bytes(self._child.pid)
        if used is None:
            return
        self._peak = max(self._peak, used)
        if self._limit is not None and used > self._limit:
            self._child.kill()
            raise self._too_large(
                f"needs more memory than the limit of {format_memory(self._limit)}"
            )

    def _died(self, status: int, stderr_path: Path) -> Exception:
        """The error of a child that ended without saying why."""
        said = stderr_path.read_text(encoding="utf-8", errors="replace").strip()
        if status == -signal.SIGKILL or "bad_alloc" in said:
            return self._too_large(
                "was ended by the system, which is what it does when memory is short"
            )
        tail = "\n".join(said.splitlines()[-20:])
        return RuntimeError(f"building graphs, step '{self._step}': exit status {status}\n{tail}")

    def _too_large(self, what: str) -> GraphError:
        so_far = f"it had {format_memory(self._peak)} so far" if self._peak else ""
        if self._steps:
            last = self._steps[-1]
            size = f"{last.num_states:,} states and {last.num_arcs:,} arcs"
            so_far += f"{', ' if so_far else ''}and began with '{last.name}' of {size}"
        return GraphError(
            f"step '{self._step}' {what}{f' ({so_far})' if so_far else ''}. {_ADVICE}"
        )


def _known_error(kind: str, message: str) -> Exception:
    error = getattr(moe_asr.errors, kind, None)
    if isinstance(error, type) and issubclass(error, MoeAsrError):
        return error(message)
    return RuntimeError(f"building graphs: {kind}: {message}")


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP, where nobody handles them, end the block by `SystemExit`: it can clean up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    ours = [number for number in signals if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
