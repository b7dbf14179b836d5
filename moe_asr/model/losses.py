"""The joint CTC / bidirectional attention loss of U2++ (arXiv 2106.05642, §2.1)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from moe_asr.nn.masks import valid_mask
from moe_asr.text.tokenizer import BLANK_ID, SOS_EOS_ID


@dataclass
class ModelLosses:
    """Losses of one batch.

    Attributes:
        total: scalar to minimise: the weighted sum of the losses below, each summed over utterances and
            divided by the number of target tokens, plus the auxiliary losses.
        ctc, attention_l2r, attention_r2l: their values a target token, detached.
        auxiliary: sum of the routing losses, detached (0 without any).
        num_tokens: target tokens of the batch (at least 1).
        per_utterance: (N,) each utterance's share of ``total`` before division, detached.
    """

    total: Tensor
    ctc: Tensor
    attention_l2r: Tensor
    attention_r2l: Tensor
    auxiliary: Tensor
    num_tokens: int
    per_utterance: Tensor


def ctc_loss(log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """(N,) CTC loss of each utterance, in nats; infinite if the targets do not fit the frames.

    Args:
        log_probs: (N, S, C) natural logs.
        lengths: (N,) frames.
        targets: (N, U) int64, anything after each length.
        target_lengths: (N,).
    """
    if log_probs.shape[1] == 0:  # torch refuses a batch without any frame
        log_probs = torch.nn.functional.pad(log_probs, (0, 0, 0, 1))
    losses = torch.nn.functional.ctc_loss(
        log_probs.float().transpose(0, 1),  # (N, S, C) -> (S, N, C)
        targets.clamp(min=0),
        lengths.clamp(min=1),
        target_lengths,
        blank=BLANK_ID,
        reduction="none",
    )
    without_frames = torch.where(target_lengths > 0, float("inf"), 0.0).to(losses)
    return torch.where(lengths > 0, losses, without_frames)  # torch 1.13 reads wrong memory there


def add_sos_eos(targets: Tensor, target_lengths: Tensor, reverse: bool) -> "tuple[Tensor, Tensor]":
    """Decoder inputs sos y1 .. yU and outputs y1 .. yU eos, each (N, U + 1); y reversed if asked.

    Positions after each length + 1 hold eos.
    """
    num, longest = targets.shape
    inside = valid_mask(target_lengths, longest)
    if reverse:
        index = target_lengths[:, None] - 1 - torch.arange(longest, device=targets.device)[None, :]
        targets = targets.gather(1, index.clamp(min=0)) if longest else targets
    tokens = targets.masked_fill(~inside, SOS_EOS_ID)
    edge = tokens.new_full((num, 1), SOS_EOS_ID)
    return torch.cat([edge, tokens], 1), torch.cat([tokens, edge], 1)


def token_losses(
    logits: Tensor, outputs: Tensor, target_lengths: Tensor, label_smoothing: float
) -> Tensor:
    """(N, U + 1) label-smoothed cross entropy of each token and of eos, 0 after it.

    Args:
        logits: (N, U + 1, C).
        outputs: (N, U + 1) as `add_sos_eos` gives them.
        target_lengths: (N,) without eos.
        label_smoothing: probability spread evenly over all C tokens.
    """
    losses = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1),
        outputs.flatten(),
        reduction="none",
        label_smoothing=label_smoothing,
    ).view(outputs.shape)
    return losses * valid_mask(target_lengths + 1, outputs.shape[1])
