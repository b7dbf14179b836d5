"""HLG over a large vocabulary, by every builder that is installed: time, memory, and the same scores.

    python -m benchmarks.graph_building [--words 15500] [--sentences 150000] [--compare 1000]

The text, its words and the bigram are those of `benchmarks.big_graph`. Each builder runs in a process of
its own, whose memory is measured. Then sentences, half of the text and half of words at random, are scored on
the HLGs and by L and G. Last line: one JSON object.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from benchmarks.big_graph import BigInputs, make_inputs
from moe_asr.fsa.accept import best_score_of_words, score_lg, spellings_of
from moe_asr.fsa.build_files import GraphJob, build_graph_files
from moe_asr.fsa.builder import builder_names, make_builder
from moe_asr.fsa.graph import DecodingGraph
from moe_asr.fsa.memory import parse_memory_size
from moe_asr.fsa.steps import format_steps


def installed_builders() -> list[str]:
    """``openfst``, and before it ``k2`` where that is what ``auto`` means."""
    return [name for name in builder_names() if name in {make_builder().name, "openfst"}]


def build(inputs: BigInputs, builder: str, limit: int) -> tuple[dict[str, float], DecodingGraph]:
    """Builds, prints the table of the steps, and returns the figures and the HLG."""
    folder = inputs.directory / builder
    folder.mkdir()
    files = [inputs.directory / f"{name}.safetensors" for name in ("G", "L_disambig")]
    tables = [inputs.directory / f"{name}.txt" for name in ("tokens", "words")]
    job = GraphJob(files[0], tables[0], files[1], tables[1], builder=builder)
    start = time.perf_counter()
    steps = build_graph_files(job, folder, limit)
    seconds = time.perf_counter() - start
    print(f"\n{builder}: {seconds:.1f} s with reading, writing and starting the process")
    print(format_steps(steps))
    figures = {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(sum(step.cpu_seconds for step in steps), 2),
        "peak_mb": max(step.peak_bytes or 0 for step in steps) >> 20,
        "hlg_states": steps[-1].num_states,
        "hlg_arcs": steps[-1].num_arcs,
    }
    return figures, DecodingGraph.load(folder / "HLG.safetensors")


def compare(inputs: BigInputs, graphs: dict[str, DecodingGraph], count: int) -> float:
    """The largest difference between any two of the scores of a sentence: those of the graphs, L and G's."""
    rng = random.Random(0)
    words, text = inputs.words, inputs.text
    spellings = spellings_of(inputs.lexicon, inputs.tokenizer.tokens, words)
    largest, seconds = 0.0, dict.fromkeys(graphs, 0.0)
    for number in range(count):
        if number % 2:
            sentence = text.sentence(rng.randrange(len(text.splits) - 1))
        else:
            sentence = rng.choices(text.words, k=rng.randint(1, 12))
        ids = [words[word] for word in sentence]
        scores = [score_lg(spellings, inputs.g, ids)]
        for name, graph in graphs.items():
            start = time.perf_counter()
            scores.append(best_score_of_words(graph, spellings, ids))
            seconds[name] += time.perf_counter() - start
        found = [score for score in scores if score is not None]
        if len(found) != len(scores):
            raise SystemExit(f"accepted by some only: {' '.join(sentence)}: {scores}")
        largest = max(largest, max(found) - min(found))
    shown = ", ".join(f"{name} {1e3 * spent / count:.1f} ms" for name, spent in seconds.items())
    print(f"\n{count} sentences, scored by L and G and on each HLG ({shown} a sentence)")
    print(f"largest difference of two scores of a sentence: {largest:.2g}")
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--words", type=int, default=15_500)
    parser.add_argument("--sentences", type=int, default=150_000, help="of the training text")
    parser.add_argument("--compare", type=int, default=1000, help="sentences to score")
    parser.add_argument("--memory-limit", type=parse_memory_size, default="4GB")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="moe_asr.") as folder:
        start = time.perf_counter()
        inputs = make_inputs(Path(folder), args.words, args.sentences)
        print(
            f"{len(inputs.text.words)} words, {len(inputs.tokenizer.tokens)} units, "
            f"{inputs.num_bigrams} bigrams of {len(inputs.text.ids)} words of text "
            f"(made in {time.perf_counter() - start:.1f} s)"
        )
        figures, graphs = {}, {}
        for builder in installed_builders():
            figures[builder], graphs[builder] = build(inputs, builder, args.memory_limit)
        difference = compare(inputs, graphs, args.compare)
    result = {
        "words": len(inputs.text.words),
        "bigrams": inputs.num_bigrams,
        "builders": figures,
        "max_score_difference": difference,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
