"""What is done to single rows between the matrix products: norms, gates, the depthwise sum, routing.

All memory is named by addresses (int64) of float32, unless said otherwise. Nothing is allocated, and rows
may be shared out among threads in any way: what a row becomes depends on that row only.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from moe_asr.nn.cpu.compiler import float32, intrinsic, kernel
from moe_asr.nn.cpu.memory import floats, integers
from moe_asr.nn.cpu.simd import (
    LANES,
    exp,
)

_BLOCK = 4  # vectors of channels that the depthwise sum holds in registers at a time


@kernel
def layer_norm(x, gain, bias, epsilon, out, dim):  # type: ignore[no-untyped-def]
    """out = (x - mean) / sqrt(variance + epsilon) * gain + bias of a row (dim,), as ``nn.LayerNorm``.

    ``epsilon`` is a float32. ``out`` is another row, or ``x`` itself.
    """
    row, gains, biases, to = floats(x, dim), floats(gain, dim), floats(bias, dim), floats(out, dim)
    total = float32(0.0)
    for i in range(dim):
        total += row[i]
    mean = total / float32(dim)
    total = float32(0.0)
    for i in range(dim):
        difference = row[i] - mean
        total += difference * difference
    scale = float32(1.0) / float32((total / float32(dim) + epsilon) ** float32(0.5))
    if out == x:  # as one array, so that the compiler sees that it can be vectorised
        for i in range(dim):
            row[i] = (row[i] - mean) * scale * gains[i] + biases[i]
    else:
        for i in range(dim):
            to[i] = (row[i] - mean) * scale * gains[i] + biases[i]


@kernel
def silu(x, dim):  # type: ignore[no-untyped-def]
    """x becomes x / (1 + e^-x), a row (dim,)."""
    row = floats(x, dim)
    for i in range(dim):
        y = row[i]
        row[i] = y / (float32(1.0) + exp(-y))


@kernel
def glu(x, out, dim):  # type: ignore[no-untyped-def]
    """out = a / (1 + e^-b) of a row (a, b) (2 dim,); ``out`` (dim,) is another row."""
    values, gates, to = floats(x, dim), floats(x + 4 * dim, dim), floats(out, dim)
    for i in range(dim):
        to[i] = values[i] / (float32(1.0) + exp(-gates[i]))


@intrinsic(prefer_literal=True)
def _depthwise_block(context, num_vectors, row, begin, end, stride, weight, weight_stride, taps, bias, out):  # type: ignore[no-untyped-def]  # fmt: skip
    """out = bias + the sum over taps of weight * row, for ``num_vectors`` (literal) vectors of channels.

    Rows are ``stride`` bytes apart from ``row`` on; the one that would be at ``end`` is at ``begin``.
    """

    def make(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        row, begin, end, stride, weight, weight_stride, taps, bias, out = arguments[1:]
        vectors, i64 = ir.VectorType(ir.FloatType(), LANES), ir.IntType(64)
        fused = ir.FunctionType(vectors, [vectors] * 3)
        multiply_add = cgutils.get_or_insert_function(
            builder.module, fused, f"llvm.fmuladd.v{LANES}f32"
        )

        def place(address: ir.Value, vector: int) -> ir.Value:
            address = builder.add(address, i64(4 * LANES * vector))
            return builder.inttoptr(address, vectors.as_pointer())

        def load(address: ir.Value, vector: int) -> ir.Value:
            loaded = builder.load(place(address, vector))
            loaded.align = 4
            return loaded

        block = range(signature.args[0].literal_value)
        totals = [cgutils.alloca_once_value(builder, load(bias, v)) for v in block]
        row_at = cgutils.alloca_once_value(builder, row)
        weight_at = cgutils.alloca_once_value(builder, weight)
        with cgutils.for_range(builder, taps):
            at, weights = builder.load(row_at), builder.load(weight_at)
            for v in block:
                terms = [load(at, v), load(weights, v), builder.load(totals[v])]
                builder.store(builder.call(multiply_add, terms), totals[v])
            after = builder.add(at, stride)
            wraps = builder.icmp_signed("==", after, end)
            builder.store(builder.select(wraps, begin, after), row_at)
            builder.store(builder.add(weights, weight_stride), weight_at)
        for v in block:
            builder.store(builder.load(totals[v]), place(out, v)).align = 4
        return context.get_dummy_value()

    return types.void(num_vectors, *(types.int64,) * 9), make


@kernel
def depthwise(ring, num_rows, stride, first, weight, bias, out, out_stride, num_frames, taps, dim):  # type: ignore[no-untyped-def]  # fmt: skip
    """Frames of a depthwise convolution: out_t[c] = bias[c] + sum over j of weight[j, c] * row_(t + j)[c].

    Args:
        ring, num_rows, stride: rows (dim,), ``stride`` bytes apart.
        first: row_i is row (first + i) mod num_rows of the ring; 0 <= first < num_rows.
        weight: (taps, dim), taps <= num_rows: ``nn.Conv1d``'s (dim, 1, taps), transposed.
        bias: (dim,).
        out, out_stride: ``num_frames`` rows (dim,) and the bytes from one to the next; none of those read.
    """
    channel = 0
    while channel + LANES <= dim:  # all frames of a block before the next: its weights stay in L1
        begin, w, b = ring + 4 * channel, weight + 4 * channel, bias + 4 * channel
        at, out_at = begin + first * stride, out + 4 * channel
        end = begin + num_rows * stride
        whole = channel + _BLOCK * LANES <= dim
        for _ in range(num_frames):
            if whole:
                _depthwise_block(_BLOCK, at, begin, end, stride, w, 4 * dim, taps, b, out_at)
            else:
                _depthwise_block(1, at, begin, end, stride, w, 4 * dim, taps, b, out_at)
            at = at + stride if at + stride < end else begin
            out_at += out_stride
        channel += _BLOCK * LANES if whole else LANES
    biases, weights = floats(bias, dim), floats(weight, taps * dim)
    for t in range(num_frames if channel < dim else 0):
        to = floats(out + t * out_stride, dim)
        for c in range(channel, dim):
            total = biases[c]
            for j in range(taps):
                row = floats(ring + (first + t + j) % num_rows * stride, dim)
                total += weights[j * dim + c] * row[c]
            to[c] = total


@kernel
def route(x, stride, num_rows, router, dim, num_experts, num_chosen, experts, gates):  # type: ignore[no-untyped-def]
    """The experts of some rows and their gates, as `MixtureFeedForward.route`.

    The k = ``num_chosen`` largest logits of a row, the largest first, of equal ones that of the lower expert;
    their softmax. A logit that is NaN is never preferred to another, and gates are NaN if it is chosen.

    Args:
        x, stride: rows (dim,) and the bytes from one to the next.
        router: (num_experts, dim).
        experts: (num_rows, k) int64, written.
        gates: (num_rows, k), written.
    """
    weights = floats(router, num_experts * dim)
    for r in range(num_rows):
        row = floats(x + r * stride, dim)
        chosen = integers(experts + 8 * r * num_chosen, num_chosen)
        largest = floats(gates + 4 * r * num_chosen, num_chosen)
        for e in range(num_experts):
            logit = float32(0.0)
            for i in range(dim):
                logit += row[i] * weights[e * dim + i]
            place = min(e, num_chosen)
            while place > 0 and logit > largest[place - 1]:
                if place < num_chosen:
                    largest[place], chosen[place] = largest[place - 1], chosen[place - 1]
                place -= 1
            if place < num_chosen:
                largest[place], chosen[place] = logit, e
        highest, total = largest[0], float32(0.0)
        for j in range(num_chosen):
            largest[j] = exp(largest[j] - highest)
            total += largest[j]
        for j in range(num_chosen):
            largest[j] /= total
