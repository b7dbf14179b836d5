"""Perplexity of an n-gram model on a text, and the text's rate of unknown words.

    python lang/compute_perplexity.py --lm LM.arpa --text FILE

What each figure is: docs/ngram.md.
"""

import argparse
import sys
from pathlib import Path

from moe_asr.cli.script import run_script


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lm", type=Path, required=True, help="an ARPA file; or .gz")
    parser.add_argument("--text", type=Path, required=True, help="one sentence a line; or .gz")
    parser.add_argument(
        "--tokenizer", type=Path, metavar="DIR", help="encode the text by it (token n-grams)"
    )
    args = parser.parse_args()
    from moe_asr.lm.arpa import read_arpa
    from moe_asr.lm.corpus import read_corpus
    from moe_asr.lm.perplexity import measure_perplexity
    from moe_asr.text.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(args.tokenizer) if args.tokenizer is not None else None
    model = read_arpa(args.lm)
    report = measure_perplexity(model, read_corpus(args.text, tokenizer=tokenizer, progress=True))
    print(f"{args.lm}: {model.order}-gram, n-grams {' '.join(map(str, model.counts))}")
    print(f"{args.text}: {report.table()}")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
