"""Builds an HLG from a lexicon (or words to spell) and a word loop."""

import argparse
from pathlib import Path

from moe_asr.fsa.builder import builder_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``build-hlg``."""
    parser.add_argument(
        "--tokenizer",
        "--model",
        "--model-or-tokenizer",
        dest="tokenizer",
        type=Path,
        required=True,
        metavar="DIR",
        help="a model or tokenizer directory: its tokens are the graph's",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--words", metavar="W,W,...", help="words, spelled by the tokenizer")
    source.add_argument(
        "--lexicon", type=Path, metavar="FILE", help="lines of: word token token ..."
    )
    parser.add_argument(
        "--lexicon-probabilities",
        action="store_true",
        help="the lexicon's lines are: word probability token token ...",
    )
    parser.add_argument(
        "--word-insertion-penalty",
        type=float,
        default=0.0,
        help="taken off the score of each word, beside log(number of words); default 0",
    )
    parser.add_argument(
        "--modified-topology",
        action="store_true",
        help="CTC topology without mandatory blanks between equal tokens",
    )
    parser.add_argument(
        "--builder",
        choices=builder_names(),
        default="auto",
        help="the library that builds; default: k2 where it is installed, else openfst",
    )
    parser.add_argument(
        "--draw", action="store_true", help="draw L and G too (small lexicons only)"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")


def run(args: argparse.Namespace) -> int:
    """Writes lexicon.txt, words.txt, tokens.txt and HLG.safetensors; prints states and arcs."""
    from moe_asr.fsa.build import build_graphs
    from moe_asr.fsa.grammar import word_loop
    from moe_asr.fsa.steps import format_steps
    from moe_asr.text.lexicon import Lexicon, lexicon_from_tokenizer
    from moe_asr.text.normalize import normalize_text
    from moe_asr.text.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(args.tokenizer)
    if args.lexicon:
        lexicon = Lexicon.read(args.lexicon, args.lexicon_probabilities)
    else:
        words = [normalize_text(word) for word in args.words.split(",") if word.strip()]
        lexicon = lexicon_from_tokenizer(words, tokenizer)
    grammar = word_loop(lexicon.words, word_insertion_penalty=args.word_insertion_penalty)
    metadata = {"grammar": "word loop", "word_insertion_penalty": args.word_insertion_penalty}
    graphs = build_graphs(
        lexicon,
        grammar.to_fst(lexicon.word_table()),
        tokenizer.tokens,
        "modified" if args.modified_topology else "standard",
        args.builder,
        metadata,
    )

    probabilities = args.lexicon_probabilities or lexicon.has_probabilities
    lexicon.write(args.output / "lexicon.txt", probabilities)
    words_table = graphs.hlg.word_table
    words_table.write(args.output / "words.txt")
    tokenizer.tokens.write(args.output / "tokens.txt")
    graphs.hlg.save(args.output / "HLG.safetensors")
    print(format_steps(graphs.steps))
    print(f"{len(lexicon.words)} words, {len(lexicon)} pronunciations")
    print(f"written: {args.output / 'HLG.safetensors'}")
    if args.draw:
        from moe_asr.fsa.draw import graph_to_dot, write_drawing
        from moe_asr.fsa.view import view_of

        for name, kind, fst, isymbols in (
            ("L", "L_disambig", graphs.l_disambig, tokenizer.tokens),
            ("G", "G", graphs.g, words_table),
        ):
            source = graph_to_dot(view_of(fst, {"kind": kind}, isymbols, words_table), kind)
            print(f"written: {write_drawing(source, args.output / name)}")
    return 0
