"""Second-pass scores: the log-probabilities that the attention decoders give to hypotheses.

The hypotheses of an utterance share most of their tokens. They are scored as one tree, in which a shared
prefix (for the right-to-left decoder: a shared suffix) is computed once, and all nodes attend to the same
keys and values of the encoder's output. Scores are those of one hypothesis at a time, up to rounding.

Legend: N utterances, S encoder frames, D model dimension, P nodes of a tree, C vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from moe_asr.errors import ConfigError, DataError
from moe_asr.model.token_tree import TokenTree, shared_prefix, token_tree
from moe_asr.model.u2 import U2MoeModel
from moe_asr.nn.decoder import TransformerDecoder
from moe_asr.text.tokenizer import BLANK_ID, SOS_EOS_ID

Tokens = Sequence[int]
MAX_MEGABYTES = 256.0  # of a decoder call, by default


@dataclass(frozen=True, eq=False)
class SecondPassScores:
    """Of the n hypotheses of one utterance.

    Attributes:
        left_to_right, right_to_left: (n,) float64, natural log of the probability of all tokens and of the
            end, after the start; 0 where the decoder was not asked.
    """

    left_to_right: np.ndarray
    right_to_left: np.ndarray


@torch.no_grad()
def second_pass_scores(
    model: U2MoeModel,
    memory: Tensor,
    lengths: Tensor,
    hypotheses: Sequence[Sequence[Tokens]],
    left_to_right: bool = True,
    right_to_left: bool = True,
    max_megabytes: float = MAX_MEGABYTES,
    utterance_ids: Sequence[str] | None = None,
) -> list[SecondPassScores]:
    """Scores all hypotheses of a batch by the attention decoders, in few decoder calls.

    Args:
        model: in eval mode.
        memory, lengths: (N, S, D) and (N,) of `U2MoeModel.encode`.
        hypotheses: [utt][hypothesis] token ids in spoken order; a hypothesis may be empty, and an utterance
            may have none.
        left_to_right, right_to_left: which decoders to ask.
        max_megabytes: what a decoder call works with, in millions of bytes: trees are put together, split,
            and taken block by block so that it is kept to. Beside it there are, for each layer in turn, the
            keys and values of the encoder's output (2 S D floats an utterance), and what cannot be split, one
            hypothesis with some 8 D floats a token.
        utterance_ids: N names, for messages.

    Returns:
        N results.

    Raises:
        ConfigError: if a decoder that is asked is not there, the model is in training mode, or
            ``max_megabytes`` is not positive.
        DataError: naming the utterance, if a hypothesis has a token that the model has not, or blank, or if
            its scores are NaN or infinite.
    """
    if not max_megabytes > 0:
        raise ConfigError(f"max_megabytes must be positive, found {max_megabytes}")
    if model.training:
        raise ConfigError("the model is in training mode: call model.eval() before decoding")
    names = utterance_ids or [str(n) for n in range(len(hypotheses))]
    if not len(memory) == len(lengths) == len(hypotheses) == len(names):
        raise DataError(
            f"encoder output of {len(memory)} utterances, {len(lengths)} lengths, hypotheses of "
            f"{len(hypotheses)}, {len(names)} names"
        )
    _check_tokens(hypotheses, names, model.config.vocab_size)
    results = []
    for wanted, reverse in ((left_to_right, False), (right_to_left, True)):
        if not wanted:
            results.append([np.zeros(len(found)) for found in hypotheses])
            continue
        decoder = model.attention_decoder(reverse)
        results.append(
            _scores(decoder, memory, lengths, hypotheses, names, reverse, max_megabytes * 1e6)
        )
    return [SecondPassScores(*pair) for pair in zip(*results, strict=True)]


def _scores(
    decoder: TransformerDecoder,
    memory: Tensor,
    lengths: Tensor,
    hypotheses: Sequence[Sequence[Tokens]],
    names: Sequence[str],
    reverse: bool,
    max_bytes: float,
) -> list[np.ndarray]:
    scores = [np.zeros(len(found)) for found in hypotheses]
    frames = [max(int(length), 1) for length in lengths.tolist()]
    max_nodes = max_bytes / 2 / (4 * 8 * decoder.dim)
    parts = _parts(hypotheses, reverse, int(max_nodes))
    for group in _groups(parts, frames, max_nodes):
        utterances = [utterance for utterance, _, _ in group]
        longest = max(frames[utterance] for utterance in utterances)
        rows = torch.tensor(utterances, device=memory.device)
        trees = [tree for _, _, tree in group]
        given = (memory, lengths) if len(memory) == 1 else (memory[rows], lengths[rows])
        found = _score_trees(decoder, trees, given[0][:, :longest], given[1], max_bytes / 2)
        for (utterance, members, tree), (at_node, at_end) in zip(group, found, strict=True):
            scores[utterance][members] = tree.sums_to(at_node)[tree.last] + at_end[tree.last]
            if not np.isfinite(scores[utterance][members]).all():
                raise DataError(
                    f"utterance {names[utterance]}: the decoder's scores are NaN or infinite"
                )
    return scores


_Part = tuple[int, list[int], TokenTree]  # the utterance, its hypotheses in the tree, the tree


def _parts(hypotheses: Sequence[Sequence[Tokens]], reverse: bool, max_nodes: int) -> list[_Part]:
    """One tree an utterance; several, of neighbours in the order of the tree, where it would be too large."""
    parts: list[_Part] = []
    for utterance, found in enumerate(hypotheses):
        sequences = [tuple(tokens[::-1]) if reverse else tuple(tokens) for tokens in found]
        members: list[list[int]] = []
        nodes = 0
        for index in sorted(range(len(sequences)), key=sequences.__getitem__):
            size = len(sequences[index])
            previous = sequences[members[-1][-1]] if members else ()
            added = size - shared_prefix(previous, sequences[index])
            if not members or nodes + added > max_nodes:
                members.append([])
                nodes, added = 1, size  # 1: the root
            members[-1].append(index)
            nodes += added
        for part in members:
            tree = token_tree([sequences[index] for index in part], SOS_EOS_ID)
            parts.append((utterance, part, tree))
    return parts


def _groups(parts: list[_Part], frames: Sequence[int], max_nodes: float) -> Iterator[list[_Part]]:
    """Trees of similar size together, padding included no more than ``max_nodes``; one at least.

    A frame counts as 5/8 of a node: itself, its key and value in a layer, and copies of both.
    """
    group: list[_Part] = []
    longest = 0
    for part in sorted(parts, key=lambda part: -part[2].num_nodes):
        longest = max(longest, frames[part[0]])
        if group and (group[0][2].num_nodes + 0.625 * longest) * (len(group) + 1) > max_nodes:
            yield group
            group, longest = [], frames[part[0]]
        group.append(part)
    if group:
        yield group


def _score_trees(
    decoder: TransformerDecoder,
    trees: Sequence[TokenTree],
    memory: Tensor,
    lengths: Tensor,
    max_bytes: float,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each tree: log-probabilities of each node's token after its parent (the root: 0), and of the end."""

    def padded(name: str) -> Tensor:
        rows = [torch.from_numpy(getattr(tree, name)) for tree in trees]
        return pad_sequence(rows, batch_first=True).to(memory.device)

    tokens, parents = padded("tokens"), padded("parents").clamp(min=0)
    sizes = torch.tensor([tree.num_nodes for tree in trees]).to(memory.device)
    num_nodes = tokens.shape[1]
    block_size = _block_size(decoder, len(trees), memory.shape[1], num_nodes, max_bytes)
    states = decoder.tree_states(
        tokens, padded("depths"), padded("ends"), sizes, memory, lengths, block_size
    )
    at_node, end = _log_probs(decoder.output, states, tokens, parents, block_size)
    at_node[:, 0] = 0.0
    both = torch.stack([at_node, end], 1).double().cpu().numpy()  # (N, 2, P)
    return [
        (row[0, : tree.num_nodes], row[1, : tree.num_nodes])
        for row, tree in zip(both, trees, strict=True)
    ]


