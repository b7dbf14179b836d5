"""The attention decoder: causality, memory, padding."""

import pytest
import torch

from moe_asr.nn.decoder import TransformerDecoder
from moe_asr.nn.encoder import MixtureOptions

VOCAB, DIM = 9, 8


@pytest.fixture(params=[1, 4], ids=["dense", "moe"])
def decoder(request):
    mixture = MixtureOptions(12, request.param, min(request.param, 2))
    return TransformerDecoder(VOCAB, DIM, 2, 2, mixture, dropout=0.0).eval()


def random_inputs(num: int = 1, num_tokens: int = 6, num_frames: int = 5):
    tokens = torch.randint(0, VOCAB, (num, num_tokens))
    memory = torch.randn(num, num_frames, DIM)
    return tokens, torch.tensor([num_tokens] * num), memory, torch.tensor([num_frames] * num)


def test_position_u_does_not_depend_on_later_tokens(decoder):
    tokens, token_lengths, memory, lengths = random_inputs()
    logits = decoder(tokens, token_lengths, memory, lengths)
    for u in range(5):
        changed = tokens.clone()
        changed[0, u + 1 :] = (changed[0, u + 1 :] + 1) % VOCAB
        other = decoder(changed, token_lengths, memory, lengths)
        torch.testing.assert_close(other[:, : u + 1], logits[:, : u + 1], atol=1e-5, rtol=0)
        assert (other[0, u + 1] - logits[0, u + 1]).abs().max() > 1e-4


def test_a_prefix_gives_the_same_as_the_whole(decoder):
    tokens, token_lengths, memory, lengths = random_inputs()
    logits = decoder(tokens, token_lengths, memory, lengths)
    for u in range(1, 6):
        prefix = decoder(tokens[:, :u], torch.tensor([u]), memory, lengths)
        torch.testing.assert_close(prefix, logits[:, :u], atol=1e-5, rtol=0)


def test_every_earlier_token_and_every_frame_matters(decoder):
    tokens, token_lengths, memory, lengths = random_inputs()
    logits = decoder(tokens, token_lengths, memory, lengths)
    for u in range(6):
        changed = tokens.clone()
        changed[0, u] = (changed[0, u] + 1) % VOCAB
        other = decoder(changed, token_lengths, memory, lengths)
        assert (other[0, 5] - logits[0, 5]).abs().max() > 1e-4
    memory.requires_grad_()
    decoder(tokens, token_lengths, memory, lengths)[0, 0].square().sum().backward()
    assert (memory.grad[0].abs().sum(1) > 0).all()


def test_padding_and_batch_composition_change_nothing(decoder):
    examples = [random_inputs(1, *sizes) for sizes in ((6, 5), (2, 7), (4, 1))]
    alone = [decoder(*example)[0] for example in examples]
    for order in ([0, 1, 2], [2, 0], [1, 2, 0]):
        tokens = torch.randint(0, VOCAB, (len(order), 8))
        memory = 50.0 * torch.randn(len(order), 9, DIM)
        for row, i in enumerate(order):
            tokens[row, : examples[i][0].shape[1]] = examples[i][0][0]
            memory[row, : examples[i][2].shape[1]] = examples[i][2][0]
        token_lengths = torch.cat([examples[i][1] for i in order])
        lengths = torch.cat([examples[i][3] for i in order])
        out = decoder(tokens, token_lengths, memory, lengths)
        for row, i in enumerate(order):
            got = out[row, : int(token_lengths[row])]
            torch.testing.assert_close(got, alone[i], atol=1e-5, rtol=0)


def test_token_order_matters(decoder):
    tokens, token_lengths, memory, lengths = random_inputs()
    tokens[0, :3] = torch.tensor([2, 3, 4])
    swapped = tokens.clone()
    swapped[0, :3] = torch.tensor([3, 2, 4])
    difference = decoder(tokens, token_lengths, memory, lengths) - decoder(
        swapped, token_lengths, memory, lengths
    )
    assert difference[0, 2:].abs().max() > 1e-4


def test_frames_do_not_have_positions_of_their_own(decoder):
    """Attention over the encoder is a set operation: order is in the encoder's output."""
    tokens, token_lengths, memory, lengths = random_inputs()
    shuffled = memory[:, torch.randperm(5)]
    torch.testing.assert_close(
        decoder(tokens, token_lengths, shuffled, lengths),
        decoder(tokens, token_lengths, memory, lengths),
        atol=1e-5, rtol=0,
    )  # fmt: skip
