"""Whether native and k2 find the same on a large graph: best scores, and all word sequences near the best.

    python -m benchmarks.search_agreement [--utterances 20] [--beam 6] [--cache DIR]

Both search with generous beams, native on the LG and k2 on the HLG that is built from it. The exact n-best
of each lattice then gives every word sequence within ``--beam`` of the best with its score; those within
0.001 of the edge may be on either side. Ends with status 1 if anything differs. Last line: one JSON object
``{"utterances", "sequences", "largest_score_difference", "largest_best_score_difference", "only_native",
"only_k2"}``.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.ctc_simulator import SimulatorOptions
from benchmarks.search_inputs import GraphSize, built_graph, default_cache, simulate_test_set
from moe_asr.fsa.engine import SearchEngine, SearchOptions
from moe_asr.fsa.native import NativeEngine
from moe_asr.fsa.nbest import nbest
from moe_asr.fsa.search_k2 import K2Engine

TOLERANCE = 1e-3


def near_best(
    engine: SearchEngine, log_probs: torch.Tensor, beam: float, most: int
) -> dict[tuple[int, ...], float]:
    """Word sequences within ``beam`` of the best, at most ``most``, and their scores."""
    lattice = engine.search(log_probs[None], torch.tensor([len(log_probs)]))[0]
    found = nbest(lattice, most)
    return {path.words: path.score for path in found if path.score >= found[0].score - beam}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--utterances", type=int, default=20)
    parser.add_argument("--beam", type=float, default=6.0)
    parser.add_argument("--most", type=int, default=2000, help="sequences of an utterance")
    parser.add_argument("--search-beam", type=float, default=30.0)
    parser.add_argument("--cache", type=Path, default=default_cache(), help="graphs are kept here")
    parser.add_argument("--words", type=int, default=GraphSize.num_words)
    parser.add_argument("--sentences", type=int, default=GraphSize.num_sentences)
    parser.add_argument("--vocab-size", type=int, default=GraphSize.vocab_size)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    graph = built_graph(GraphSize(args.words, args.sentences, args.vocab_size), args.cache)
    test_set = simulate_test_set(graph, args.utterances, SimulatorOptions(), 0)
    options = SearchOptions(
        search_beam=args.search_beam, output_beam=args.beam + 2, min_active=0, max_active=10**6
    )
    native = NativeEngine(graph.load("LG"), options)
    k2 = K2Engine(graph.load("HLG"), options)
    num_sequences, only_native, only_k2, largest, largest_best = 0, 0, 0, 0.0, 0.0
    for rows in tqdm(test_set.log_probs, unit="utt", disable=not sys.stderr.isatty()):
        mine = near_best(native, torch.from_numpy(rows), args.beam, args.most)
        theirs = near_best(k2, torch.from_numpy(rows), args.beam, args.most)
        best = max(mine.values())
        largest_best = max(largest_best, abs(best - max(theirs.values())))
        # the last of a list that was cut short is an edge, too
        edge = max([best - args.beam, *(min(found.values()) for found in (mine, theirs))])
        clear = edge + TOLERANCE
        num_sequences += len(mine)
        only_native += sum(score > clear for words, score in mine.items() if words not in theirs)
        only_k2 += sum(score > clear for words, score in theirs.items() if words not in mine)
        shared = mine.keys() & theirs.keys()
        largest = max([largest, *(abs(mine[words] - theirs[words]) for words in shared)])
    result = {
        "utterances": len(test_set.log_probs),
        "sequences": num_sequences,
        "largest_score_difference": largest,
        "largest_best_score_difference": largest_best,
        "only_native": only_native,
        "only_k2": only_k2,
    }
    for name, value in result.items():
        print(f"{name:30s} {value}")
    print(json.dumps(result))
    return int(max(largest, largest_best) > TOLERANCE or only_native + only_k2 > 0)


if __name__ == "__main__":
    sys.exit(main())
