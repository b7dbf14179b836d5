"""Training speed of n-gram models, against the same estimation in plain dictionaries.

    python -m benchmarks.ngram_training [--words 1200000] [--order 3] [--rounds 3] [--quick]

A deterministic text is made: 15,000 words with Zipf frequencies, which prefer certain words after them.
``ours`` is `read_corpus` and `train_kneser_ney`; ``dictionaries`` reads, counts and estimates the same model
with Counters of tuples. Each run is a process of its own: seconds are of its CPU time, from the text file to
the model in memory, the median over rounds; memory is its peak less what it had before reading. The
probabilities of both are compared. ``ARPA`` is the time to write and to read the file of the model, by ours.
Last line: one JSON object.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from moe_asr.lm.arpa import read_arpa, write_arpa
from moe_asr.lm.corpus import read_corpus
from moe_asr.lm.kneser_ney import train_kneser_ney

VARIANTS = ("ours", "dictionaries")
NUM_TYPES = 15_000


def write_text(path: Path, num_words: int) -> None:
    """Sentences of 3 to 24 words; three words in five are one of 32 that like to follow the last one."""
    rng = np.random.default_rng(7)
    probability = 1.0 / np.arange(1, NUM_TYPES + 1)
    probability /= probability.sum()
    words = rng.choice(NUM_TYPES, num_words, p=probability)
    followers = rng.choice(NUM_TYPES, (NUM_TYPES, 32), p=probability)
    rank = np.minimum(rng.geometric(0.12, num_words) - 1, 31)
    follows = rng.random(num_words) < 0.6
    for position in range(1, num_words):
        if follows[position]:
            words[position] = followers[words[position - 1], rank[position]]
    ends = np.cumsum(rng.integers(3, 25, num_words // 3))
    spelled = np.array([f"word{i}" for i in range(NUM_TYPES)])[words]
    sentences = np.split(spelled, ends[ends < num_words])
    path.write_text("\n".join(" ".join(sentence) for sentence in sentences) + "\n")


def train_with_dictionaries(path: Path, order: int) -> list[dict[tuple[str, ...], float]]:
    """Probabilities by order; the formulas of `train_kneser_ney`, all n-grams kept."""
    occurrences: list[Counter[tuple[str, ...]]] = [Counter() for _ in range(order)]
    with open(path, encoding="utf-8") as file:
        for line in file:
            words = ["<s>", *line.split(), "</s>"]
            for n, counter in enumerate(occurrences, start=1):
                counter.update(zip(*(words[i:] for i in range(n)), strict=False))
    counts: list[dict[tuple[str, ...], int]] = [dict(occurrences[-1])]
    for n in range(order - 1, 0, -1):
        left = Counter(ngram[1:] for ngram in occurrences[n])
        kept = {ngram: c for ngram, c in occurrences[n - 1].items() if ngram[0] == "<s>"}
        counts.insert(0, {**left, **kept})
    counts[0].pop(("<s>",), None)
    uniform = 1.0 / (len(occurrences[0]))  # with <unk>, without <s>
    probabilities: list[dict[tuple[str, ...], float]] = []
    for n, counted in enumerate(counts):
        found = Counter(counted.values())
        y = found[1] / (found[1] + 2 * found[2])
        discounts = [0.0, *(i - (i + 1) * y * found[i + 1] / found[i] for i in (1, 2, 3))]
        total: dict[tuple[str, ...], int] = defaultdict(int)
        taken: dict[tuple[str, ...], float] = defaultdict(float)
        for ngram, count in counted.items():
            total[ngram[:-1]] += count
            taken[ngram[:-1]] += discounts[min(count, 3)]
        probabilities.append(
            {
                ngram: (
                    count
                    - discounts[min(count, 3)]
                    + taken[ngram[:-1]] * (probabilities[-1][ngram[1:]] if n else uniform)
                )
                / total[ngram[:-1]]
                for ngram, count in counted.items()
            }
        )
    return probabilities


def peak_mb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def run_variant(variant: str, text: Path, order: int) -> dict[str, float]:
    """Seconds, megabytes, and the sum of all log probabilities by order, for comparison."""
    before, start = peak_mb(), time.process_time()
    result: dict[str, float] = {}
    if variant == "ours":
        model = train_kneser_ney(read_corpus(text), order).model
        result["seconds"] = time.process_time() - start
        result["megabytes"] = peak_mb() - before
        log_probs = [model.log_prob[model.order_nodes(n)] for n in range(2, order + 1)]
        sums = [float(values.sum()) for values in log_probs]
        arpa = text.with_suffix(".arpa")
        start = time.process_time()
        write_arpa(model, arpa)
        result["write_arpa"] = time.process_time() - start
        start = time.process_time()
        read_arpa(arpa)
        result["read_arpa"] = time.process_time() - start
        result["num_ngrams"] = model.num_nodes - 1
    else:
        probabilities = train_with_dictionaries(text, order)
        result["seconds"] = time.process_time() - start
        result["megabytes"] = peak_mb() - before
        sums = [sum(map(math.log, values.values())) for values in probabilities[1:]]
    for n, value in enumerate(sums, start=2):
        result[f"sum_{n}"] = value
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--words", type=int, default=1_200_000)
    parser.add_argument("--order", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="200,000 words, one round")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--text", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.variant:
        print(json.dumps(run_variant(args.variant, args.text, args.order)))
        return
    if args.quick:
        args.words, args.rounds = 200_000, 1
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text"
        write_text(text, args.words)
        for _ in range(args.rounds):
            for name in VARIANTS:
                command = [sys.executable, "-m", "benchmarks.ngram_training", "--variant", name]
                command += ["--text", str(text), "--order", str(args.order)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
                runs[name].append(json.loads(done.stdout))
    for n in range(2, args.order + 1):
        a, b = (runs[name][0][f"sum_{n}"] for name in VARIANTS)
        assert math.isclose(a, b, rel_tol=1e-9), f"order {n}: {a} and {b} are not the same model"
    ours = runs["ours"][0]
    print(f"{args.words} words, {args.order}-gram, {int(ours['num_ngrams'])} n-grams")
    print(f"{'variant':<14}{'seconds':>9}{'words/s':>12}{'peak MB':>9}{'ours is faster by':>19}")
    seconds = {n: statistics.median(run["seconds"] for run in runs[n]) for n in VARIANTS}
    cells = []
    for name in VARIANTS:
        megabytes = statistics.median(run["megabytes"] for run in runs[name])
        speed, ratio = args.words / seconds[name], seconds[name] / seconds["ours"]
        print(f"{name:<14}{seconds[name]:>9.2f}{speed:>12.0f}{megabytes:>9.0f}{ratio:>18.1f}x")
        cells.append(
            {
                "variant": name,
                "seconds": round(seconds[name], 3),
                "words_per_second": round(speed),
                "peak_mb": round(megabytes, 1),
                "ratio_to_ours": round(ratio, 2),
            }
        )
    files = {
        key: statistics.median(run[key] for run in runs["ours"])
        for key in ("write_arpa", "read_arpa")
    }
    print(f"ARPA: written in {files['write_arpa']:.2f} s, read in {files['read_arpa']:.2f} s")
    print(
        json.dumps(
            {
                "words": args.words,
                "order": args.order,
                "ngrams": int(ours["num_ngrams"]),
                "cells": cells,
                **{f"{key}_seconds": round(value, 3) for key, value in files.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
