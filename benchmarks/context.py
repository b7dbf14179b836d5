"""Contextual phrases: what listening for 10, 100, 1000 of them costs the search, and does to rare words.

    python -m benchmarks.context [--utterances 40] [--beam 14] [--boosts 2,4] [--levels word,token]

Graph and posteriors are those of ``benchmarks.lattice_search``. The phrases are rare words: first those of
the references, in random order, then others that nobody says. All settings take turns on one thread; times
are the least of the rounds. Recall is that of the boosted words in the references (aligned word by word),
found with the phrases and without; a false alarm is a boosted word that the reference does not have there.
The time to prepare is what a new list of phrases takes: compiling it and handing it to the engine. Last line:
one JSON object ``{"plain_rtf", "wer", "results": [{"phrases", "level", "boost", "rtf", "slowdown",
"prepare_ms", "wer", "said", "recall", "recall_before", "false_alarms", "false_alarms_before",
"active_per_frame"}]}``.
"""

import argparse
import itertools
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kaldialign
import numpy as np
import torch

from benchmarks.big_graph import make_words
from benchmarks.ctc_simulator import SimulatorOptions
from benchmarks.search_inputs import (
    GraphSize,
    TestSet,
    built_graph,
    default_cache,
    simulate_test_set,
)
from moe_asr.fsa.context import ContextGraph, Phrase, compile_context
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.lattice_scores import best_path
from moe_asr.fsa.native import NativeEngine, NativeSearchOptions

SIZES = (10, 100, 1000)


@dataclass(frozen=True)
class Found:
    """Of some words: how often they are said, recognised there, and recognised elsewhere."""

    said: int
    hits: int
    false_alarms: int

    @property
    def recall(self) -> float:
        """Percent."""
        return 100.0 * self.hits / max(self.said, 1)


def count_words(
    references: Sequence[Sequence[int]], hypotheses: Sequence[Sequence[int]], words: set[int]
) -> Found:
    """How well ``words`` were recognised, by the alignment of each reference and hypothesis."""
    said = hits = false_alarms = 0
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        for wanted, got in kaldialign.align(list(reference), list(hypothesis), 0):
            said += wanted in words
            hits += wanted in words and wanted == got
            false_alarms += got in words and wanted != got
    return Found(said, hits, false_alarms)


def word_error_rate(
    references: Sequence[Sequence[int]], hypotheses: Sequence[Sequence[int]]
) -> float:
    """Percent."""
    pairs = zip(references, hypotheses, strict=True)
    errors = sum(kaldialign.edit_distance(list(a), list(b))["total"] for a, b in pairs)
    return 100.0 * errors / sum(map(len, references))


def rare_words(
    graph: DecodingGraph, test_set: TestSet, num_words: int, rare_from: int, seed: int = 0
) -> list[int]:
    """Ids of the words from ``rare_from`` on: those of the references first, each part in random order.

    The words of the benchmark's text are in the order of how often they are said.
    """
    rng = random.Random(seed)
    rare = [graph.word_table[word] for word in make_words(num_words)[rare_from:]
            if word in graph.word_table]  # fmt: skip
    in_graph = set(np.unique(graph.words).tolist())
    said = {word for words in test_set.references for word in words}
    spoken = [word for word in rare if word in said and word in in_graph]
    others = [word for word in rare if word not in said and word in in_graph]
    rng.shuffle(spoken)
    rng.shuffle(others)
    return spoken + others


