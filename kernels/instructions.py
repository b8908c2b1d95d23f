"""Instructions that the compiler has no function for: prefetches, bits, a count for threads."""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

AHEAD = 8
"""How many rows before its use a gathered row is prefetched."""

_INDEX = ir.IntType(64)
_INT32 = ir.IntType(32)


def row_pointer(context: Any, builder: Any, matrix_type: Any, matrix: Any, row: Any) -> Any:
    """Pointer to the first element of ``matrix[row]``, a C-contiguous matrix."""
    array = context.make_array(matrix_type)(context, builder, matrix)
    width = cgutils.unpack_tuple(builder, array.shape, 2)[1]
    return builder.gep(array.data, [builder.mul(row, width)])


@intrinsic  # type: ignore[untyped-decorator]
def prefetch_row(typingctx: Any, items: Any, row: Any) -> Any:
    """Asks for the cache lines of ``items[row]``: rows gathered at random wait for memory."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        start = row_pointer(context, builder, sig.args[0], args[0], args[1])
        array = context.make_array(sig.args[0])(context, builder, args[0])
        width = cgutils.unpack_tuple(builder, array.shape, 2)[1]
        lines = builder.lshr(builder.add(width, ir.Constant(_INDEX, 15)), ir.Constant(_INDEX, 4))
        with cgutils.for_range(builder, lines) as loop:
            line = builder.gep(start, [builder.shl(loop.index, ir.Constant(_INDEX, 4))])
            prefetch(builder, line)
        return context.get_dummy_value()

    return types.void(items, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def prefetch_byte(typingctx: Any, data: Any, at: Any) -> Any:
    """Asks for the cache line of ``data[at]``, an array of bytes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array = context.make_array(sig.args[0])(context, builder, args[0])
        prefetch(builder, builder.gep(array.data, [args[1]]))
        return context.get_dummy_value()

    return types.void(data, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def prefetch_span(typingctx: Any, data: Any, at: Any, lines: Any) -> Any:
    """Asks for so many cache lines from ``data[at]`` on, an array of bytes, into the second cache.

    They may lie behind its end.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array = context.make_array(sig.args[0])(context, builder, args[0])
        start = builder.gep(array.data, [args[1]])
        with cgutils.for_range(builder, args[2]) as loop:
            line = builder.gep(start, [builder.shl(loop.index, ir.Constant(_INDEX, 6))])
            prefetch(builder, line, locality=2)
        return context.get_dummy_value()

    return types.void(data, types.intp, types.intp), codegen


def prefetch(builder: Any, start: Any, locality: int = 3) -> None:
    """Asks for the cache line of a pointer; into the first cache, or (2) the second."""
    pointer = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, _INT32, _INT32, _INT32])
    fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    hints = [ir.Constant(_INT32, hint) for hint in (0, locality, 1)]  # to read, how near, data
    builder.call(fetch, [builder.bitcast(start, pointer), *hints])


@intrinsic  # type: ignore[untyped-decorator]
def lowest_bit(typingctx: Any, word: Any) -> Any:
    """The place of the lowest bit of a uint64 that is not 0."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def take(typingctx: Any, taken: Any, count: Any) -> Any:
    """Adds to ``taken[0]``, an int64 that threads share, and returns what it was before."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array = context.make_array(sig.args[0])(context, builder, args[0])
        return builder.atomic_rmw("add", array.data, args[1], "monotonic")

    return types.int64(taken, types.int64), codegen
