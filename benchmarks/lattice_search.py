"""Lattice search on a large graph: the native engine, k2, and Kaldi's decoders, side by side on one core.

    python -m benchmarks.lattice_search [--peakiness 1.0] [--utterances 40] [--engines native,k2] [--quick]

A bigram of 15,500 words (`benchmarks.big_graph`) gives LG and HLG, which are built once and kept in
``--cache``; posteriors of sentences that it was not trained on are simulated (`benchmarks.ctc_simulator`).
Every engine runs at several settings, each once in a process of its own, for error rates and memory, and then
all in turns in this process, for time: the wall time of the search alone, with the posteriors in memory,
median of the rounds. Last line: one JSON object. Speed-ups called ``exact`` are of native without
accelerations; for those called ``same_frames`` the peer is given only the frames that native's
``blank_skip`` leaves.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.ctc_simulator import SimulatorOptions, posterior_statistics
from benchmarks.search_engines import engine_names
from benchmarks.search_inputs import GraphSize, built_graph, default_cache, simulate_test_set
from benchmarks.search_report import format_table, summary
from benchmarks.search_run import ONE_THREAD, one_core
from benchmarks.search_suite import run_suite


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peakiness", type=float, default=1.0, help="multiplies the logits")
    parser.add_argument("--utterances", type=int, default=40, help="of some eleven seconds each")
    parser.add_argument("--seed", type=int, default=0, help="of sentences and posteriors")
    parser.add_argument("--engines", default=",".join(engine_names()), help="separated by commas")
    parser.add_argument("--quick", action="store_true", help="few settings and one round")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="graphs are kept here")
    parser.add_argument("--dump", type=Path, help="save the posteriors (npz) and end")
    parser.add_argument("--words", type=int, default=GraphSize.num_words)
    parser.add_argument("--sentences", type=int, default=GraphSize.num_sentences)
    parser.add_argument("--vocab-size", type=int, default=GraphSize.vocab_size)
    args = parser.parse_args(arguments)
    args.engines = args.engines.split(",")
    for name in args.engines:
        if name not in engine_names():
            parser.error(f"unknown engine '{name}': expected some of {', '.join(engine_names())}")
    if args.utterances < 1:
        parser.error(f"--utterances must be at least 1, found {args.utterances}")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    size = GraphSize(args.words, args.sentences, args.vocab_size)
    graph = built_graph(size, args.cache)
    options = SimulatorOptions(peakiness=args.peakiness)
    test_set = simulate_test_set(graph, args.utterances, options, args.seed)
    statistics = posterior_statistics(test_set.log_probs)
    print(
        f"{len(test_set.references)} utterances, {test_set.num_words} words, {test_set.seconds:.0f} s\n"
        f"{statistics}"
    )
    if args.dump is not None:
        test_set.save(args.dump)
        return
    os.environ.update(ONE_THREAD)
    with one_core():
        rows = run_suite(args.engines, graph, test_set, args.quick)
    print(format_table(rows))
    print(json.dumps({**summary(rows), "peakiness": args.peakiness}))


if __name__ == "__main__":
    main()