def search_all(
    engine: NativeEngine, utterances: Sequence[torch.Tensor], context: ContextGraph | None
) -> tuple[float, list[list[int]], float]:
    """CPU seconds, the words of each utterance, active states a frame."""
    since = time.thread_time()
    lattices, active = [], 0
    for log_probs in utterances:
        stream = engine.start(context)
        engine.advance([stream], [log_probs])
        lattices.append(engine.finish(stream))
        active += stream.states_active
    seconds = time.thread_time() - since
    paths = [best_path(lattice) for lattice in lattices]
    words = [list(path.words) if path is not None else [] for path in paths]
    return seconds, words, active / sum(map(len, utterances))


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--utterances", type=int, default=40)
    parser.add_argument("--beam", type=float, default=14.0)
    parser.add_argument("--boosts", default="2,4", help="separated by commas")
    parser.add_argument("--levels", default="word,token")
    parser.add_argument("--rare-from", type=int, default=2000, help="rank of the first rare word")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=default_cache(), help="graphs are kept here")
    parser.add_argument("--words", type=int, default=GraphSize.num_words)
    parser.add_argument("--sentences", type=int, default=GraphSize.num_sentences)
    args = parser.parse_args(arguments)
    args.boosts = [float(boost) for boost in args.boosts.split(",")]
    args.levels = args.levels.split(",")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse_arguments(arguments)
    torch.set_num_threads(1)
    graph = built_graph(GraphSize(args.words, args.sentences), args.cache)
    test_set = simulate_test_set(graph, args.utterances, SimulatorOptions(), 0)
    utterances = [torch.from_numpy(rows) for rows in test_set.log_probs]
    lg = graph.load("LG")
    engine = NativeEngine(lg, NativeSearchOptions(search_beam=args.beam, max_active=2000))
    words = rare_words(lg, test_set, args.words, args.rare_from)
    # what only the first list of phrases takes: the kernels, and what the arcs of the graph say
    for level in args.levels:
        engine.start(compile_context([Phrase(lg.word_table.symbol(words[0]))], lg, level))
    contexts: dict[Any, ContextGraph | None] = {None: None}
    prepare = {}
    for key in itertools.product(SIZES, args.levels, args.boosts):
        size, level, boost = key
        since = time.thread_time()
        phrases = [Phrase(lg.word_table.symbol(word), boost) for word in words[:size]]
        contexts[key] = compile_context(phrases, lg, level)
        engine.start(contexts[key])
        prepare[key] = 1000 * (time.thread_time() - since)
    seconds = dict.fromkeys(contexts, np.inf)
    results: dict[Any, tuple[list[list[int]], float]] = {}
    for _ in range(args.rounds):
        for key, context in contexts.items():
            spent, hypotheses, active = search_all(engine, utterances, context)
            seconds[key] = min(seconds[key], spent)
            results[key] = hypotheses, active
    plain, plain_active = results[None]
    plain_wer = word_error_rate(test_set.references, plain)
    print(
        f"{args.utterances} utterances, {test_set.num_words} words, {test_set.seconds:.0f} s; plain search: "
        f"RTF {seconds[None] / test_set.seconds:.5f}, WER {plain_wer:.2f} %, "
        f"{plain_active:.0f} active states a frame"
    )
    print("phrases  level  boost  slower  prepare ms  active    WER  said  recall %  false alarms")
    rows = []
    for key in itertools.product(SIZES, args.levels, args.boosts):
        (size, level, boost), (hypotheses, active) = key, results[key]
        before = count_words(test_set.references, plain, set(words[:size]))
        after = count_words(test_set.references, hypotheses, set(words[:size]))
        row = {
            "phrases": size,
            "level": level,
            "boost": boost,
            "rtf": seconds[key] / test_set.seconds,
            "slowdown": round(seconds[key] / seconds[None], 3),
            "prepare_ms": round(prepare[key], 1),
            "wer": round(word_error_rate(test_set.references, hypotheses), 3),
            "said": after.said,
            "recall": round(after.recall, 1),
            "recall_before": round(before.recall, 1),
            "false_alarms": after.false_alarms,
            "false_alarms_before": before.false_alarms,
            "active_per_frame": round(active, 1),
        }
        rows.append(row)
        print(
            f"{size:7d}  {level:5s} {boost:6g} {row['slowdown']:7.2f} {row['prepare_ms']:11.0f} "
            f"{active:7.0f} {row['wer']:6.2f} {after.said:5d}  {before.recall:4.0f} -> {after.recall:3.0f}"
            f"  {before.false_alarms:4d} -> {after.false_alarms}"
        )
    summary = {
        "plain_rtf": seconds[None] / test_set.seconds,
        "wer": round(plain_wer, 3),
        "results": rows,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
