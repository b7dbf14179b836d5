"""Packing frames without padding, and back."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_asr.nn.packing import FramePacking


@given(st.lists(st.integers(0, 7), min_size=1, max_size=5), st.integers(0, 3))
def test_pack_lists_the_valid_frames_and_scatter_puts_them_back(lengths, extra):
    longest = max(lengths) + extra
    x = torch.randn(len(lengths), longest, 3)
    packing = FramePacking.from_lengths(torch.tensor(lengths), longest)
    packed = packing.pack(x)
    expected = [x[n, t].tolist() for n, length in enumerate(lengths) for t in range(length)]
    assert packed.tolist() == expected
    back = packing.scatter(packed, x)
    assert back.shape == x.shape
    for n, length in enumerate(lengths):
        assert torch.equal(back[n, :length], x[n, :length])
        assert not back[n, length:].any()


def test_gradients_come_back_to_their_frames_only():
    x = torch.randn(2, 3, 2, requires_grad=True)
    packing = FramePacking.from_lengths(torch.tensor([3, 1]), 3)
    packing.scatter(packing.pack(x) * 2.0, x).sum().backward()
    assert x.grad[0].eq(2).all() and x.grad[1, 0].eq(2).all()
    assert not x.grad[1, 1:].any()


def test_packing_of_a_transposed_tensor():
    x = torch.randn(4, 2, 3).transpose(0, 1)
    for lengths in ([4, 4], [2, 3]):
        packing = FramePacking.from_lengths(torch.tensor(lengths), 4)
        expected = torch.cat([x[n, :length] for n, length in enumerate(lengths)])
        assert torch.equal(packing.pack(x), expected)


def test_each_packing_has_its_own_losses():
    first, second = FramePacking(), FramePacking()
    first.auxiliary_losses.append(torch.zeros(()))
    assert second.auxiliary_losses == []


def test_a_packing_of_another_device():
    packing = FramePacking.from_lengths(torch.tensor([2, 3]), 3).to(torch.device("meta"))
    assert packing.valid.shape == (5,) and packing.unpack.shape == (6,)
    assert packing.valid.is_meta and packing.unpack.is_meta
    assert FramePacking().to(torch.device("meta")).valid is None
