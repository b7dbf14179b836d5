"""Computes the global mean and variance of the features of a manifest."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from moe_asr.audio.fbank import FbankOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of ``compute-cmvn``."""
    parser.add_argument("--manifest", type=Path, required=True, help="lhotse cuts with recordings")
    parser.add_argument("--output", type=Path, required=True, help="JSON file of the statistics")
    parser.add_argument(
        "--features",
        type=Path,
        help="YAML of feature options, or a training config with them (default: 80 bins, 16 kHz)",
    )
    parser.add_argument("--max-cuts", type=int, help="so many, spread evenly (default: all)")


def run(args: argparse.Namespace) -> int:
    """Writes the statistics of all frames of the manifest."""
    from moe_asr.audio.cmvn import accumulate_cmvn
    from moe_asr.audio.fbank import FbankOptions
    from moe_asr.errors import ConfigError

    if args.max_cuts is not None and args.max_cuts < 1:
        raise ConfigError(f"--max-cuts is {args.max_cuts}; expected at least 1")
    options = FbankOptions() if args.features is None else read_fbank_options(args.features)
    stats = accumulate_cmvn(manifest_features(args.manifest, options, args.max_cuts))
    stats.save(args.output)
    print(f"{args.output}: {len(stats.mean)} bins, from {stats.num_frames} frames")
    return 0


def read_fbank_options(path: Path) -> "FbankOptions":
    """Feature options from a YAML file of their own, or from those of a training config."""
    from moe_asr.audio.fbank import FbankOptions
    from moe_asr.config import from_dict
    from moe_asr.files import read_yaml

    values = read_yaml(path) or {}
    if isinstance(values, dict) and {"features", "model"} & set(values):  # a training config
        return from_dict(FbankOptions, values.get("features") or {}, f"{path}: features")
    return from_dict(FbankOptions, values, str(path))


def manifest_features(
    manifest: Path, options: "FbankOptions", max_cuts: int | None
) -> "Iterator[np.ndarray]":
    """The features (T, F) of each cut, its audio resampled where need be.

    Raises:
        DataError: naming the cut that has no audio, several channels, or audio that cannot be read.
    """
    from tqdm import tqdm

    from moe_asr.audio.fbank import make_fbank
    from moe_asr.data.dataset import load_waveform
    from moe_asr.data.manifests import read_cuts
    from moe_asr.errors import AudioError, DataError

    fbank = make_fbank(options)
    cuts = list(read_cuts(manifest))
    if max_cuts is not None and max_cuts < len(cuts):  # spread: manifests are sorted by speaker
        cuts = [cuts[i * len(cuts) // max_cuts] for i in range(max_cuts)]
    for cut in tqdm(cuts, unit="cut", disable=None):
        try:
            yield fbank(load_waveform(cut, options.sample_rate))
        except AudioError as error:
            raise DataError(f"{manifest}: {error}") from error
