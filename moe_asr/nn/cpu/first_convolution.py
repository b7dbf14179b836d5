"""The first convolution of the subsampling: one input channel, kernel (3, 3), stride 2."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from moe_asr.nn.cpu.compiler import float32, intrinsic, kernel
from moe_asr.nn.cpu.memory import floats
from moe_asr.nn.cpu.simd import (
    LANES,
)


@intrinsic
def _of_channels(context, features, stride, weight, weight_stride, bias, out, out_stride, bins):  # type: ignore[no-untyped-def]  # fmt: skip
    """`first_convolution` of LANES channels; ``out_stride``: bytes between bins of the output."""

    def make(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        features, stride, weight, weight_stride, bias, out, out_stride, bins = arguments
        f32, i64, i32 = ir.FloatType(), ir.IntType(64), ir.IntType(32)
        vectors = ir.VectorType(f32, LANES)
        fused = ir.FunctionType(vectors, [vectors] * 3)
        name = f"llvm.fmuladd.v{LANES}f32"
        multiply_add = cgutils.get_or_insert_function(builder.module, fused, name)
        zero, undefined = ir.Constant(vectors, [0.0] * LANES), ir.Constant(vectors, ir.Undefined)
        first = ir.Constant(ir.VectorType(i32, LANES), [0] * LANES)

        def load(address: ir.Value, kind: ir.Type) -> ir.Value:
            loaded = builder.load(builder.inttoptr(address, kind.as_pointer()))
            loaded.align = 4
            return loaded

        rows = [builder.add(features, builder.mul(stride, i64(t))) for t in range(3)]
        weights = [
            load(builder.add(weight, builder.mul(weight_stride, i64(tap))), vectors)
            for tap in range(9)
        ]
        biases = load(bias, vectors)
        with cgutils.for_range(builder, bins) as loop:
            window = builder.shl(loop.index, i64(3))  # bytes of two bins
            y = biases
            for tap, weights_of_tap in enumerate(weights):
                at = builder.add(builder.add(rows[tap // 3], window), i64(4 * (tap % 3)))
                x = builder.insert_element(undefined, load(at, f32), i32(0))
                x = builder.shuffle_vector(x, undefined, first)
                y = builder.call(multiply_add, [x, weights_of_tap, y])
            y = builder.select(builder.fcmp_ordered("<", y, zero), zero, y)
            to = builder.add(out, builder.mul(loop.index, out_stride))
            builder.store(y, builder.inttoptr(to, vectors.as_pointer())).align = 4
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 8), make


@kernel
def relu(y):  # type: ignore[no-untyped-def]
    """max(y, 0) of a float32; a NaN stays one."""
    return float32(0.0) if y < float32(0.0) else y


@kernel
def first_convolution(features, stride, weight, bias, out, bins, channels):  # type: ignore[no-untyped-def]
    """One time of the output: all bins and channels, after ReLU. Memory is named by addresses of float32.

    Args:
        features, stride: three rows (F,), ``stride`` bytes apart, 2 bins + 1 <= F.
        weight: (9, channels), of ``nn.Conv2d``'s (channels, 1, 3, 3).
        bias: (channels,).
        out: (bins, channels).
    """
    channel, out_stride = 0, 4 * channels
    while channel + LANES <= channels:
        at = 4 * channel
        _of_channels(
            features, stride, weight + at, out_stride, bias + at, out + at, out_stride, bins
        )
        channel += LANES
    w, biases, to = (
        floats(weight, 9 * channels),
        floats(bias, channels),
        floats(out, bins * channels),
    )
    for c in range(channel, channels):
        for b in range(bins):
            y = biases[c]
            for t in range(3):
                x = floats(features + t * stride, 2 * bins + 1)
                for k in range(3):
                    y += x[2 * b + k] * w[(3 * t + k) * channels + c]
            to[b * channels + c] = relu(y)
