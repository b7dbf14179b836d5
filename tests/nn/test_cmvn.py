"""Global normalisation: its definition, and that it is saved and not trained."""

import pytest
import torch

from moe_asr.nn.cmvn import GlobalCmvn


def test_normalises_to_zero_mean_and_unit_variance():
    x = 3.0 * torch.randn(500, 4) + torch.tensor([1.0, -2.0, 0.0, 10.0])
    cmvn = GlobalCmvn(4)
    cmvn.set(x.mean(0), 1.0 / x.std(0))
    out = cmvn(x)
    torch.testing.assert_close(out.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std(0), torch.ones(4))


def test_identity_without_statistics():
    x = torch.randn(2, 3, 4)
    assert torch.equal(GlobalCmvn(4)(x), x)


def test_statistics_are_in_the_state_and_not_among_the_parameters():
    cmvn = GlobalCmvn(2)
    cmvn.set(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]))
    assert not list(cmvn.parameters())
    other = GlobalCmvn(2)
    other.load_state_dict(cmvn.state_dict())
    assert other.mean.tolist() == [1.0, 2.0] and other.inv_std.tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    "mean,inv_std,text",
    [
        (torch.zeros(3), torch.ones(2), r"mean.*\(2,\).*\(3,\)"),
        (torch.zeros(2), torch.tensor([1.0, float("inf")]), "inv_std.*finite"),
        (torch.tensor([float("nan"), 0.0]), torch.ones(2), "mean.*finite"),
    ],
)
def test_wrong_statistics(mean, inv_std, text):
    cmvn = GlobalCmvn(2)
    with pytest.raises(ValueError, match=text):
        cmvn.set(mean, inv_std)
    assert cmvn.mean.tolist() == [0.0, 0.0] and cmvn.inv_std.tolist() == [1.0, 1.0]
