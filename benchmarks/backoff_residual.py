"""By how much the score of a graph with backoff arcs exceeds that of the n-gram model it was made of.

    python -m benchmarks.backoff_residual [--sentences 1500]

In a G, and so in an LG, backing off is an arc that may be taken beside n-grams that are there; a search takes
the best way. For held-out sentences of `benchmarks.ngram_pruning`'s text that best score and the model's own
are compared, with models trained on the rest. Last line: one JSON object.
"""

import argparse
import json
import random
from typing import Any

import numpy as np

from benchmarks.ngram_pruning import docstring_sentences
from moe_asr.lm.corpus import corpus_of
from moe_asr.lm.kneser_ney import train_kneser_ney
from moe_asr.lm.model import BOS, EOS, NgramModel
from moe_asr.lm.prune import prune
from moe_asr.lm.score import NgramScorer
from moe_asr.text.symbol_table import SymbolTable

THRESHOLD = 1e-5
VISIBLE = 1e-6


def best_score(model: NgramModel, words: list[int], is_state: np.ndarray) -> float:
    """The best of all ways to back off, by dynamic programming over the states of G, which are nodes."""

    def state_of(node: int, score: float) -> tuple[int, float]:
        while not is_state[node]:
            node, score = int(model.suffix[node]), score + float(model.backoff[node])
        return node, score

    end = model.words[EOS]
    scores = {model.words[BOS] + 1: 0.0}
    for word in [*words, end]:
        waiting = list(scores)
        while waiting:  # a state's backoff leads to one of fewer words
            node = waiting.pop()
            if node != 0:
                below, score = state_of(
                    int(model.suffix[node]), scores[node] + float(model.backoff[node])
                )
                if score > scores.get(below, -np.inf):
                    scores[below] = score
                    waiting.append(below)
        nodes = np.array(list(scores))
        found = model.find(nodes, np.full(len(nodes), word))
        before, scores = scores, {}
        for node, ngram in zip(nodes.tolist(), found.tolist(), strict=True):
            if ngram >= 0:
                total = before[node] + float(model.log_prob[ngram])
                after, total = (0, total) if word == end else state_of(ngram, total)
                scores[after] = max(scores.get(after, -np.inf), total)
    return scores[0]


def measure(model: NgramModel, sentences: list[list[str]]) -> dict[str, Any]:
    """The excess, over all sentences, in nats."""
    is_state = model.has_children.copy()
    is_state[[0, model.words[BOS] + 1]] = True
    table = SymbolTable(["<eps>", *model.words])
    ids = [[model.words.get(word, model.unk_id) or 0 for word in words] for words in sentences]
    exact = NgramScorer(model, table).score([[word + 1 for word in words] for words in ids])
    excess = np.array([best_score(model, words, is_state) for words in ids]) - exact
    num_words = sum(len(words) + 1 for words in sentences)
    return {
        "order": model.order,
        "ngrams": sum(model.counts),
        "least": float(excess.min()),
        "sentences_percent": 100 * float((excess > VISIBLE).mean()),
        "mean_per_sentence": float(excess.mean()),
        "mean_per_word": float(excess.sum() / num_words),
        "percentile_99": float(np.quantile(excess, 0.99)),
        "max": float(excess.max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentences", type=int, default=1500, help="held out")
    args = parser.parse_args()
    sentences = docstring_sentences()
    random.Random(1).shuffle(sentences)
    cut = len(sentences) // 10
    corpus = corpus_of(sentences[cut:])
    held_out = [sentence.split() for sentence in sentences[:cut]][: args.sentences]
    print(f"{corpus.num_words} words; {len(held_out)} sentences held out; nats")
    print(
        f"{'order':>5}{'n-grams':>10}{'sentences':>11}{'a sentence':>12}{'a word':>10}{'99 %':>8}{'most':>8}"
    )
    rows = []
    for order in (2, 3, 4):
        whole = train_kneser_ney(corpus, order).model
        for model in (whole, prune(whole, THRESHOLD)):
            row = measure(model, held_out)
            assert row["least"] > -1e-9, row
            rows.append(row)
            print(
                f"{order:>5}{row['ngrams']:>10}{row['sentences_percent']:>9.1f} %"
                f"{row['mean_per_sentence']:>12.4f}{row['mean_per_word']:>10.5f}"
                f"{row['percentile_99']:>8.2f}{row['max']:>8.2f}",
                flush=True,
            )
    print(json.dumps({"words": corpus.num_words, "threshold": THRESHOLD, "models": rows}))


if __name__ == "__main__":
    main()
