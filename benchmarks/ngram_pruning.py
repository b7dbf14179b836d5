"""Entropy pruning with p(history) from the model itself, as in the paper, and from the text's counts.

    python -m benchmarks.ngram_pruning [--order 4] [--quick]

The text is English that every machine has: the docstrings of the standard library, as lower-case words; a
tenth of its sentences is held out. Last line: one JSON object.
"""

import argparse
import ast
import json
import random
import re
import sysconfig
from pathlib import Path

from moe_asr.lm.corpus import corpus_of
from moe_asr.lm.kneser_ney import train_kneser_ney
from moe_asr.lm.perplexity import measure_perplexity
from moe_asr.lm.prune import prune

THRESHOLDS = (1e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4)


def docstring_sentences() -> list[str]:
    """Distinct sentences of at least four words, sorted."""
    sentences = set()
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" in path.parts:
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # files that test the parser
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                for sentence in re.split(r"[.!?]\s|\n\s*\n", ast.get_docstring(node) or ""):
                    words = re.findall(r"[a-z']+", sentence.lower())
                    if len(words) > 3:
                        sentences.add(" ".join(words))
    return sorted(sentences)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--order", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="a tenth of the text")
    args = parser.parse_args()
    sentences = docstring_sentences()
    random.Random(1).shuffle(sentences)
    if args.quick:
        sentences = sentences[: len(sentences) // 10]
    cut = len(sentences) // 10
    corpus, held_out = corpus_of(sentences[cut:]), corpus_of(sentences[:cut])
    trained = train_kneser_ney(corpus, args.order)
    whole = measure_perplexity(trained.model, held_out).perplexity
    print(f"{corpus.num_words} words, {held_out.num_words} held out, {args.order}-gram")
    print(f"{sum(trained.model.counts[1:])} n-grams of order 2 and up: perplexity {whole:.1f}")
    print(f"{'threshold':>9}{'p(history) of':>15}{'n-grams':>10}{'perplexity':>12}")
    cells = []
    for threshold in THRESHOLDS:
        for source, log_prob in (("model", None), ("text", trained.history_log_prob)):
            model = prune(trained.model, threshold, log_prob)
            size = sum(model.counts[1:])
            perplexity = measure_perplexity(model, held_out).perplexity
            print(f"{threshold:>9.0e}{source:>15}{size:>10}{perplexity:>12.1f}")
            cells.append([threshold, source, size, round(perplexity, 2)])
    print(json.dumps({"words": corpus.num_words, "perplexity": round(whole, 2), "cells": cells}))


if __name__ == "__main__":
    main()
