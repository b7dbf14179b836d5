"""CTC prefix beam search beside a plain one in Python: time, scores, what the beam loses.

    python -m benchmarks.prefix_beam [--utterances 4] [--tokens 250] [--rounds 5]

Posteriors are those of `benchmarks.ctc_simulator` (25 frames a second) for random sequences of 500 tokens.
Times are CPU time of one thread, of the fastest of some rounds, results as Python objects included; the
real-time factor (RTF) is of the search alone. What a narrow beam loses is told by the best score of the
widest one, in nats an utterance. The plain search is timed on a part, in one round, and must give the same.
Last line: one JSON object.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.ctc_simulator import FRAMES_PER_SECOND, CtcSimulator
from moe_asr.fsa.prefix_beam import prefix_beam_search, prefix_beam_search_batch

NUM_TOKENS = 500
SETTINGS = [(beam, token_beam) for beam in (1, 10, 100) for token_beam in (math.inf, 10.0)]
PLAIN_SETTINGS = [(10, math.inf), (10, 10.0)]
PLAIN_FRAMES = 250


def plain_prefix_beam_search(
    log_probs: np.ndarray, beam_size: int, token_beam: float = math.inf
) -> list[tuple[tuple[int, ...], float]]:
    """The search of `moe_asr.fsa.prefix_beam` on dictionaries: (T, C) -> (tokens, score), sorted."""

    def add(a: float, b: float) -> float:
        high, low = max(a, b), min(a, b)
        return high if low == -math.inf else high + math.log1p(math.exp(low - high))

    def order(item: tuple[tuple[int, ...], tuple[float, float]]) -> tuple[float, tuple[int, ...]]:
        return -add(*item[1]), item[0]

    nothing = -math.inf, -math.inf
    beam: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, -math.inf)}
    for row in log_probs.astype(np.float64).tolist():
        lowest = max(row) - token_beam
        allowed = {token for token in range(1, len(row)) if row[token] >= lowest}
        following: dict[tuple[int, ...], tuple[float, float]] = {}
        for prefix, (blank, token_end) in beam.items():
            total = add(blank, token_end)
            old = following.get(prefix, nothing)
            repeated = token_end + row[prefix[-1]] if prefix else -math.inf
            following[prefix] = add(old[0], total + row[0]), add(old[1], repeated)
            children = {other[-1] for other in beam if other and other[:-1] == prefix}
            for token in allowed | children:
                before = blank if prefix and token == prefix[-1] else total
                longer = (*prefix, token)
                old = following.get(longer, nothing)
                following[longer] = old[0], add(old[1], before + row[token])
        possible = [item for item in following.items() if add(*item[1]) > -math.inf]
        beam = dict(sorted(possible, key=order)[:beam_size])
    return [(tokens, add(*scores)) for tokens, scores in sorted(beam.items(), key=order)]


def best_of(work: Callable[[], Any], rounds: int) -> tuple[Any, float]:
    """What ``work`` returns, and the least of its seconds of CPU time."""
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        result = work()
        seconds.append(time.process_time() - start)
    return result, min(seconds)


def posteriors(num_utterances: int, num_tokens: int) -> list[np.ndarray]:
    """[utterance] (T, C) of random tokens, spelled alike where their ids are."""
    simulator = CtcSimulator([f"{token:03d}" for token in range(NUM_TOKENS)])
    rng = np.random.RandomState(0)
    return [
        simulator.utterance([[token] for token in rng.randint(1, NUM_TOKENS, num_tokens).tolist()])
        for _ in range(num_utterances)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=250, help="of an utterance; about a minute")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    utterances = posteriors(args.utterances, args.tokens)
    lengths = torch.tensor([len(log_probs) for log_probs in utterances])
    batch = torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(log_probs) for log_probs in utterances], batch_first=True
    )
    audio_seconds = int(lengths.sum()) / FRAMES_PER_SECOND
    part = utterances[0][:PLAIN_FRAMES]
    start = time.perf_counter()
    prefix_beam_search(part[:5])
    compile_seconds = time.perf_counter() - start
    print(
        f"{len(utterances)} utterances, {audio_seconds:.0f} s, {NUM_TOKENS} tokens; first call, compiling or "
        f"loading what was compiled: {compile_seconds:.1f} s"
    )

    rows: list[dict[str, Any]] = []
    for beam, token_beam in SETTINGS:
        found, seconds = best_of(
            lambda: prefix_beam_search_batch(batch, lengths, beam, token_beam),  # noqa: B023
            args.rounds,
        )
        scores = np.array([hypotheses[0].score for hypotheses in found])
        rows.append(
            {
                "beam_size": beam,
                "token_beam": token_beam,
                "seconds": seconds,
                "rtf": seconds / audio_seconds,
                "us_per_frame": 1e6 * seconds / int(lengths.sum()),
                "score": float(scores.mean()),
            }
        )
    best = max(row["score"] for row in rows)
    print(f"\n{'beam':>6}{'token beam':>12}{'us a frame':>12}{'RTF':>10}{'lost nats':>11}")
    for row in rows:
        row["lost_nats"] = best - row.pop("score")
        print(
            f"{row['beam_size']:>6}{row['token_beam']:>12}{row['us_per_frame']:>12.1f}"
            f"{row['rtf']:>10.5f}{row['lost_nats']:>11.4f}"
        )

    print()
    plain_rows = []
    for beam, token_beam in PLAIN_SETTINGS:
        plain, plain_seconds = best_of(
            lambda: plain_prefix_beam_search(part, beam, token_beam),  # noqa: B023
            1,
        )
        ours, seconds = best_of(
            lambda: prefix_beam_search(part, beam, token_beam),  # noqa: B023
            args.rounds,
        )
        off = max(abs(a - b.score) for (_, a), b in zip(plain, ours, strict=True))
        if [tokens for tokens, _ in plain] != [h.tokens for h in ours] or off > 1e-9:
            raise SystemExit(f"the plain search finds something else: {plain[0]}, {ours[0]}")
        print(
            f"plain Python, beam {beam}, token beam {token_beam}, {len(part)} frames: {plain_seconds:.2f} s, "
            f"{plain_seconds / seconds:.0f} times as long; the same {len(ours)} sequences"
        )
        plain_rows.append(
            {
                "beam_size": beam,
                "token_beam": token_beam,
                "frames": len(part),
                "seconds": plain_seconds,
                "times_as_long": plain_seconds / seconds,
            }
        )
    for row in rows + plain_rows:  # JSON has no infinity
        row["token_beam"] = None if math.isinf(row["token_beam"]) else row["token_beam"]
    summary = {
        "audio_seconds": audio_seconds,
        "num_tokens": NUM_TOKENS,
        "compile_seconds": compile_seconds,
        "results": rows,
        "plain": plain_rows,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
