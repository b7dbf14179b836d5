"""Arguments of ``align``, and what it reads beside the audio: texts and lexicons."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moe_asr.cli.torch_options import add_precision_argument
from moe_asr.errors import ConfigError

if TYPE_CHECKING:
    from lhotse.cut import Cut

    from moe_asr.text.lexicon import Lexicon
    from moe_asr.text.symbol_table import SymbolTable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``align``."""
    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    _add_input_arguments(parser)
    parser.add_argument(
        "--mode", default="full", help="the encoder's context: full (default), chunk16, ..."
    )
    parser.add_argument(
        "--streaming", action="store_true", help="in chunk modes: chunk by chunk, for long audio"
    )
    parser.add_argument(
        "--topology", default="standard", help="of CTC: standard (default) or modified"
    )
    parser.add_argument("--max-batch-seconds", type=float, default=60.0, help="default 60")
    parser.add_argument("--threads", type=int, help="torch threads (default: torch's choice)")
    parser.add_argument("--device", default="cpu")
    add_precision_argument(parser)
    _add_output_arguments(parser)


def _add_input_arguments(parser: argparse.ArgumentParser) -> None:
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


def _add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what is written, and with which times."""
    parser.add_argument(
        "--correction", type=Path, metavar="FILE", help="of word times: what --fit-correction wrote"
    )
    parser.add_argument(
        "--fit-correction", type=Path, metavar="FILE",
        help="fit a correction to the word times that the manifest has, and write it",
    )  # fmt: skip
    parser.add_argument(
        "--draw", action="append", default=[], metavar="ID", help="repeatable: draw this cut"
    )
    parser.add_argument(
        "--keep-going", action="store_true",
        help="leave out utterances that cannot be aligned, and tell which (default: an error)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")


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
