"""The unit of training: a padded batch of features with its transcripts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

TARGET_PADDING = -1


@dataclass
class Batch:
    """Utterances padded to a common length.

    Attributes:
        features: (N, T, F) float32 log-mel features; frames from ``feature_lengths[n]`` on are 0.
        feature_lengths: (N,) int64, frames of each utterance, the largest equals T.
        targets: (N, U) int64 token ids, padded with -1.
        target_lengths: (N,) int64, tokens of each utterance.
        utterance_ids: N cut ids.
        texts: N transcripts.
        durations_seconds: audio in the batch as the model sees it (after speed perturbation),
            padding not counted.
    """

    features: torch.Tensor
    feature_lengths: torch.Tensor
    targets: torch.Tensor
    target_lengths: torch.Tensor
    utterance_ids: list[str]
    texts: list[str]
    durations_seconds: float

    def __len__(self) -> int:
        return len(self.utterance_ids)

    def to(self, device: str | torch.device, non_blocking: bool = False) -> "Batch":
        """The same batch with its tensors on ``device``."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory; called by torch's DataLoader."""
        return self._map(torch.Tensor.pin_memory)

    def clone(self) -> "Batch":
        """A copy with memory of its own."""
        return self._map(torch.Tensor.clone)

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        return replace(
            self,
            features=function(self.features),
            feature_lengths=function(self.feature_lengths),
            targets=function(self.targets),
            target_lengths=function(self.target_lengths),
        )


def collate(
    features: Sequence[np.ndarray | torch.Tensor],
    targets: Sequence[Sequence[int]],
    utterance_ids: Sequence[str],
    texts: Sequence[str],
    durations_seconds: float,
) -> Batch:
    """Pads N feature matrices of shape (T_n, F) with zeros and N token lists with -1."""
    assert len(features) == len(targets) == len(utterance_ids) == len(texts) > 0
    feature_lengths = torch.tensor([len(matrix) for matrix in features], dtype=torch.int64)
    target_lengths = torch.tensor([len(tokens) for tokens in targets], dtype=torch.int64)
    num_utterances, num_frames = len(features), int(feature_lengths.max())
    padded_NTF = torch.zeros(num_utterances, num_frames, features[0].shape[1])
    padded_NU = torch.full(
        (num_utterances, int(target_lengths.max())), TARGET_PADDING, dtype=torch.int64
    )
    for n, (matrix, tokens) in enumerate(zip(features, targets, strict=True)):
        padded_NTF[n, : len(matrix)] = torch.as_tensor(matrix)
        padded_NU[n, : len(tokens)] = torch.tensor(tokens, dtype=torch.int64)
    return Batch(
        features=padded_NTF,
        feature_lengths=feature_lengths,
        targets=padded_NU,
        target_lengths=target_lengths,
        utterance_ids=list(utterance_ids),
        texts=list(texts),
        durations_seconds=float(durations_seconds),
    )
