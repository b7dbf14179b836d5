"""Aligns known texts with audio: when each word was said, as ctm, TextGrids and pictures."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from moe_asr.errors import ConfigError

if TYPE_CHECKING:
    from moe_asr.text.lexicon import Lexicon
    from moe_asr.text.symbol_table import SymbolTable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``align``."""
    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    parser.add_argument("--manifest", type=Path, required=True, help="cuts (.jsonl or .jsonl.gz)")
    parser.add_argument(
        "--text", type=Path, metavar="FILE",
        help="'id text' lines, of all cuts (default: the supervisions' texts)",
    )  # fmt: skip
    parser.add_argument(
        "--lang",
        type=Path,
        metavar="DIR",
        help="spell words by the lexicon of a language directory",
    )
    parser.add_argument("--lexicon", type=Path, metavar="FILE", help="spell words by a lexicon")
    parser.add_argument(
        "--lexicon-probabilities",
        action="store_true",
        help="its lines are 'word probability token ...'",
    )
    parser.add_argument(
        "--mode",
        default="full",
        help="the encoder's context: full (default), chunk16, chunk16-left4, ...",
    )
    parser.add_argument(
        "--topology", default="standard", help="of CTC: standard (default) or modified"
    )
    parser.add_argument(
        "--correction",
        type=Path,
        metavar="FILE",
        help="correct word times by what --fit-correction wrote",
    )
    parser.add_argument(
        "--fit-correction", type=Path, metavar="FILE",
        help="fit a correction to the word times that the manifest has, and write it",
    )  # fmt: skip
    parser.add_argument(
        "--draw", action="append", default=[], metavar="ID", help="repeatable: draw this cut"
    )
    parser.add_argument("--max-batch-seconds", type=float, default=60.0, help="default 60")
    parser.add_argument("--threads", type=int, help="torch threads (default: torch's choice)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")


def run(args: argparse.Namespace) -> int:
    """Writes the alignments and their summary; the correction, if one is fitted."""
    import torch

    from moe_asr.data.manifests import read_cuts
    from moe_asr.data.validation import transcript_of
    from moe_asr.decode.align_cuts import align_cuts
    from moe_asr.evaluate.alignment_report import (
        CTM,
        FrameTimes,
        timed_tokens,
        write_alignments,
    )
    from moe_asr.evaluate.timing import words_of_cuts
    from moe_asr.evaluate.timing_fit import fit_correction, fitted_figures
    from moe_asr.evaluate.wer import collect, read_transcripts
    from moe_asr.fsa.align import TextAligner
    from moe_asr.fsa.time_correction import TimeCorrection
    from moe_asr.model.directory import load_model_dir
    from moe_asr.text.spelling import make_speller

    if args.threads is not None:
        if args.threads < 1:
            raise ConfigError(f"--threads must be at least 1, found {args.threads}")
        torch.set_num_threads(args.threads)
    if args.correction and args.fit_correction:
        raise ConfigError("--correction and --fit-correction exclude one another")
    correction = TimeCorrection.load(args.correction) if args.correction else TimeCorrection()
    cuts = list(read_cuts(args.manifest))
    if args.fit_correction:
        words_of_cuts(cuts, str(args.manifest))  # to find out now what is missing
    if args.text:
        texts = read_transcripts(args.text)
    else:
        texts = collect(((cut.id, transcript_of(cut)) for cut in cuts), str(args.manifest))
    try:
        torch.zeros(1, device=args.device)
    except (AssertionError, RuntimeError) as error:
        raise ConfigError(f"--device {args.device}: {str(error).splitlines()[0]}") from error
    loaded = load_model_dir(args.model, args.device)
    lexicon = read_lexicon(args, loaded.tokenizer.tokens)
    aligner = TextAligner(make_speller(loaded.tokenizer, lexicon), args.topology)
    subsampling = loaded.model.config.subsampling
    times = FrameTimes.of_model(loaded.fbank_options, subsampling, correction)
    found = write_alignments(
        align_cuts(loaded, cuts, texts, aligner, args.mode, args.max_batch_seconds),
        [cut.id for cut in cuts],
        args.output,
        times,
        loaded.tokenizer.tokens,
        args.draw,
        {"model": str(args.model), "mode": args.mode, "topology": args.topology},
    )
    if args.fit_correction:
        known, shift = timed_tokens(found), times.frame_shift_seconds
        fitted = fit_correction(known, shift)
        figures = {"manifest": str(args.manifest), **fitted_figures(known, shift, fitted)}
        fitted.save(args.fit_correction, figures)
        print(f"fitted to {figures['num_words']} words; mean absolute error in ms:")
        for side in ("start", "end"):
            print(
                f"  {side:<6}{figures[f'{side}_ms_before']:>7.1f} ->{figures[f'{side}_ms']:>7.1f}"
            )
        print(f"written: {args.fit_correction}")
    print(f"written: {args.output / CTM}")
    return 0


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
