"""The process that `moe_asr.fsa.build_files` starts: reads one job from stdin, writes messages to stdout.

Messages are lines of JSON: ``{"begin": step}``, ``{"end": {...}}``, and last ``{"done": true}`` or
``{"error": class, "message": text}``.
"""

import ctypes
import json
import os
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from moe_asr.files import PathLike
from moe_asr.fsa.build_files import GraphJob

_PR_SET_PDEATHSIG = 1  # Linux, prctl(2)


def main() -> int:
    """Builds; the exit status is 0 also where the error was told."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # a Ctrl-C goes to both; the parent ends this process
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is no message
    request = json.loads(sys.stdin.readline())
    folder = Path(request.pop("folder"))
    _end_with(request.pop("parent"))
    _end_first_of_all()

    def send(**message: Any) -> None:
        messages.write(json.dumps(message) + "\n")

    from moe_asr.errors import MoeAsrError

    try:
        _build(GraphJob(**request), folder, send)
        send(done=True)
    except MoeAsrError as error:
        send(error=type(error).__name__, message=str(error))
    except MemoryError:
        send(error=MemoryError.__name__, message="")
    return 0


def _build(job: GraphJob, folder: Path, send: Any) -> None:
    from moe_asr.fsa.build import build_hlg, build_lg
    from moe_asr.fsa.fst import Fst
    from moe_asr.fsa.steps import StepRecorder
    from moe_asr.fsa.token_graph import token_graph
    from moe_asr.text.symbol_table import SymbolTable

    recorder = StepRecorder(
        on_begin=lambda name: send(begin=name), on_end=lambda step: send(end=asdict(step))
    )

    def load(name: str, path: PathLike) -> Fst:
        with recorder.step(name) as made:
            fst, _ = Fst.load(path)
            made.size = fst.num_states, fst.num_arcs
        return fst

    tokens = SymbolTable.read(job.tokens)
    if job.l_disambig is not None and job.words is not None:
        l_disambig, g = load("L_disambig", job.l_disambig), load("G", job.g)
        words = SymbolTable.read(job.words)
        graph = build_lg(l_disambig, g, tokens, words, job.builder, job.metadata, recorder)
    else:
        g = load("G", job.g)
        with recorder.step("T") as made:
            graph = token_graph(g, tokens, job.backoff, job.metadata)
            made.size = graph.num_states, graph.num_arcs
    graph.save(folder / job.outputs[0])
    build_hlg(graph, job.topology, job.builder, recorder).save(folder / job.outputs[1])


def _end_with(parent: int) -> None:
    """Ends this process when its parent ends, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it was quicker
            os._exit(1)

    def wait() -> None:  # elsewhere: the pipe ends, noticed as soon as Python runs
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _end_first_of_all() -> None:
    """If memory runs out, the system had better end this process than any other."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(main())
