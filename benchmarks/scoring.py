"""Time of scoring: alignments of many pairs, their text, confusions, a bootstrap interval.

    python -m benchmarks.scoring [--pairs 100000] [--words 10 20] [--error-rate 0.1] [--samples 10000]

References are random words of 10,000 with the frequencies of Zipf's law; hypotheses have substitutions,
deletions and insertions at random, half, a quarter and a quarter of the error rate. One thread. The seconds
in all are those of splitting and aligning, the report of all alignments as text, counting confusions, and
one bootstrap interval; "CPU s" are what the process had of them. Peak memory is the growth of the process
while it aligned.
Last line: one JSON object.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from moe_asr.evaluate.alignment_text import format_report
from moe_asr.evaluate.bootstrap import paired_difference, wer_interval
from moe_asr.evaluate.confusions import count_confusions
from moe_asr.evaluate.units import UNITS
from moe_asr.evaluate.wer import score
from moe_asr.fsa.memory import PeakMeter

VOCABULARY = 10000


def make_pairs(
    num_pairs: int, words: tuple[int, int], error_rate: float, seed: int = 0
) -> tuple[dict[str, str], dict[str, str]]:
    """References and hypotheses by utterance id."""
    generator = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, VOCABULARY + 1)
    weights /= weights.sum()
    spelling = ["".join(chr(97 + int(d)) for d in f"{i:04d}") for i in range(VOCABULARY)]

    def draw(number: int) -> list[str]:
        return [spelling[i] for i in generator.choice(VOCABULARY, number, p=weights)]

    lengths = generator.integers(words[0], words[1] + 1, num_pairs)
    said, wrong = draw(int(lengths.sum())), iter(draw(int(lengths.sum()) + 1))
    errors = iter(generator.random(int(lengths.sum())).tolist())
    references: dict[str, str] = {}
    hypotheses: dict[str, str] = {}
    begin = 0
    for number, length in enumerate(lengths.tolist()):
        reference = said[begin : begin + length]
        begin += length
        hypothesis: list[str] = []
        for word, chance in zip(reference, errors, strict=False):
            if chance < 0.5 * error_rate:
                hypothesis.append(next(wrong))
            elif chance >= 0.75 * error_rate:
                hypothesis.append(word)
                if chance < error_rate:
                    hypothesis.append(next(wrong))
        references[f"utt-{number:06d}"] = " ".join(reference)
        hypotheses[f"utt-{number:06d}"] = " ".join(hypothesis)
    return references, hypotheses


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What ``work`` returns, and its seconds."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def measure(
    references: dict[str, str], hypotheses: dict[str, str], unit: str, samples: int
) -> dict[str, Any]:
    """Seconds of each step in one unit."""
    meter, cpu = PeakMeter(), time.process_time()
    report, aligning = timed(lambda: score(references, hypotheses, unit))
    growth = meter.growth_bytes()
    text, writing = timed(lambda: format_report(report))
    _, confusions = timed(lambda: count_confusions(report))
    errors, lengths = report.errors_and_lengths()
    interval, bootstrap = timed(lambda: wer_interval(errors, lengths, samples))
    cpu = time.process_time() - cpu
    better = np.minimum(errors, np.maximum(errors - 1, 0) + np.arange(len(errors)) % 2)
    _, paired = timed(lambda: paired_difference(errors, better, lengths, samples))
    seconds = aligning + writing + confusions + bootstrap
    return {
        "unit": unit,
        "wer": round(report.total.wer, 3),
        "interval": [round(interval.low, 3), round(interval.high, 3)],
        "align_seconds": round(aligning, 2),
        "text_seconds": round(writing, 2),
        "text_mb": round(len(text) / 2**20, 1),
        "confusion_seconds": round(confusions, 2),
        "bootstrap_seconds": round(bootstrap, 2),
        "paired_bootstrap_seconds": round(paired, 2),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "pairs_per_second": round(len(references) / seconds),
        "peak_mb": None if growth is None else round(growth / 2**20, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=100000)
    parser.add_argument("--words", type=int, nargs=2, default=(10, 20), help="fewest and most")
    parser.add_argument("--error-rate", type=float, default=0.1)
    parser.add_argument("--samples", type=int, default=10000)
    parser.add_argument("--units", nargs="+", choices=UNITS, default=["word", "char"])
    args = parser.parse_args()
    references, hypotheses = make_pairs(args.pairs, tuple(args.words), args.error_rate)
    print(
        f"{args.pairs} pairs of {args.words[0]} to {args.words[1]} words, {args.samples} samples\n"
    )
    heads = ("unit", "WER %", "align s", "text s", "confusions s", "bootstrap s", "paired s")
    print("".join(f"{head:>14}" for head in (*heads, "total s", "CPU s", "pairs/s", "peak MB")))
    rows = [measure(references, hypotheses, unit, args.samples) for unit in args.units]
    for row in rows:
        cells = [row["unit"], row["wer"]] + [
            row[f"{step}_seconds"]
            for step in ("align", "text", "confusion", "bootstrap", "paired_bootstrap")
        ]
        cells += [row["seconds"], row["cpu_seconds"], row["pairs_per_second"], row["peak_mb"]]
        print("".join(f"{cell!s:>14}" for cell in cells))
    summary = {
        "pairs": args.pairs,
        "seconds": rows[0]["seconds"],
        "cpu_seconds": rows[0]["cpu_seconds"],
        "pairs_per_second": rows[0]["pairs_per_second"],
        "samples": args.samples,
        "results": rows,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
