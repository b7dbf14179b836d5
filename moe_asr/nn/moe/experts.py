"""A stack of feed-forward experts, each run once on the frames that chose it.

Shapes: M frames, k choices a frame, A = M * k assignments, E experts, D model, H hidden.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def _silu(h: Tensor) -> Tensor:
    return torch.nn.functional.silu(h)


def _silu_backward(grad: Tensor, h: Tensor) -> Tensor:
    return torch.ops.aten.silu_backward(grad, h)


def _relu_backward(grad: Tensor, h: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward(grad, h, 0)


# name -> (function, gradient with respect to its input given (gradient of output, input))
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "silu": (_silu, _silu_backward),
    "relu": (torch.relu, _relu_backward),
}


def _spans(counts: list[int]) -> list[tuple[int, int, int]]:
    """(expert, first row, last row + 1) of each expert that has rows."""
    spans, start = [], 0
    for expert, count in enumerate(counts):
        if count:
            spans.append((expert, start, start + count))
        start += count
    return spans


class _GroupedFeedForward(torch.autograd.Function):
    """y_m = sum_j gate_mj * FFN_{e(m, j)}(x_m), forward and backward over contiguous expert groups.

    One autograd node instead of E slices a weight: slicing a stacked parameter in autograd would
    allocate a full-size zero gradient for every expert.
    """

    @staticmethod
    def forward(ctx, x, gates, order, inverse, counts, w1, b1, w2, b2, activation):  # type: ignore[no-untyped-def]
        """``order`` (A,) sorts the assignments (frame * k + choice) by expert; ``inverse`` undoes it."""
        num_choices = gates.shape[1]
        rows = order if num_choices == 1 else torch.div(order, num_choices, rounding_mode="floor")
        spans = _spans(counts)
        xs = x.index_select(0, rows)  # (A, D)
        h = xs.new_empty(len(xs), w1.shape[2])
        for e, s, t in spans:
            torch.addmm(b1[e], xs[s:t], w1[e], out=h[s:t])
        a = ACTIVATIONS[activation][0](h)
        y = xs.new_empty(len(xs), w2.shape[2])
        for e, s, t in spans:
            torch.addmm(b2[e], a[s:t], w2[e], out=y[s:t])
        y_by_frame = y.index_select(0, inverse).view(len(x), num_choices, y.shape[1])  # (M, k, D)
        if num_choices == 2:
            out = y_by_frame[:, 0] * gates[:, :1]
            out.addcmul_(y_by_frame[:, 1], gates[:, 1:])
        else:
            out = (y_by_frame * gates.unsqueeze(2)).sum(1)
        ctx.save_for_backward(xs, h, a, y_by_frame, gates, order, rows, inverse, w1, w2)
        ctx.spans, ctx.activation = spans, activation
        return out

    @staticmethod
    def backward(ctx, grad_out):  # type: ignore[no-untyped-def]
        xs, h, a, y_by_frame, gates, order, rows, inverse, w1, w2 = ctx.saved_tensors
        num_frames, num_choices = gates.shape
        grad_out = grad_out.contiguous()
        grad_gates = torch.bmm(y_by_frame, grad_out.unsqueeze(2)).squeeze(2)  # (M, k)
        grad_y = grad_out.index_select(0, rows)  # (A, D)
        grad_y.mul_(gates.flatten().index_select(0, order).unsqueeze(1))
        grad_w1, grad_w2 = torch.empty_like(w1), torch.empty_like(w2)
        grad_b1, grad_b2 = (
            w1.new_empty(w1.shape[0], w1.shape[2]),
            w2.new_empty(w2.shape[0], w2.shape[2]),
        )
        used = {e for e, _, _ in ctx.spans}
        for e in range(w1.shape[0]):
            if e not in used:
                for grad in (grad_w1, grad_b1, grad_w2, grad_b2):
                    grad[e].zero_()
        grad_a = torch.empty_like(a)
        for e, s, t in ctx.spans:
            torch.mm(grad_y[s:t], w2[e].t(), out=grad_a[s:t])
            torch.mm(a[s:t].t(), grad_y[s:t], out=grad_w2[e])
            torch.sum(grad_y[s:t], 0, out=grad_b2[e])
        grad_h = ACTIVATIONS[ctx.activation][1](grad_a, h)
        grad_xs = torch.empty_like(xs)
        for e, s, t in ctx.spans:
            torch.mm(grad_h[s:t], w1[e].t(), out=grad_xs[s:t])
            torch.mm(xs[s:t].t(), grad_h[s:t], out=grad_w1[e])
            torch.sum(grad_h[s:t], 0, out=grad_b1[e])
        grad_x = grad_xs.index_select(0, inverse)
        if num_choices > 1:
            grad_x = grad_x.view(num_frames, num_choices, grad_x.shape[1]).sum(1)
        return grad_x, grad_gates, None, None, None, grad_w1, grad_b1, grad_w2, grad_b2, None


def grouped_feed_forward(
    x: Tensor,
    gates: Tensor,
    experts: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    activation: str = "silu",
) -> Tensor:
    """Mixture output of every frame: the gated sum of its experts' feed-forward outputs.

    Frames are sorted by expert, so that each expert is one pair of matrix products on its own frames.

    Args:
        x: (M, D) frames.
        gates: (M, k) weight of each choice, same dtype as ``x``.
        experts: (M, k) int64 expert of each choice, in [0, E).
        w1, b1: (E, D, H) and (E, H), first layer.
        w2, b2: (E, H, D) and (E, D), second layer.
        activation: a name in `ACTIVATIONS`.

    Returns:
        (M, D).
    """
    flat = experts.flatten()
    order = torch.sort(flat, stable=True)[1]
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order), device=order.device)
    counts = torch.bincount(flat, minlength=w1.shape[0]).tolist()
    return _GroupedFeedForward.apply(x, gates, order, inverse, counts, w1, b1, w2, b2, activation)
