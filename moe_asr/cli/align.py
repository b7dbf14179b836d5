"""Aligns known texts with audio: when each word was said, as ctm, TextGrids and pictures."""

import argparse

from moe_asr.cli.align_input import add_arguments, read_lexicon, read_texts
from moe_asr.cli.torch_options import apply_torch_options
from moe_asr.errors import ConfigError

__all__ = ["add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    """Writes the alignments and their summary; the correction, if one is fitted."""
    from moe_asr.data.manifests import read_cuts
    from moe_asr.decode.align_cuts import align_cuts
    from moe_asr.evaluate.alignment_report import CTM, FrameTimes, timed_tokens, write_alignments
    from moe_asr.evaluate.timing import words_of_cuts
    from moe_asr.evaluate.timing_fit import fit_correction, fitted_figures, format_fitted
    from moe_asr.files import writable_directory
    from moe_asr.fsa.align import TextAligner
    from moe_asr.fsa.time_correction import TimeCorrection
    from moe_asr.model.directory import load_model_dir
    from moe_asr.text.spelling import make_speller

    apply_torch_options(args)
    if args.correction and args.fit_correction:
        raise ConfigError("--correction and --fit-correction exclude one another")
    correction = TimeCorrection.load(args.correction) if args.correction else TimeCorrection()
    cuts = list(read_cuts(args.manifest))
    if args.fit_correction:
        words_of_cuts(cuts, str(args.manifest))  # to find out now what is missing
    texts = read_texts(args, cuts)
    loaded = load_model_dir(args.model, args.device, args.precision)
    lexicon = read_lexicon(args, loaded.tokenizer.tokens)
    aligner = TextAligner(make_speller(loaded.tokenizer, lexicon), args.topology)
    subsampling = loaded.model.config.subsampling
    times = FrameTimes.of_model(loaded.fbank_options, subsampling, correction)
    writable_directory(args.output)
    failures: dict[str, str] | None = {} if args.keep_going else None
    found = write_alignments(
        align_cuts(
            loaded,
            cuts,
            texts,
            aligner,
            args.mode,
            args.streaming,
            args.max_batch_seconds,
            failures=failures,
        ),
        [cut.id for cut in cuts],
        args.output,
        times,
        loaded.tokenizer.tokens,
        args.draw,
        {
            "model": str(args.model),
            "mode": args.mode,
            "streaming": args.streaming,
            "topology": args.topology,
        },
        failures,
    )
    if failures:
        print("\n".join(f"not aligned: {reason}" for reason in failures.values()))
    print(f"written: {args.output / CTM}")
    if args.fit_correction:
        known, shift = timed_tokens(found), times.frame_shift_seconds
        fitted = fit_correction(known, shift)
        figures = fitted_figures(known, shift, fitted)
        fitted.save(args.fit_correction, {"manifest": str(args.manifest), **figures})
        print(format_fitted(figures))
        print(f"written: {args.fit_correction}")
    return 0
