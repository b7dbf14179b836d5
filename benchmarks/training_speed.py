"""Training speed of the recipe's model, against the same model with a loop over its experts.

    python -m benchmarks.training_speed [--preset small] [--batch-seconds 24] [--rounds 8]

Variants: ``ours``; ``expert_loop``: a Python loop over nn.Linear experts that picks out each one's
frames, padding included. Whole updates are timed (forward, backward, clipping, AdamW) on random
features, the variants interleaved in every round, medians over rounds, with one thread and with two.
Last line: one JSON object.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from moe_asr.model.config import preset
from moe_asr.model.u2 import U2MoeModel
from moe_asr.nn.moe.layer import MixtureFeedForward
from moe_asr.nn.packing import FramePacking
from moe_asr.train.config import TrainConfig
from moe_asr.train.optim import make_optimizer

FRAMES_PER_SECOND = 100


class ExpertLoop(nn.Module):
    """The usual mixture layer: every expert an ``nn.Sequential``, run in a loop on the frames it won."""

    def __init__(self, layer: MixtureFeedForward, dropout: float) -> None:
        super().__init__()
        _, dim, hidden = layer.w1.shape
        self.num_chosen = layer.num_chosen
        self.router = nn.Linear(dim, layer.num_experts, bias=False)
        activation = {"silu": nn.SiLU, "relu": nn.ReLU}[layer.activation]
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, hidden), activation(), nn.Linear(hidden, dim))
            for _ in range(layer.num_experts)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, packing: FramePacking) -> Tensor:
        """(N, T, D) -> (N, T, D)."""
        frames = x.reshape(-1, x.shape[-1])
        chosen, index = self.router(frames).topk(self.num_chosen, dim=1)
        gates = chosen.softmax(1)
        out = torch.zeros_like(frames)
        for number, expert in enumerate(self.experts):
            rows, choice = torch.where(index == number)
            out[rows] += gates[rows, choice, None] * expert(frames[rows])
        return self.dropout(out).view_as(x)


def replace_modules(model: nn.Module, kind: type, make: Callable[[nn.Module], nn.Module]) -> None:
    """Replaces every submodule of type ``kind`` by ``make(submodule)``."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is kind:
                setattr(parent, name, make(child))


def build(variant: str, name: str, vocab_size: int) -> U2MoeModel:
    torch.manual_seed(0)
    config = preset(name, vocab_size=vocab_size)
    model = U2MoeModel(config)
    if variant == "expert_loop":
        replace_modules(model, MixtureFeedForward, lambda m: ExpertLoop(m, config.dropout))
    return model.train()


def make_update(
    model: U2MoeModel, seconds: float, vocab_size: int
) -> tuple[Callable[[], float], float]:
    """A function that makes one update on a fixed random batch and returns its seconds of wall time.

    Also the seconds of audio in that batch, padding left out.
    """
    generator = torch.Generator().manual_seed(1)
    utterance_frames = 250
    num = max(round(seconds * FRAMES_PER_SECOND / utterance_frames), 1)
    features = torch.randn(num, utterance_frames, model.config.num_features, generator=generator)
    lengths = torch.randint(
        utterance_frames - 40, utterance_frames + 1, (num,), generator=generator
    )
    targets = torch.randint(3, vocab_size, (num, 12), generator=generator)
    target_lengths = torch.randint(4, 13, (num,), generator=generator)
    optimizer = make_optimizer(model, TrainConfig(max_steps=1, learning_rate=1e-4))

    def update() -> float:
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        model(features, lengths, targets, target_lengths).total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        return time.perf_counter() - start

    return update, float(lengths.sum()) / FRAMES_PER_SECOND


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="small")
    parser.add_argument("--batch-seconds", type=float, default=24.0)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--vocab-size", type=int, default=32)
    args = parser.parse_args()
    names = ("ours", "expert_loop")
    updates = {}
    num_parameters, audio_seconds = 0, 0.0
    for name in names:
        model = build(name, args.preset, args.vocab_size)
        num_parameters = max(num_parameters, model.num_parameters())
        updates[name], audio_seconds = make_update(model, args.batch_seconds, args.vocab_size)
    cells: list[dict[str, object]] = []
    print(
        f"{args.preset}: {num_parameters / 1e6:.2f} M parameters, batches of {audio_seconds:.1f} s"
    )
    print(
        f"{'threads':>7}  {'variant':<14}{'ms/update':>10}{'x real time':>12}{'ours is faster by':>19}"
    )
    for threads in (1, 2):
        torch.set_num_threads(threads)
        times: dict[str, list[float]] = {name: [] for name in names}
        for name in names:
            updates[name]()  # warm-up
        for _ in range(args.rounds):
            for name in names:
                times[name].append(updates[name]())
        median = {name: statistics.median(values) for name, values in times.items()}
        for name in names:
            speed = audio_seconds / median[name]
            ratio = median[name] / median["ours"]
            print(
                f"{threads:>7}  {name:<14}{1e3 * median[name]:>10.1f}{speed:>12.1f}{ratio:>18.2f}x"
            )
            cells.append(
                {
                    "threads": threads,
                    "variant": name,
                    "ms_per_update": round(1e3 * median[name], 2),
                    "times_real_time": round(speed, 2),
                    "ratio_to_ours": round(ratio, 3),
                }
            )
    print(json.dumps({"preset": args.preset, "parameters": num_parameters, "cells": cells}))


if __name__ == "__main__":
    main()
