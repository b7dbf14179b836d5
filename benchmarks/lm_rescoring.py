"""Lattices and n-best lists with a larger n-gram model in place of the first pass's: time, growth, errors.

    python -m benchmarks.lm_rescoring [--utterances 4] [--rounds 3]

The lattices are of utterances searched by the native engine with a bigram LG (`benchmarks.ctc_lattice`);
the models are a 2-, 3- and 4-gram of the bigram's text, and the bigram is taken out. Times are CPU time of
one thread, the mean of a lattice in the fastest of some rounds. Growth is arcs after over arcs before; beams
are a search beam and one of the result. Errors, of the best paths, compare the ways of rescoring rather than
the models.
Last line: one JSON object.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.big_graph import make_inputs
from benchmarks.ctc_lattice import simulate_posteriors
from moe_asr.fsa.build import build_lg
from moe_asr.fsa.lattice import Lattice
from moe_asr.fsa.lexicon_fst import lexicon_fst
from moe_asr.fsa.lm_rescore import rescore_lattice, rescore_nbests
from moe_asr.fsa.native import NativeEngine, NativeSearchOptions
from moe_asr.fsa.nbest import nbest
from moe_asr.fsa.oracle import nbest_oracle
from moe_asr.lm.score import NgramScorer
from moe_asr.lm.train import train_arpa

NUM_WORDS, NUM_FRAMES = 800, 600
BEAMS = (4.5, 6.3, 8.0)  # of the first pass: 10, 30 and 90 thousand arcs
BEAM, SEARCH_BEAM = 6.0, 9.0
N = 100


def setup(
    num_utterances: int,
) -> tuple[dict[float, list[Lattice]], list[list[int]], dict[int, Any]]:
    """Lattices by beam, references, models by order."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = make_inputs(Path(folder), NUM_WORDS, 10 * NUM_WORDS, vocab_size=120)
        scorers = {}
        for order in (2, 3, 4):
            arpa = Path(folder) / f"{order}.arpa"
            train_arpa(
                inputs.directory / "text.txt", order, arpa, vocab=inputs.directory / "words.txt"
            )
            scorers[order] = NgramScorer.read(arpa, inputs.words)
    tokens = inputs.tokenizer.tokens
    graph = build_lg(
        lexicon_fst(inputs.lexicon, tokens, inputs.words), inputs.g, tokens, inputs.words
    )
    simulated = [
        simulate_posteriors(inputs, NUM_FRAMES, np.random.RandomState(seed))
        for seed in range(num_utterances)
    ]
    lattices = {}
    for beam in BEAMS:
        options = NativeSearchOptions(search_beam=20.0, output_beam=beam, max_active=1_000_000)
        engine = NativeEngine(graph, options)
        lattices[beam] = [
            engine.search(torch.from_numpy(log_probs)[None], torch.tensor([NUM_FRAMES]))[0]
            for log_probs, _ in simulated
        ]
    return lattices, [reference for _, reference in simulated], scorers


def best_of(work: Callable[[], Any], rounds: int) -> tuple[Any, float]:
    """What ``work`` returns, and the least of its milliseconds of CPU time."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        result = work()
        times.append(time.process_time() - start)
    return result, 1e3 * min(times)


def num_errors(lattices: list[Lattice], references: list[list[int]]) -> int:
    """Word errors of the best paths."""
    return sum(
        nbest_oracle([nbest(lattice, 1)[0].words], reference)[1].errors
        for lattice, reference in zip(lattices, references, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    lattices, references, scorers = setup(args.utterances)
    count, old = args.utterances, scorers[2]
    start = time.perf_counter()
    rescore_lattice(lattices[BEAMS[0]][0], scorers[3], old, beam=1.0)
    old.score([[1]])
    compile_seconds = time.perf_counter() - start
    print(f"first calls, compiling or loading what was compiled: {compile_seconds:.1f} s")
    for order, scorer in scorers.items():
        print(f"{order}-gram: {sum(scorer.model.counts)} n-grams")

    rows: list[dict[str, Any]] = []
    print(
        f"\n{'arcs':>9}{'new':>5}{'out':>5}{'ms':>9}{'us/arc':>8}{'arcs after':>12}{'growth':>8}"
        f"{'errors':>8}{'ms, beams':>11}{'arcs after':>12}{'errors':>8}"
    )
    for beam in BEAMS:
        arcs = sum(lattice.num_arcs for lattice in lattices[beam]) / count
        before = num_errors(lattices[beam], references)
        print(f"{arcs:>9.0f}{'first pass':>10}{before:>49}")
        for order, out in ((3, None), (3, old), (4, old), (2, old)):
            found, ms = best_of(
                lambda: [rescore_lattice(x, scorers[order], out) for x in lattices[beam]],  # noqa: B023
                args.rounds,
            )
            pruned, pruned_ms = best_of(
                lambda: [  # noqa: B023
                    rescore_lattice(x, scorers[order], out, beam=BEAM, search_beam=SEARCH_BEAM)  # noqa: B023
                    for x in lattices[beam]  # noqa: B023
                ],
                args.rounds,
            )
            after = sum(lattice.num_arcs for lattice in found) / count
            row = {
                "arcs": arcs,
                "new": order,
                "old": 2 if out else None,
                "ms": ms / count,
                "arcs_after": after,
                "growth": after / arcs,
                "ms_with_beams": pruned_ms / count,
                "arcs_after_beams": sum(lattice.num_arcs for lattice in pruned) / count,
                "errors": num_errors(found, references),
                "errors_with_beams": num_errors(pruned, references),
                "errors_before": before,
            }
            rows.append(row)
            print(
                f"{arcs:>9.0f}{order:>5}{'2' if out else '-':>5}{row['ms']:>9.2f}"
                f"{1e3 * row['ms'] / arcs:>8.3f}{after:>12.0f}{row['growth']:>8.2f}"
                f"{row['errors']:>8}{row['ms_with_beams']:>11.2f}{row['arcs_after_beams']:>12.0f}"
                f"{row['errors_with_beams']:>8}"
            )

    lists = [nbest(lattice, N) for lattice in lattices[BEAMS[0]]]
    num_words = sum(len(path.words) + 1 for one in lists for path in one)
    print(f"\n{N}-best lists, {num_words} words with ends in {count} lists:")
    nbest_rows = []
    for order in (3, 4):
        found_lists, ms = best_of(lambda: rescore_nbests(lists, scorers[order], old), args.rounds)  # noqa: B023
        sequences = [path.words for one in lists for path in one]
        _, score_ms = best_of(lambda: scorers[order].score(sequences), args.rounds)  # noqa: B023
        errors = sum(
            nbest_oracle([one[0].words], reference)[1].errors
            for one, reference in zip(found_lists, references, strict=True)
        )
        nbest_rows.append(
            {
                "new": order,
                "ms": ms / count,
                "scoring_words_per_second": 1e3 * num_words / score_ms,
                "errors": errors,
            }
        )
        print(
            f"{order}-gram: {ms / count:.2f} ms a list, {errors} errors; "
            f"scoring alone {1e3 * num_words / score_ms:,.0f} words/s"
        )
    summary = {
        "utterances": count,
        "frames": NUM_FRAMES,
        "ngrams": {order: scorer.model.counts for order, scorer in scorers.items()},
        "compile_seconds": compile_seconds,
        "beam": BEAM,
        "search_beam": SEARCH_BEAM,
        "lattices": rows,
        "nbest": nbest_rows,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
