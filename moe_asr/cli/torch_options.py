"""``--threads``, ``--device`` and ``--precision``: what commands that run a model share."""

import argparse

from moe_asr.errors import ConfigError


def add_precision_argument(
    parser: argparse.ArgumentParser, default: str = "torch"
) -> None:
    """Declares ``--precision``; ``default`` is what happens without it."""
    from moe_asr.model.directory import PRECISIONS

    parser.add_argument(
        "--precision", choices=PRECISIONS,
        help="run the model on the packed CPU kernels, in float32 or int8, or on torch's modules "
        f"(docs/quantization.md; default: {default})",
    )  # fmt: skip


def apply_torch_options(args: argparse.Namespace) -> None:
    """Sets torch's threads, if any number is given, and tries the device.

    Raises:
        ConfigError: if there cannot be so many threads, or there is no such device.
    """
    import torch

    if args.threads is not None:
        if args.threads < 1:
            raise ConfigError(f"--threads must be at least 1, found {args.threads}")
        torch.set_num_threads(args.threads)
    try:
        torch.zeros(1, device=args.device)
    except (AssertionError, RuntimeError) as error:
        raise ConfigError(f"--device {args.device}: {str(error).splitlines()[0]}") from error
