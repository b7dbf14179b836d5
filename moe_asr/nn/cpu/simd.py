"""Vector instructions for kernels that numba compiles: the innermost loops, written in LLVM's terms.

What numba's own loops cannot say is here: a tile of a matrix product held in registers, prefetches, 8-bit dot
products, atomics. Memory is named by addresses (int64), the vectors are as wide as the machine has them.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from moe_asr.nn.cpu.compiler import intrinsic, target

IS_X86, _FEATURES = target()

LANES = 16 if "avx512f" in _FEATURES else 8 if "avx" in _FEATURES else 4
PANEL = 2 * LANES  # columns of a tile: two vectors
# rows of a tile: its accumulators, two vectors of weights and one of the input fill the registers
ROWS = 6 if IS_X86 and LANES < 16 else 12
DOT = (
    "llvm.x86.avx512.vpdpbusd.512" if LANES == 16 and "avx512vnni" in _FEATURES
    else "llvm.x86.avx512.vpdpbusd.256" if LANES == 8 and "avxvnni" in _FEATURES
    else ""
)  # fmt: skip

# e^x = 2^n e^r with n = round(x log2 e): Cephes' polynomial of e^r, in Horner's order
_LOWEST, _HIGHEST, _LOG2_E = -87.33655, 88.0, 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_EXP = (
    1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5, 1.0, 1.0
)  # fmt: skip

_I8, _I32, _I64, _F32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
_SECOND_LEVEL = 2  # the cache that prefetches of weights go to: LLVM's locality
_FLOATS, _INTS = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES)
_TILE_ARGUMENTS = (types.int64,) * 7


def _call(builder: ir.IRBuilder, result: ir.Type, name: str, arguments: list[ir.Value]) -> Any:
    function = ir.FunctionType(result, [one.type for one in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), arguments)


def _load(builder: ir.IRBuilder, address: ir.Value, kind: ir.Type, align: int) -> Any:
    loaded = builder.load(builder.inttoptr(address, kind.as_pointer()))
    loaded.align = align
    return loaded


def _splat(builder: ir.IRBuilder, scalar: ir.Value, kind: ir.VectorType) -> Any:
    nothing = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(nothing, scalar, _I32(0))
    zeros = ir.Constant(ir.VectorType(_I32, kind.count), [0] * kind.count)
    return builder.shuffle_vector(first, nothing, zeros)


def _prefetch(builder: ir.IRBuilder, address: ir.Value, locality: int) -> None:
    pointer = builder.inttoptr(address, _I8.as_pointer())
    _call(builder, ir.VoidType(), "llvm.prefetch.p0i8", [pointer, _I32(0), _I32(locality), _I32(1)])


def _multiply_add(builder: ir.IRBuilder, x: Any, weight: Any, total: Any) -> Any:
    kind = "f32" if x.type == _F32 else f"v{LANES}f32"
    return _call(builder, x.type, f"llvm.fmuladd.{kind}", [x, weight, total])


def _dot(builder: ir.IRBuilder, x: Any, weight: Any, total: Any) -> Any:
    return _call(builder, _INTS, DOT, [total, x, weight])


def _portable_dot(builder: ir.IRBuilder, x: Any, weight: Any, total: Any) -> Any:
    """total + the sum over four bytes of unsigned x times signed weight, in every lane of 32 bits."""
    for byte in range(4):
        left = ir.Constant(_INTS, [24 - 8 * byte] * LANES)
        down = ir.Constant(_INTS, [24] * LANES)
        unsigned = builder.lshr(builder.shl(x, left), down)
        signed = builder.ashr(builder.shl(weight, left), down)
        total = builder.add(total, builder.mul(unsigned, signed))
    return total


def _emit_tile(
    builder: ir.IRBuilder, kind: ir.VectorType, step_function: Any, num_rows: int, num_vectors: int,
    locality: int, arguments: Any, out_step: Any = None, far: Any = None,
) -> None:  # fmt: skip
    """Code of a tile of ``kind``: out[m, v] = sum over k of step(x_m[k], w[k, v]).

    ``out_step`` is the bytes between its rows in memory, where they are not one after the other. ``far``: for
    each k, what is so many bytes after ``ahead`` is prefetched too, instead of the vectors after it.
    """
    rows, count, weights, weight_step, out, ahead, ahead_step = arguments
    zero = ir.Constant(kind, [0] * LANES)
    xs = [_load(builder, builder.add(rows, _I64(8 * m)), _I64, 8) for m in range(num_rows)]
    totals = [[cgutils.alloca_once_value(builder, zero) for _ in range(num_vectors)] for _ in xs]
    for row in totals:  # an alloca is set where the function begins, and this may be run again
        for total in row:
            builder.store(zero, total)
    weight_at = cgutils.alloca_once(builder, _I64)
    ahead_at = cgutils.alloca_once(builder, _I64)
    builder.store(weights, weight_at)
    builder.store(ahead, ahead_at)
    width = 4 * LANES
    with cgutils.for_range(builder, count) as loop:
        offset = builder.shl(loop.index, _I64(2))
        at, prefetched = builder.load(weight_at), builder.load(ahead_at)
        weight = []
        for v in range(num_vectors):
            weight.append(_load(builder, builder.add(at, _I64(width * v)), kind, 4))
            if locality > 0 and v * width % 64 == 0 and far is None:
                _prefetch(builder, builder.add(prefetched, _I64(width * v)), locality)
        if far is not None:
            _prefetch(builder, prefetched, locality)
            _prefetch(builder, builder.add(prefetched, far), locality)
        for m, x in enumerate(xs):
            align = 4 if kind == _FLOATS else 1  # rows of bytes begin anywhere
            four_bytes = _load(builder, builder.add(x, offset), kind.element, align)
            everywhere = _splat(builder, four_bytes, kind)
            for v in range(num_vectors):
                total = builder.load(totals[m][v])
                total = step_function(builder, everywhere, weight[v], total)
                builder.store(total, totals[m][v])
        builder.store(builder.add(at, weight_step), weight_at)
        builder.store(builder.add(prefetched, ahead_step), ahead_at)
    out_step = _I64(width * num_vectors) if out_step is None else out_step
    for m in range(num_rows):
        for v in range(num_vectors):
            row = builder.add(out, builder.mul(out_step, _I64(m)))
            address = builder.add(row, _I64(width * v))
            stored = builder.store(
                builder.load(totals[m][v]), builder.inttoptr(address, kind.as_pointer())
            )
            stored.align = 4


def _panel_tile(kind: ir.VectorType, step_function: Any) -> Any:
    """A tile of one panel."""

    def make(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        num_rows, rows, count, weights, out, ahead, far, ahead_step = arguments
        arguments = rows, count, weights, _I64(4 * PANEL), out, ahead, ahead_step

        def emit(number: int) -> None:
            _emit_tile(builder, kind, step_function, number, 2, _SECOND_LEVEL, arguments, far=far)

        _switch(builder, num_rows, range(1, ROWS + 1), emit)
        return context.get_dummy_value()

    return make


def _switch(builder: ir.IRBuilder, value: Any, cases: Sequence[int], emit: Any) -> None:
    """Code of each case, for when ``value`` is it."""
    blocks = [builder.append_basic_block(f"case{case}") for case in cases]
    end = builder.append_basic_block("end")
    switch = builder.switch(value, end)
    for case, block in zip(cases, blocks, strict=True):
        switch.add_case(_I64(case), block)
        builder.position_at_end(block)
        emit(case)
        builder.branch(end)
    builder.position_at_end(end)


@intrinsic
def panel_tile_float32(context, num_rows, rows, count, weights, out, ahead, far, ahead_step):  # type: ignore[no-untyped-def]  # fmt: skip
    """A tile of a float32 matrix product: out[m, :] = sum over k < count of x_m[k] * w[k, :], of a panel.

    Args:
        num_rows: 1..ROWS; the tile is num_rows x PANEL.
        rows: address of ``num_rows`` addresses (int64) of the float32 rows x_m.
        count: terms of the sum.
        weights: address of the panel at k = 0, PANEL float32 for each k.
        out: address of num_rows * PANEL float32.
        ahead, far, ahead_step: what is prefetched: an address, and ``far`` bytes after it, both moving by
            ``ahead_step`` for each k.
    """
    return types.void(*(types.int64,) * 8), _panel_tile(_FLOATS, _multiply_add)


@intrinsic
def panel_tile_int8(context, num_rows, rows, count, weights, out, ahead, far, ahead_step):  # type: ignore[no-untyped-def]  # fmt: skip
    """`panel_tile_float32` of unsigned 8-bit rows and signed 8-bit weights, summed in int32, in fours.

    ``count`` is in fours; a lane of the weights is the four bytes w[4 k .. 4 k + 3, column].
    """
    return types.void(*(types.int64,) * 8), _panel_tile(_INTS, _dot if DOT else _portable_dot)


@intrinsic
def panel_tile_int8_portable(context, num_rows, rows, count, weights, out, ahead, far, ahead_step):  # type: ignore[no-untyped-def]  # fmt: skip
    """`panel_tile_int8` without instructions for it, as on machines that have none: the same to the bit."""
    return types.void(*(types.int64,) * 8), _panel_tile(_INTS, _portable_dot)


@intrinsic
def narrow_tile_float32(
    context, num_rows, num_vectors, rows, count, weights, weight_step, out, out_step, ahead
):  # type: ignore[no-untyped-def]  # fmt: skip
    """`panel_tile_float32` of 1 or 2 vectors, its rows ``out_step`` bytes apart.

    Its rows come in twos, so that there are fewer tiles to compile: an odd number is raised by one, and
    ``rows`` and ``out`` must be good for that.
    """

    def make(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        num_rows, num_vectors, rows, count, weights, weight_step, out, out_step, ahead = arguments

        def emit(number: int) -> None:
            vectors, pairs = 1 + number % 2, number // 2
            shared = rows, count, weights, weight_step, out, ahead, _I64(4 * LANES * vectors)
            _emit_tile(
                builder, _FLOATS, _multiply_add, 2 * pairs, vectors, _SECOND_LEVEL, shared, out_step
            )

        pairs = builder.lshr(builder.add(num_rows, _I64(1)), _I64(1))
        number = builder.add(builder.mul(pairs, _I64(2)), builder.sub(num_vectors, _I64(1)))
        _switch(builder, number, range(2, ROWS + 2), emit)
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 9), make


FROM_INT8 = 4
STORE, STORE_SILU, STORE_RELU, ADD = range(FROM_INT8)  # out = y, silu(y), relu(y); out += gate * y


def _constant(value: float, kind: ir.Type = _FLOATS) -> Any:
    return ir.Constant(kind, value if kind == _F32 else [value] * LANES)


def _exp(builder: ir.IRBuilder, x: Any) -> Any:
    """`exp` of a float32 or of a vector."""
    kind, integer = (_F32, _I32) if x.type == _F32 else (_FLOATS, _INTS)

    def bits(value: int) -> Any:
        return ir.Constant(integer, value if integer == _I32 else [value] * LANES)

    def constant(value: float) -> Any:
        return _constant(value, kind)

    x = builder.select(builder.fcmp_ordered("<", x, constant(_LOWEST)), constant(_LOWEST), x)
    x = builder.select(builder.fcmp_ordered(">", x, constant(_HIGHEST)), constant(_HIGHEST), x)
    shifted = _multiply_add(builder, x, constant(_LOG2_E), constant(192.5))
    number = builder.sub(builder.fptosi(shifted, integer), bits(192))
    rounded = builder.sitofp(number, kind)
    rest = _multiply_add(builder, rounded, constant(-_LN2_HIGH), x)
    rest = _multiply_add(builder, rounded, constant(-_LN2_LOW), rest)
    value = constant(_EXP[0])
    for coefficient in _EXP[1:]:
        value = _multiply_add(builder, value, rest, constant(coefficient))
    power = builder.shl(builder.add(number, bits(127)), bits(23))
    return builder.fmul(value, builder.bitcast(power, kind))


def _emit_finish(builder: ir.IRBuilder, from_int8: bool, mode: int, arguments: Any) -> None:
    """Code of `finish_tile`."""
    num_rows, tile, row_scales, row_zeros, scales, sums, bias, outs, gates = arguments

    def at(address: Any, v: int) -> Any:
        return builder.add(address, _I64(4 * LANES * v))

    def vectors(address: Any) -> list[Any]:
        return [_load(builder, at(address, v), _FLOATS, 4) for v in range(2)]

    def of_row(address: Any, offset: Any) -> Any:
        return _splat(builder, _load(builder, builder.add(address, offset), _F32, 4), _FLOATS)

    biases = vectors(bias)
    of_column, of_sum = (vectors(scales), vectors(sums)) if from_int8 else (biases, biases)
    one, nothing = _constant(1.0), _constant(0.0)
    with cgutils.for_range(builder, num_rows) as loop:
        four = builder.shl(loop.index, _I64(2))
        row = builder.add(tile, builder.mul(loop.index, _I64(8 * LANES)))
        out = _load(builder, builder.add(outs, builder.shl(loop.index, _I64(3))), _I64, 8)
        scale, zero = (
            (of_row(row_scales, four), of_row(row_zeros, four)) if from_int8 else (one, nothing)
        )
        gate = of_row(gates, four) if mode == ADD else one
        for v in range(2):
            if from_int8:
                y = builder.sitofp(_load(builder, at(row, v), _INTS, 4), _FLOATS)
                y = builder.fsub(y, builder.fmul(zero, of_sum[v]))
                y = _multiply_add(builder, builder.fmul(scale, of_column[v]), y, biases[v])
            else:
                y = builder.fadd(_load(builder, at(row, v), _FLOATS, 4), biases[v])
            if mode == STORE_SILU:
                exponential = _exp(builder, builder.fsub(nothing, y))
                y = builder.fdiv(y, builder.fadd(one, exponential))
            elif mode == STORE_RELU:  # a NaN stays one
                y = builder.select(builder.fcmp_ordered("<", y, nothing), nothing, y)
            elif mode == ADD:
                y = _multiply_add(builder, gate, y, _load(builder, at(out, v), _FLOATS, 4))
            stored = builder.store(y, builder.inttoptr(at(out, v), _FLOATS.as_pointer()))
            stored.align = 4


@intrinsic
def finish_tile(
    context, kind, num_rows, tile, row_scales, row_zeros, scales, sums, bias, outs, gates
):  # type: ignore[no-untyped-def]  # fmt: skip
    """Takes a tile of a panel to the output.

    Args:
        kind: STORE, STORE_SILU, STORE_RELU or ADD; plus FROM_INT8 if the tile is int32, of the value
            row scale * scales * (tile - row zero * sums).
        num_rows: of the tile.
        tile: address of (num_rows, PANEL) float32 or int32.
        row_scales, row_zeros: addresses of (num_rows,) float32, for int8.
        scales, sums, bias: addresses of (PANEL,) float32, of the columns.
        outs: address of (num_rows,) addresses: where row m goes.
        gates: address of (num_rows,) float32, for ADD.
    """

    def make(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        def emit(kind: int) -> None:
            _emit_finish(builder, kind >= FROM_INT8, kind % FROM_INT8, arguments[1:])

        _switch(builder, arguments[0], range(2 * FROM_INT8), emit)
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 10), make


def _reduce(builder: ir.IRBuilder, vector: Any, combine: Any) -> Any:
    """One value of all lanes of a vector."""
    nothing, half = ir.Constant(_FLOATS, ir.Undefined), LANES // 2
    while half:
        order = [(lane + half) % LANES for lane in range(LANES)]
        moved = builder.shuffle_vector(vector, nothing, ir.Constant(_INTS, order))
        vector, half = combine(vector, moved), half // 2
    return builder.extract_element(vector, _I32(0))


def _over_row(builder: ir.IRBuilder, count: Any, first: Any, combine: Any, emit: Any) -> Any:
    """Combines what ``emit`` gives for the vectors of a row, ``first`` in the lanes after ``count``."""
    start = _splat(builder, first, _FLOATS)
    result = cgutils.alloca_once(builder, _FLOATS)
    builder.store(start, result)
    vectors = builder.udiv(builder.add(count, _I64(LANES - 1)), _I64(LANES))
    lanes = ir.Constant(_INTS, list(range(LANES)))
    with cgutils.for_range(builder, vectors) as loop:
        at = builder.mul(loop.index, _I64(LANES))
        left = _splat(builder, builder.trunc(builder.sub(count, at), _I32), _INTS)
        is_inside = builder.icmp_signed("<", lanes, left)
        value = builder.select(is_inside, emit(builder.mul(at, _I64(4)), is_inside), start)
        builder.store(combine(builder.load(result), value), result)
    return _reduce(builder, builder.load(result), combine)


def _rewrite(builder: ir.IRBuilder, address: Any, is_inside: Any, value: Any, old: Any) -> Any:
    """Stores the lanes of ``value`` that are inside a row; returns all."""
    pointer = builder.inttoptr(address, _FLOATS.as_pointer())
    builder.store(builder.select(is_inside, value, old), pointer).align = 4
    return value


@intrinsic
def add_row(context, row, other, count, highest):  # type: ignore[no-untyped-def]
    """Adds ``count`` float32 at one address to those at another; returns the highest sum and ``highest``.

    Whole vectors are read, and what comes after ``count`` is written as it was. NaN is no highest sum.
    """

    def make(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        row, other, count, highest = arguments

        def emit(offset: Any, is_inside: Any) -> Any:
            address = builder.add(row, offset)
            old = _load(builder, address, _FLOATS, 4)
            value = builder.fadd(old, _load(builder, builder.add(other, offset), _FLOATS, 4))
            return _rewrite(builder, address, is_inside, value, old)

        def larger(a: Any, b: Any) -> Any:
            return builder.select(builder.fcmp_ordered(">", b, a), b, a)

        return _over_row(builder, count, highest, larger, emit)

    return types.float32(types.int64, types.int64, types.int64, types.float32), make


@intrinsic
def exp_row(context, row, count, highest):  # type: ignore[no-untyped-def]
    """`exp` of ``count`` float32 less ``highest``, in place as `add_row`; returns their sum."""

    def make(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        row, count, highest = arguments
        shift = _splat(builder, highest, _FLOATS)

        def emit(offset: Any, is_inside: Any) -> Any:
            address = builder.add(row, offset)
            old = _load(builder, address, _FLOATS, 4)
            value = _exp(builder, builder.fsub(old, shift))
            return _rewrite(builder, address, is_inside, value, old)

        return _over_row(builder, count, _F32(0.0), builder.fadd, emit)

    return types.float32(types.int64, types.int64, types.float32), make


@intrinsic
def float_of_bits(context, bits):  # type: ignore[no-untyped-def]
    """The float32 whose bits are an int32's."""

    def make(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], _F32)

    return types.float32(types.int32), make


@intrinsic
def exp(context, x):  # type: ignore[no-untyped-def]
    """e to the power of a float32 in -87.3..88 (others as the nearest of these), to 2e-7 of its value.

    Not in numba's terms, which let the compiler reorder the steps that make it exact.
    """

    def make(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return _exp(builder, arguments[0])

    return types.float32(types.float32), make
