"""A small model and endless data that follow the trainer's contracts.

As a program it is there to be killed:
``python -m tests.train.toy OUTPUT NUM_STEPS SECONDS_PER_BATCH`` trains.
"""

import sys
import time

import numpy as np
import torch
from torch import nn

from moe_asr.data.batch import Batch, collate
from moe_asr.model.losses import ModelLosses
from moe_asr.train.config import TrainConfig
from moe_asr.train.loop import Trainer

NUM_BATCHES = 5  # of an epoch
NUM_FEATURES, NUM_TOKENS = 6, 9


class ToyModel(nn.Module):
    """Guesses the tokens, without their order, from the mean hidden frame of an utterance.

    ``chunk_size``: frames that it may see, from the first.
    """

    def __init__(self, hidden: int = 16, dropout: float = 0.2) -> None:
        super().__init__()
        self.hidden = nn.Linear(NUM_FEATURES, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, NUM_TOKENS)

    def forward(
        self, features, feature_lengths, targets, target_lengths, chunk_size=None
    ) -> ModelLosses:
        if chunk_size is not None:
            feature_lengths = feature_lengths.clamp(max=chunk_size)
        frames = torch.arange(features.shape[1], device=features.device)
        inside = frames < feature_lengths[:, None]
        hidden = self.dropout(torch.relu(self.norm(self.hidden(features)))) * inside[:, :, None]
        log_probs = self.output(hidden.sum(1) / feature_lengths[:, None]).log_softmax(-1)
        scores = log_probs.gather(1, targets.clamp(min=0)) * (targets >= 0)
        per_utterance = -scores.sum(1)
        num_tokens = int(target_lengths.sum())
        total = per_utterance.sum() / num_tokens
        return ModelLosses(
            total=total,
            ctc=total.detach(),
            attention_l2r=total.detach() * 2,
            attention_r2l=total.detach() * 3,
            auxiliary=torch.zeros(()),
            num_tokens=num_tokens,
            per_utterance=per_utterance.detach(),
        )


def make_batch(seed, num_utterances: int = 4) -> Batch:
    """Utterances of random lengths; a pure function of ``seed``."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 9, num_utterances)
    features = [rng.standard_normal((n, NUM_FEATURES)).astype(np.float32) for n in lengths]
    targets = [rng.integers(3, NUM_TOKENS, rng.integers(1, 6)).tolist() for _ in lengths]
    ids = [f"utt-{seed}-{i}" for i in range(num_utterances)]
    return collate(features, targets, ids, [""] * num_utterances, float(lengths.sum()))


def make_epoch(epoch: int, skip_batches: int, seconds: float = 0.0):
    """Draws from the global generators too, as a loader may: training must not notice."""
    torch.rand(1 + skip_batches)
    np.random.rand(1 + skip_batches)
    for i in range(skip_batches, NUM_BATCHES):
        time.sleep(seconds)
        yield make_batch([epoch, i])


def make_valid():
    torch.rand(3)
    return [make_batch([999, i]) for i in range(2)]


def toy_config(**changes) -> TrainConfig:
    options = {
        "max_steps": 12,
        "learning_rate": 0.02,
        "warmup_steps": 3,
        "valid_interval": 4,
        "checkpoint_interval": 4,
        "log_interval": 1,
        "device": "cpu",
        **changes,
    }
    return TrainConfig(**options)


def toy_trainer(output, config=None, seed: int = 0, **arguments) -> Trainer:
    torch.manual_seed(seed)
    model = arguments.pop("model", None) or ToyModel()
    arguments = {"make_epoch": make_epoch, "make_valid": make_valid, **arguments}
    return Trainer(
        model, config or toy_config(), output_dir=output, report=lambda line: None, **arguments
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    pause = float(sys.argv[3])
    trainer = toy_trainer(
        sys.argv[1],
        toy_config(max_steps=int(sys.argv[2])),
        make_epoch=lambda epoch, skip: make_epoch(epoch, skip, pause),
    )
    trainer.train()
