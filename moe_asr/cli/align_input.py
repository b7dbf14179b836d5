"""What ``align`` reads beside the audio: texts and lexicons."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moe_asr.errors import ConfigError

if TYPE_CHECKING:
    from lhotse.cut import Cut

    from moe_asr.text.lexicon import Lexicon
    from moe_asr.text.symbol_table import SymbolTable


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares where cuts, texts and spellings come from."""
    parser.add_argument("--manifest", type=Path, required=True, help="cuts (.jsonl or .jsonl.gz)")
    parser.add_argument(
        "--text", type=Path, metavar="FILE",
        help="'id text' lines, of all cuts (default: the supervisions' texts)",
    )  # fmt: skip
    parser.add_argument(
        "--lang", type=Path, metavar="DIR", help="spell words by a language directory's lexicon"
    )
    parser.add_argument("--lexicon", type=Path, metavar="FILE", help="spell words by a lexicon")
    parser.add_argument(
        "--lexicon-probabilities", action="store_true", help="it is 'word probability token ...'"
    )


def read_texts(args: argparse.Namespace, cuts: Sequence["Cut"]) -> dict[str, str]:
    """By cut id: of --text, or of the supervisions."""
    from moe_asr.data.validation import transcript_of
    from moe_asr.evaluate.wer import collect, read_transcripts

    if args.text:
        return read_transcripts(args.text)
    return collect(((cut.id, transcript_of(cut)) for cut in cuts), str(args.manifest))


def read_lexicon(args: argparse.Namespace, tokens: "SymbolTable") -> "Lexicon | None":
    """The lexicon of --lang or --lexicon, over these tokens; None if neither is given."""
    from moe_asr.lang.directory import LangDir
    from moe_asr.text.lexicon import Lexicon

    if args.lang and args.lexicon:
        raise ConfigError("--lang and --lexicon exclude one another")
    if args.lexicon_probabilities and not args.lexicon:
        raise ConfigError("--lexicon-probabilities goes with --lexicon")
    if args.lang:
        lang = LangDir.load(args.lang, verify=False)
        if lang.tokens != tokens:
            raise ConfigError(f"{args.lang}: its tokens are not those of {args.model}")
        return lang.lexicon
    if args.lexicon:
        return Lexicon.read(args.lexicon, args.lexicon_probabilities, tokens)
    return None
