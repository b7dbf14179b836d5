"""Memory for kernels that numba compiles: arrays at addresses, what threads share, waiting, and cycles."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from moe_asr.nn.cpu.compiler import intrinsic
from moe_asr.nn.cpu.simd import IS_X86

_I64 = ir.IntType(64)


def _view(element: Any) -> Any:
    def make(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        address, length = arguments
        array_type = signature.return_type
        array = context.make_array(array_type)(context, builder)
        size = context.get_abi_sizeof(context.get_data_type(element))
        context.populate_array(
            array,
            data=builder.inttoptr(address, context.get_data_type(element).as_pointer()),
            shape=cgutils.pack_array(builder, [length]),
            strides=cgutils.pack_array(builder, [_I64(size)]),
            itemsize=_I64(size),
            meminfo=None,
        )
        return array._getvalue()

    return types.Array(element, 1, "C")(types.int64, types.int64), make


@intrinsic
def floats(context, address, length):  # type: ignore[no-untyped-def]
    """The (length,) float32 array at an address. It owns nothing."""
    return _view(types.float32)


@intrinsic
def integers(context, address, length):  # type: ignore[no-untyped-def]
    """The (length,) int64 array at an address."""
    return _view(types.int64)


@intrinsic
def small_integers(context, address, length):  # type: ignore[no-untyped-def]
    """The (length,) int32 array at an address."""
    return _view(types.int32)


@intrinsic
def unsigned_bytes(context, address, length):  # type: ignore[no-untyped-def]
    """The (length,) uint8 array at an address."""
    return _view(types.uint8)


@intrinsic
def atomic_add(context, address, value):  # type: ignore[no-untyped-def]
    """Adds to the int64 at an address, for all threads to see; returns what was there before."""

    def make(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointer = builder.inttoptr(arguments[0], _I64.as_pointer())
        return builder.atomic_rmw("add", pointer, arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), make


@intrinsic
def atomic_load(context, address):  # type: ignore[no-untyped-def]
    """The int64 at an address, as other threads last stored it."""

    def make(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointer = builder.inttoptr(arguments[0], _I64.as_pointer())
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(types.int64), make


@intrinsic
def atomic_store(context, address, value):  # type: ignore[no-untyped-def]
    """Stores an int64 at an address, after everything that this thread stored before."""

    def make(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointer = builder.inttoptr(arguments[0], _I64.as_pointer())
        builder.store_atomic(arguments[1], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), make


def _call(builder: ir.IRBuilder, result: ir.Type, name: str) -> Any:
    function = ir.FunctionType(result, [])
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), [])


@intrinsic
def pause(context):  # type: ignore[no-untyped-def]
    """Tells the processor that this thread is waiting in a loop."""

    def make(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        if IS_X86:
            _call(builder, ir.VoidType(), "llvm.x86.sse2.pause")
        return context.get_dummy_value()

    return types.void(), make


@intrinsic
def cycles(context):  # type: ignore[no-untyped-def]
    """The processor's counter of cycles, at a constant rate on most; 0 where it is not open to programs."""

    def make(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        if not IS_X86:  # ARM's traps
            return _I64(0)
        return _call(builder, _I64, "llvm.readcyclecounter")

    return types.int64(), make
