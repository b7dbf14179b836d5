"""The feed-forward layers as a kernel: frames grouped by expert, each expert's weights read once a call.

Of an expert's frames, x + gate * (silu(x W1 + b1) W2 + b2) is two products on gathered rows: the first writes
the hidden rows, of a block that stays in the second-level cache; the second adds to the residual.
"""

from moe_asr.nn.cpu.compiler import kernel
from moe_asr.nn.cpu.gemm import ADD, INPUTS, IS_INT8, STORE_SILU, multiply, quantize_row
from moe_asr.nn.cpu.memory import floats, unsigned_bytes
from moe_asr.nn.cpu.team import barrier

BLOCK = 128  # frames of an expert at a time: their hidden rows, 2560 float32 each, are 1.3 MB


@kernel
def group_by_expert(experts, gates, num_chosen, factor, starts, frames, row_gates):  # type: ignore[no-untyped-def]
    """Sorts assignments by expert, within one in the order of the frames.

    Args:
        experts, gates: (M * k,) int64 and float32, the k choices of each frame.
        num_chosen: k.
        factor: float32, multiplied with the gates.
        starts: (E + 1,) int64, out: where each expert's assignments begin.
        frames, row_gates: (M * k,) int64 and float32, out: frame and gate of each assignment.
    """
    num_experts = len(starts) - 1
    starts[:] = 0
    for a in range(len(experts)):
        starts[experts[a] + 1] += 1
    for e in range(num_experts):
        starts[e + 1] += starts[e]
    for a in range(len(experts)):
        e = experts[a]
        frames[starts[e]] = a // num_chosen
        row_gates[starts[e]] = gates[a] * factor
        starts[e] += 1
    for e in range(num_experts, 0, -1):
        starts[e] = starts[e - 1]
    starts[0] = 0


@kernel
def quantize_rows(rank, size, x, stride, num_inputs, first, num_rows, out, out_stride, scales, zeros):  # type: ignore[no-untyped-def]  # fmt: skip
    """This thread's share of rows first .. first + num_rows - 1 of float32 rows, to unsigned 8 bits.

    Args:
        x, out: addresses of row 0 of the input (``stride`` bytes a row) and of the output.
        scales, zeros: float32, by row.
    """
    for i in range(first + rank * num_rows // size, first + (rank + 1) * num_rows // size):
        row = floats(x + i * stride, num_inputs)
        to = unsigned_bytes(out + i * out_stride, out_stride)
        scales[i], zeros[i] = quantize_row(row, to, num_inputs)


@kernel
def feed_forward(
    rank, size, sync, scratch, matrices, first_matrix, x, x_stride, row_scales, row_zeros,
    starts, frames, row_gates, hidden, quantized, hidden_scales, hidden_zeros, identity, out, dim,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """out[frame] += gate * expert(x[frame]) of all assignments, by all threads; no barrier at the end.

    Args:
        matrices: table of matrices; expert e has first_matrix + 2 e and the next.
        x, x_stride, row_scales, row_zeros: input rows, see `multiply`.
        starts, frames, row_gates: of `group_by_expert`; starts (E + 1,) may be of one expert that takes all.
        hidden: address of two blocks (BLOCK, H) float32.
        quantized: address of two blocks (BLOCK, H padded to a multiple of four) bytes, for int8.
        hidden_scales, hidden_zeros: (assignments,) float32, for int8.
        identity: (assignments,) int64, 0, 1, 2 ...
        out: (M * dim,) float32.
    """
    which = 0
    for e in range(len(starts) - 1):
        w1, w2 = matrices[first_matrix + 2 * e], matrices[first_matrix + 2 * e + 1]
        width, is_int8 = w2[INPUTS], w2[IS_INT8] != 0
        padded = (width + 3) // 4 * 4
        count = starts[e + 1] - starts[e]
        num_blocks = (count + BLOCK - 1) // BLOCK
        for block in range(num_blocks):
            first = starts[e] + block * count // num_blocks
            rows = starts[e] + (block + 1) * count // num_blocks - first
            # by assignment: row ``first`` is the first of the block
            floats_at = hidden + (which * BLOCK - first) * width * 4
            bytes_at = quantized + (which * BLOCK - first) * padded
            multiply(
                rank, size, scratch, w1, STORE_SILU, x, x_stride, row_scales, row_zeros, frames,
                first, rows, floats(floats_at, (first + rows) * width), width, identity, row_gates,
            )  # fmt: skip
            barrier(sync, size)
            if is_int8:
                quantize_rows(
                    rank, size, floats_at, width * 4, width, first, rows, bytes_at, padded,
                    hidden_scales, hidden_zeros,
                )  # fmt: skip
                barrier(sync, size)
            multiply(
                rank, size, scratch, w2, ADD, bytes_at if is_int8 else floats_at,
                padded if is_int8 else width * 4, hidden_scales, hidden_zeros, identity, first,
                rows, out, dim, frames, row_gates,
            )  # fmt: skip
            which = 1 - which
