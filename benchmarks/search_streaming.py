"""The native search on streams: threads, chunk sizes, and two hours of speech in constant memory.

    python -m benchmarks.search_streaming [--minutes 120] [--utterances 40] [--cache DIR]

Posteriors and graph are those of ``benchmarks.lattice_search``. Prints tables and, last, one JSON object:
``{"threads": {"one", "two", "gain"}, "chunks": [{"size", "rtf"}], "long": {"minutes", "rtf",
"peak_pending_frames", "state_mb_first", "state_mb_last", "rss_growth_mb", "words"}, "compile": {"seconds",
"cached_seconds"}}``; threads are in seconds of audio a second.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch

from benchmarks.ctc_simulator import FRAMES_PER_SECOND, SimulatorOptions
from benchmarks.search_inputs import GraphSize, built_graph, default_cache, simulate_test_set
from moe_asr.fsa.engine import SearchOptions
from moe_asr.fsa.native import NativeEngine

OPTIONS = SearchOptions(search_beam=14.0, output_beam=8.0, max_active=2000)


def chunks_rtf(engine: NativeEngine, utterances: list[torch.Tensor], size: int) -> float:
    """Real-time factor of one stream after the other, fed ``size`` frames at a time."""
    since = time.perf_counter()
    for log_probs in utterances:
        state = engine.start()
        for begin in range(0, len(log_probs), size):
            engine.advance([state], [log_probs[begin : begin + size]])
        engine.finish(state)
    seconds = sum(map(len, utterances)) / FRAMES_PER_SECOND
    return (time.perf_counter() - since) / seconds


def throughput(engine: NativeEngine, utterances: list[torch.Tensor], threads: int) -> float:
    """Seconds of audio a second that ``threads`` streams at a time take, each in a thread of its own."""

    def work() -> None:
        for log_probs in utterances:
            state = engine.start()
            for begin in range(0, len(log_probs), 16):
                engine.advance([state], [log_probs[begin : begin + 16]])
            engine.finish(state)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    since = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seconds = threads * sum(map(len, utterances)) / FRAMES_PER_SECOND
    return seconds / (time.perf_counter() - since)


def long_stream(engine: NativeEngine, utterances: list[torch.Tensor], minutes: float) -> dict:
    """One stream of this length, in chunks of 16 frames, its lattice released every ten seconds."""
    state = engine.start()
    total = int(minutes * 60 * FRAMES_PER_SECOND)
    pending, sizes, resident, num_words, spent = 0, [], [], 0, 0.0
    while state.num_frames < total:
        for log_probs in utterances:
            for begin in range(0, len(log_probs), 16):
                since = time.perf_counter()
                engine.advance([state], [log_probs[begin : begin + 16]])
                spent += time.perf_counter() - since
                if state.num_frames % 256 < 16:
                    engine.release(state)
                pending = max(pending, state.store.newest)
            sizes.append(state.num_bytes)
            resident.append(resident_mb())
            if state.num_frames >= total:
                break
    partial = engine.partial(state)
    num_words = len(partial.words)
    engine.finish(state)
    early = max(1, len(sizes) // 20)
    return {
        "minutes": minutes,
        "rtf": spent / (state.num_frames / FRAMES_PER_SECOND),
        "peak_pending_frames": pending,
        "state_mb_first": max(sizes[:early]) / 1e6,
        "state_mb_last": max(sizes[-early:]) / 1e6,
        "rss_growth_mb": resident[-1] - resident[early],
        "words": num_words,
    }


def resident_mb() -> float:
    """Memory of this process now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def compile_seconds() -> dict[str, float]:
    """Of the first call in a new process, without and with compiled code on disk."""
    code = "from moe_asr.fsa.native import warm_up; print(warm_up().seconds)"
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
        seconds = [
            float(
                subprocess.run(
                    [sys.executable, "-c", code],
                    env=environment, check=True, capture_output=True, text=True,
                ).stdout
            )
            for _ in range(2)
        ]  # fmt: skip
    return {"seconds": seconds[0], "cached_seconds": seconds[1]}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=120.0, help="length of the long stream")
    parser.add_argument("--utterances", type=int, default=40)
    parser.add_argument("--cache", type=Path, default=default_cache(), help="graphs are kept here")
    parser.add_argument("--words", type=int, default=GraphSize.num_words)
    parser.add_argument("--sentences", type=int, default=GraphSize.num_sentences)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    graph = built_graph(GraphSize(args.words, args.sentences), args.cache)
    test_set = simulate_test_set(graph, args.utterances, SimulatorOptions(), 0)
    utterances = [torch.from_numpy(rows) for rows in test_set.log_probs]
    engine = NativeEngine(graph.load("LG"), OPTIONS)
    chunks_rtf(engine, utterances[:2], 16)
    chunks = []
    for size in (1, 2, 5, 16, 64, 10**6):
        rtf = statistics.median(chunks_rtf(engine, utterances, size) for _ in range(3))
        chunks.append({"size": size, "rtf": rtf})
        print(f"chunks of {size:7d} frames: RTF {rtf:.5f}")
    rounds = [
        (throughput(engine, utterances, 1), throughput(engine, utterances, 2)) for _ in range(5)
    ]
    one, two = (statistics.median(column) for column in zip(*rounds, strict=True))
    gain = statistics.median(after / before for before, after in rounds)
    print(f"one thread {one:.0f}, two threads {two:.0f} x real time: gain {gain:.2f}")
    long = long_stream(engine, utterances, args.minutes)
    for key, value in long.items():
        print(f"{key:20s} {value:.5g}")
    compiled = compile_seconds()
    print(
        f"compiling {compiled['seconds']:.1f} s, from the cache {compiled['cached_seconds']:.2f} s"
    )
    threads = {"one": one, "two": two, "gain": gain}
    print(json.dumps({"threads": threads, "chunks": chunks, "long": long, "compile": compiled}))


if __name__ == "__main__":
    main()