def _log_probs(
    output: torch.nn.Module, states: Tensor, tokens: Tensor, parents: Tensor, block_size: int
) -> tuple[Tensor, Tensor]:
    """Of each node's token after its parent, and of the end after each node: (N, P) float32 each."""
    total, end, at_node = [], [], torch.zeros(tokens.shape, device=states.device)
    linear = output if isinstance(output, torch.nn.Linear) else None
    each = torch.arange(len(tokens), device=tokens.device)[:, None]
    for begin in range(0, tokens.shape[1], block_size):
        logits = output(states[:, begin : begin + block_size]).float()
        total.append(logits.logsumexp(2))
        if linear is None:  # one may round its inputs: only what it gives itself fits its sum
            end.append(logits[:, :, SOS_EOS_ID])
            row = parents - begin
            is_here = (row >= 0) & (row < logits.shape[1])
            found = logits[each, row.clamp(0, logits.shape[1] - 1), tokens]
            at_node = torch.where(is_here, found, at_node)
    totals = torch.cat(total, 1)
    if linear is not None:
        weight, bias = linear.weight, linear.bias
        index = parents[..., None].expand(-1, -1, states.shape[2])
        at_node = _logits(states.gather(1, index), weight[tokens]) + bias[tokens].float()
        ends = _logits(states, weight[SOS_EOS_ID]) + bias[SOS_EOS_ID].float()
    else:
        ends = torch.cat(end, 1)
    return at_node - totals.gather(1, parents), ends - totals


def _logits(states: Tensor, weight: Tensor) -> Tensor:
    """(N, P) float32, of (N, P, D) and (D,) or (N, P, D): summed in float32, also in half precision."""
    return (states * weight).sum(2, dtype=torch.float32)


def _block_size(
    decoder: TransformerDecoder, num: int, num_frames: int, num_nodes: int, max_bytes: float
) -> int:
    """Nodes of each tree that go through a layer, or the output layer, within ``max_bytes``; one at least."""
    layer = decoder.layers[0]
    # scores, a masked copy and weights; hidden activations twice; some rows of D
    attention = 3 * layer.self_attention.num_heads * (num_frames + num_nodes)
    hidden = 2 * layer.feed_forward.num_chosen * layer.feed_forward.hidden_dim
    floats = max(attention, hidden, 2 * decoder.output.out_features) + 8 * decoder.dim
    return int(min(max(max_bytes / (4 * num * floats), 1), num_nodes))


def _check_tokens(
    hypotheses: Sequence[Sequence[Tokens]], names: Sequence[str], vocab_size: int
) -> None:
    for name, found in zip(names, hypotheses, strict=True):
        for number, tokens in enumerate(found):
            wrong = [token for token in tokens if not BLANK_ID < token < vocab_size]
            if wrong:
                raise DataError(
                    f"utterance {name}: hypothesis {number} has token {wrong[0]}; the decoders know 1 to "
                    f"{vocab_size - 1}"
                )
