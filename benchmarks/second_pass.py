"""The second pass: hypotheses as a tree, against a padded batch of them, and one at a time.

    python -m benchmarks.second_pass [--preset small] [--n 10,50,100] [--threads 1,2] [--rounds 5]

N-best lists as lattices give them are made of a random sequence: words are replaced, left out and put in, so
that most of each hypothesis is shared. ``flat`` is what is commonly done: the encoder's output repeated for
every hypothesis, one padded call of each decoder. Random weights, seeded; medians of interleaved rounds. Peak
memory is what torch allocated beyond the inputs, by its profiler. The last line is one JSON object.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from moe_asr.model.config import preset
from moe_asr.model.second_pass import MAX_MEGABYTES, second_pass_scores
from moe_asr.model.token_tree import token_tree
from moe_asr.model.u2 import U2MoeModel

NUM_UTTERANCES, NUM_FRAMES, NUM_WORDS, VOCABULARY = 8, 125, 10, 500
Lists = list[list[tuple[int, ...]]]


def make_lists(n: int, seed: int) -> Lists:
    """[utt][hypothesis] tokens: n different variants of ten words of one to three tokens."""
    rng = np.random.default_rng(seed)
    lists: Lists = []
    for _ in range(NUM_UTTERANCES):

        def word() -> tuple[int, ...]:
            return tuple(rng.integers(3, VOCABULARY, rng.integers(1, 4)).tolist())

        alternatives = [[word(), word(), word(), ()] for _ in range(NUM_WORDS)]
        found: dict[tuple[int, ...], None] = {}
        while len(found) < n:
            changed = set(rng.choice(NUM_WORDS, rng.integers(0, 4), replace=False).tolist())
            words = [
                ways[rng.integers(1, 4)] if place in changed else ways[0]
                for place, ways in enumerate(alternatives)
            ]
            found[tuple(token for one in words for token in one)] = None
        lists.append(list(found))
    return lists


@torch.no_grad()
def flat(model: U2MoeModel, memory: torch.Tensor, lengths: torch.Tensor, lists: Lists) -> list:
    """All hypotheses of an utterance as one padded batch."""
    scores = []
    for n, found in enumerate(lists):
        sizes = torch.tensor([len(tokens) for tokens in found])
        rows = [torch.tensor(tokens, dtype=torch.int64) for tokens in found]
        targets = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=3)
        repeated = memory[n : n + 1].expand(len(found), -1, -1)
        given = repeated, lengths[n].expand(len(found)), targets, sizes
        scores.append(
            [model.decoder_log_probs(*given, reverse).double().sum(1) for reverse in (False, True)]
        )
    return scores


@torch.no_grad()
def one_at_a_time(
    model: U2MoeModel, memory: torch.Tensor, lengths: torch.Tensor, lists: Lists
) -> list:
    """The reference."""
    return [
        flat(model, memory[n : n + 1], lengths[n : n + 1], [[tokens]])
        for n, found in enumerate(lists)
        for tokens in found
    ]


def peak_megabytes(call: Callable[[], object]) -> float:
    """The most that torch held at a time, beyond what it held before."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        call()
    events = sorted(
        (event.start_us(), event.nbytes())
        for event in profile.profiler.kineto_results.events()
        if event.name() == "[memory]"
    )
    held = highest = 0
    for _, size in events:
        held += size
        highest = max(highest, held)
    return highest / 1e6


def measure(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each, in turns."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            since = time.perf_counter()
            call()
            if number:
                spent[name].append(1e3 * (time.perf_counter() - since))
    return {name: statistics.median(values) for name, values in spent.items()}


def whole_numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="small")
    parser.add_argument("--n", type=whole_numbers, default=[10, 50, 100])
    parser.add_argument("--threads", type=whole_numbers, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-megabytes", type=float, default=MAX_MEGABYTES)
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    model = U2MoeModel(preset(args.preset, vocab_size=VOCABULARY)).eval()
    memory = torch.randn(NUM_UTTERANCES, NUM_FRAMES, model.config.dim)
    lengths = torch.full((NUM_UTTERANCES,), NUM_FRAMES)
    cells = []
    print(
        f"{args.preset}: {NUM_UTTERANCES} utterances of {NUM_FRAMES} frames (5 s), both decoders\n"
        f"{'n':>5}{'threads':>9}{'tokens':>8}{'nodes':>8}{'tree ms':>9}{'flat ms':>9}{'one ms':>9}"
        f"{'flat/tree':>11}{'one/tree':>10}{'tree MB':>9}{'flat MB':>9}{'RTF':>9}"
    )
    for n in args.n:
        lists = make_lists(n, seed=n)
        tokens = sum(len(one) + 1 for found in lists for one in found)
        nodes = sum(token_tree(found, 1).num_nodes for found in lists)
        given = model, memory, lengths, lists
        calls: dict[str, Callable[[], object]] = {
            "tree": lambda given=given: second_pass_scores(
                *given, max_megabytes=args.max_megabytes
            ),
            "flat": lambda given=given: flat(*given),
            "one": lambda given=given: one_at_a_time(*given),
        }
        memory_of = {name: peak_megabytes(calls[name]) for name in ("tree", "flat")}
        for threads in args.threads:
            torch.set_num_threads(threads)
            spent = measure(calls, args.rounds)
            rtf = spent["tree"] / 1e3 / (NUM_UTTERANCES * NUM_FRAMES * 0.04)
            cells.append(
                {
                    "n": n,
                    "threads": threads,
                    "tokens": tokens,
                    "nodes": nodes,
                    "tree_ms": round(spent["tree"], 2),
                    "flat_ms": round(spent["flat"], 2),
                    "one_ms": round(spent["one"], 2),
                    "speedup_vs_flat": round(spent["flat"] / spent["tree"], 2),
                    "speedup_vs_one": round(spent["one"] / spent["tree"], 2),
                    "tree_mb": round(memory_of["tree"], 1),
                    "flat_mb": round(memory_of["flat"], 1),
                    "rtf": round(rtf, 5),
                }
            )
            row = cells[-1]
            print(
                f"{n:>5}{threads:>9}{tokens:>8}{nodes:>8}{row['tree_ms']:>9}{row['flat_ms']:>9}"
                f"{row['one_ms']:>9}{row['speedup_vs_flat']:>11}{row['speedup_vs_one']:>10}"
                f"{row['tree_mb']:>9}{row['flat_mb']:>9}{row['rtf']:>9}"
            )
    print(json.dumps({"preset": args.preset, "cells": cells}))


if __name__ == "__main__":
    main()
