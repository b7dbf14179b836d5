"""Makes a spoken corpus from sentences: espeak-ng speaks, lhotse adds rooms, noise and level."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``prepare-voice-commands``."""
    for split in ("train", "dev", "test"):
        parser.add_argument(f"--{split}-text", type=Path, required=True, help="a sentence a line")
    parser.add_argument("--output", type=Path, required=True, help="folder of the corpus")
    parser.add_argument("--train-hours", type=float, default=7.2)
    parser.add_argument("--dev-hours", type=float, default=0.3)
    parser.add_argument("--test-hours", type=float, default=0.5)
    parser.add_argument(
        "--snr", type=float, nargs=2, metavar=("LOW", "HIGH"), help="signal to noise, in dB"
    )
    parser.add_argument("--unseen-accent-share", type=float, help="of test")
    parser.add_argument("--clean-probability", type=float, help="of an utterance without noise")
    parser.add_argument("--reverb-probability", type=float, help="of an utterance in a room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-processes", type=int, default=2)


def run(args: argparse.Namespace) -> int:
    """Writes audio, manifests and ``spoken_corpus.json``; prints what is in them."""
    from moe_asr.data.spoken_corpus import make_spoken_corpus
    from moe_asr.data.spoken_plan import SPLITS, SpokenCorpusOptions
    from moe_asr.text.sentences import read_sentences

    chosen = {
        "snr_db": tuple(args.snr) if args.snr else None,
        "unseen_accent_share": args.unseen_accent_share,
        "clean_probability": args.clean_probability,
        "reverb_probability": args.reverb_probability,
    }
    options = SpokenCorpusOptions(
        train_hours=args.train_hours,
        dev_hours=args.dev_hours,
        test_hours=args.test_hours,
        seed=args.seed,
        **{name: value for name, value in chosen.items() if value is not None},
    )
    sentences = {split: read_sentences(getattr(args, f"{split}_text")) for split in SPLITS}
    stamp = make_spoken_corpus(sentences, args.output, options, args.num_processes)
    print("SYNTHETIC speech (espeak-ng): error rates on it say nothing about real speech")
    for split, counts in stamp["splits"].items():
        print(
            f"{split}: {counts['duration_seconds'] / 3600:.2f} h, "
            f"{counts['num_utterances']} utterances of {counts['num_distinct_sentences']} sentences "
            f"by {counts['num_voices']} voices, {counts['num_words']} words "
            f"({counts['num_distinct_words']} distinct), {counts['num_bytes'] / 1e6:.0f} MB"
        )
    return 0
