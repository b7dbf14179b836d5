"""Scoring of 1,000 lattices of 10,000 arcs as `moe-asr score-lattices` does, by its parts; and Bayes risk.

    python -m benchmarks.score_lattices [--lattices 1000] [--utterances 8] [--arcs 10000]

Utterances of `benchmarks.ctc_lattice`, their lattices pruned to 10,000 arcs, are repeated until there are
so many, and written to an archive. Seconds of one processor: of the command's whole work with reading, sizes,
n-best of 100, all oracles and confidences; then of each part alone, and of Bayes risk decoding with scores as
they are and scaled.
Last line: one JSON object.
"""

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.ctc_lattice import CtcLattice, make_ctc_lattices
from moe_asr.evaluate.calibration import calibrate
from moe_asr.evaluate.lattice_quality import QualityOptions, confidences_of
from moe_asr.evaluate.lattice_report import format_summary, score_archive, write_report
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lattice_file import LatticeArchive, LatticeWriter
from moe_asr.fsa.lattice_info import lattice_info
from moe_asr.fsa.lattice_scores import best_path, prune
from moe_asr.fsa.mbr import minimum_bayes_risk
from moe_asr.fsa.nbest import nbest_sequences
from moe_asr.fsa.oracle import lattice_oracle, nbest_oracle
from moe_asr.text.symbol_table import SymbolTable

BEAM = 7.0  # of the search; of more than 10,000 arcs
RISK_SCALES = (1.0, 0.5, 0.3)


def write_archive(path: Path, examples: list[CtcLattice], count: int) -> dict[str, str]:
    """Writes the lattices, over and over, and returns their references; words are called by their ids."""
    most = max(int(example.lattice.words.max(initial=0)) for example in examples)
    most = max(most, *(word for example in examples for word in example.reference))
    words = SymbolTable(["<eps>", *(f"w{i}" for i in range(1, most + 1))])
    references = {}
    with LatticeWriter(path, word_table=words) as writer:
        for number in range(count):
            example = examples[number % len(examples)]
            name = f"utt{number:05d}"
            writer.write(name, example.lattice)
            references[name] = " ".join(words.symbol(word) for word in example.reference)
    return references


def pruned(example: CtcLattice, most: int) -> CtcLattice:
    """With the widest beam, of steps of 0.01, that leaves at most so many arcs."""
    low, high = 0, round(100 * example.beam)
    while high - low > 1:
        middle = (low + high) // 2
        if prune(example.lattice, middle / 100).num_arcs <= most:
            low = middle
        else:
            high = middle
    return CtcLattice(prune(example.lattice, low / 100), example.reference, low / 100)


def seconds(work: Callable[[], Any]) -> float:
    """Of the processor, for one call: other programs of the machine are left out."""
    start = time.process_time()
    work()
    return time.process_time() - start


def parts(examples: list[CtcLattice], count: int) -> dict[str, float]:
    """Seconds of each part for so many lattices, from one pass over the examples."""

    def for_all(part: Callable[[Lattice, list[int]], Any]) -> float:
        return (
            seconds(lambda: [part(e.lattice, e.reference) for e in examples])
            * count
            / len(examples)
        )

    options = QualityOptions()
    best = {id(e.lattice): best_path(e.lattice) for e in examples}
    return {
        "sizes": for_all(lambda lattice, _: lattice_info(lattice)),
        "n-best of 100": for_all(lambda lattice, _: nbest_sequences(lattice, 100)),
        "lattice oracle": for_all(lattice_oracle),
        "confidences": for_all(
            lambda lattice, _: confidences_of(lattice, best[id(lattice)].words, options)
        ),
    }


def bayes_risk(examples: list[CtcLattice], scale: float) -> dict[str, Any]:
    """Errors of the best path and of the least risk over the examples, and the seconds of one."""
    found, taken = [], []
    for example in examples:
        start = time.process_time()
        found.append(minimum_bayes_risk(example.lattice, 100, "word", scale, scale))
        taken.append(time.process_time() - start)

    def errors(hypotheses: list[Any]) -> int:
        return sum(
            nbest_oracle([words], e.reference)[1].errors
            for words, e in zip(hypotheses, examples, strict=True)
        )

    confidences = np.concatenate([result.word_confidences for result in found])
    correct = [
        left == right
        for result, e in zip(found, examples, strict=True)
        for left, right in nbest_oracle([result.words], e.reference)[1].alignment
        if right is not None
    ]
    return {
        "scale": scale,
        "errors_of_best_paths": errors([best_path(e.lattice).words for e in examples]),
        "errors": errors([result.words for result in found]),
        "expected_errors_of_best_paths": sum(result.best_path_risk for result in found),
        "expected_errors": sum(result.risk for result in found),
        "risk_error": max(result.risk_error for result in found),
        "normalised_cross_entropy": calibrate(confidences, correct).normalised_cross_entropy,
        "proven": sum(result.is_proven for result in found),
        "mean_seconds": float(np.mean(taken)),
        "max_seconds": max(taken),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lattices", type=int, default=1000)
    parser.add_argument("--utterances", type=int, default=8)
    parser.add_argument("--arcs", type=int, default=10_000, help="of a lattice, at most")
    args = parser.parse_args()
    torch.set_num_threads(1)
    examples = [
        pruned(make_ctc_lattices([BEAM], seed=seed)[0], args.arcs)
        for seed in range(args.utterances)
    ]
    arcs = [example.lattice.num_arcs for example in examples]
    words = sum(len(example.reference) for example in examples)
    print(
        f"{len(examples)} utterances of {words} words, lattices of {min(arcs)} to {max(arcs)} arcs"
    )
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        path = folder / "lattices.safetensors"
        references = write_archive(path, examples, args.lattices)
        few = dict(list(references.items())[:1])
        with tempfile.TemporaryDirectory() as other:  # compile
            small = Path(other) / "lattices.safetensors"
            write_archive(small, examples, 1)
            with LatticeArchive(small) as archive:
                write_report(other, score_archive(archive, few))
        minimum_bayes_risk(examples[0].lattice)
        with LatticeArchive(path) as archive:
            start = time.process_time()
            report = write_report(folder, score_archive(archive, references, progress=True))
            total = time.process_time() - start
    print(format_summary(report))
    by_part = parts(examples, args.lattices)
    print(f"\n{args.lattices} lattices of {int(np.mean(arcs))} arcs in the mean: {total:.1f} s")
    for name, taken in by_part.items():
        print(f"  {name:<16}{taken:>7.1f} s")
    risks = [bayes_risk(examples, scale) for scale in RISK_SCALES]
    print(
        f"\nBayes risk{'scale':>8}{'errors, best':>14}{'least risk':>12}{'s, mean':>9}{'most':>7}"
    )
    for row in risks:
        print(
            f"{'':<10}{row['scale']:>8}{row['errors_of_best_paths']:>14}{row['errors']:>12}"
            f"{row['mean_seconds']:>9.3f}{row['max_seconds']:>7.3f}"
        )
    summary = {
        "lattices": args.lattices,
        "arcs": arcs,
        "seconds": total,
        "parts": by_part,
        "bayes_risk": risks,
        "report": {key: report[key] for key in ("one_best", "nbest_oracle", "lattice_oracle")},
        "options": dataclasses.asdict(QualityOptions()),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
