"""The one definition of an inner product's order, and the code that computes it.

**Definition.** For fp32 vectors q and x of D dimensions, 8 fp64 lanes start at +0. Lane j adds the
products q_d * x_d of d = j, j+8, j+16, ... in that order; a product of two fp32 numbers is exact in
fp64, so a fused multiply-add gives the same bits. The sum is::

    S = ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7))

and the score is fp32(S + fp64(bias)), rounded once, where a zero is always +0. Zero padding changes
no bit: a lane that starts at +0 never becomes -0.

``tile_4x4``, ``tile_4x2`` and ``tile_4x1`` compute S for four rows and that many queries at a
time. They emit LLVM vectors of eight doubles, which every target has (as one, two or four
registers), so that the order never depends on what an optimiser recognises.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from rankstream.kernels.compilation import compiled
from rankstream.kernels.instructions import row_pointer

LANES = 8
TILE_ROWS = 4
TILE_QUERIES = 4

_FLOAT = ir.FloatType()
_DOUBLE = ir.DoubleType()
_INDEX = ir.IntType(64)
_FLOATS = ir.VectorType(_FLOAT, LANES)
_DOUBLES = ir.VectorType(_DOUBLE, LANES)
_INT32 = ir.IntType(32)


def _zero_lanes() -> ir.Constant:
    return ir.Constant(_DOUBLES, [0.0] * LANES)


def _load_lanes(builder: Any, row: Any, offset: Any) -> Any:
    """Eight fp32 at ``row + offset``, as eight fp64."""
    pointer = builder.bitcast(builder.gep(row, [offset]), _FLOATS.as_pointer())
    return builder.fpext(builder.load(pointer, align=4), _DOUBLES)


def _load_tail(builder: Any, row: Any, offset: Any, length: Any) -> Any:
    """The last ``length`` (1..7) fp32 of a row as fp64 lanes, zero where there is none."""
    lanes = _zero_lanes()
    for lane in range(LANES - 1):
        here = builder.icmp_signed("<", ir.Constant(_INDEX, lane), length)
        index = builder.select(here, ir.Constant(_INDEX, lane), ir.Constant(_INDEX, 0))
        value = builder.load(builder.gep(row, [builder.add(offset, index)]))
        value = builder.select(here, value, ir.Constant(_FLOAT, 0.0))
        lanes = builder.insert_element(
            lanes, builder.fpext(value, _DOUBLE), ir.Constant(_INT32, lane)
        )
    return lanes


def _accumulate(builder: Any, lanes: Any, rows: Any, queries: Any) -> None:
    """Adds the products of every loaded row and query to their lanes."""
    for i, x in enumerate(rows):
        for j, q in enumerate(queries):
            product = builder.fmul(q, x, flags=("contract",))
            total = builder.fadd(builder.load(lanes[i][j]), product, flags=("contract",))
            builder.store(total, lanes[i][j])


def _combine(builder: Any, lanes: Any) -> Any:
    """The documented sum of eight lanes: halves are added until one is left."""
    width = LANES
    while width > 2:
        width //= 2
        halves = [
            ir.Constant(ir.VectorType(_INT32, width), list(range(start, start + width)))
            for start in (0, width)
        ]
        low, high = (builder.shuffle_vector(lanes, lanes, half) for half in halves)
        lanes = builder.fadd(low, high)
    first, second = (builder.extract_element(lanes, ir.Constant(_INT32, i)) for i in (0, 1))
    return builder.fadd(first, second)


def _emit_tile(builder: Any, rows: Any, queries: Any, start: Any, stop: Any, out: Any) -> None:
    """Emits S over dimensions ``start:stop``: of row i and query j into ``out[j][i]``."""
    lanes = [[cgutils.alloca_once_value(builder, _zero_lanes()) for _ in queries] for _ in rows]
    length = builder.sub(stop, start)
    steps = builder.lshr(length, ir.Constant(_INDEX, 3))
    with cgutils.for_range(builder, steps) as loop:
        offset = builder.add(start, builder.shl(loop.index, ir.Constant(_INDEX, 3)))
        loaded = [[_load_lanes(builder, p, offset) for p in side] for side in (rows, queries)]
        _accumulate(builder, lanes, *loaded)
    tail = builder.and_(length, ir.Constant(_INDEX, LANES - 1))
    with builder.if_then(builder.icmp_signed(">", tail, ir.Constant(_INDEX, 0)), likely=False):
        offset = builder.sub(stop, tail)
        loaded = [[_load_tail(builder, p, offset, tail) for p in side] for side in (rows, queries)]
        _accumulate(builder, lanes, *loaded)
    for i in range(len(rows)):
        for j in range(len(queries)):
            total = _combine(builder, builder.load(lanes[i][j]))
            builder.store(total, builder.gep(out[j], [ir.Constant(_INDEX, i)]))


def _tile(query_count: int) -> Any:
    """Makes the intrinsic for four rows and ``query_count`` consecutive queries.

    Its last arguments are a float64 matrix and a column: S of row i and query j goes to ``out[j,
    column + i]``.
    """

    def tile(
        typingctx: Any,
        queries: Any,
        query: Any,
        items: Any,
        row0: Any,
        row1: Any,
        row2: Any,
        row3: Any,
        start: Any,
        stop: Any,
        out: Any,
        column: Any,
    ) -> Any:
        index = types.intp
        signature = types.void(queries, index, items, *([index] * 6), out, index)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            def consecutive(array: int, first: Any) -> list[Any]:
                rows = [builder.add(first, ir.Constant(_INDEX, j)) for j in range(query_count)]
                return [
                    row_pointer(context, builder, sig.args[array], args[array], r) for r in rows
                ]

            rows = [row_pointer(context, builder, sig.args[2], args[2], r) for r in args[3:7]]
            targets = [builder.gep(p, [args[10]]) for p in consecutive(9, ir.Constant(_INDEX, 0))]
            _emit_tile(builder, rows, consecutive(0, args[1]), args[7], args[8], targets)
            return context.get_dummy_value()

        return signature, codegen

    return intrinsic(tile)


tile_4x4 = _tile(TILE_QUERIES)
tile_4x2 = _tile(2)
tile_4x1 = _tile(1)


@compiled
def rounded_score(total: float, bias: np.float32) -> np.float32:
    """fp32(total + bias), with +0 for both zeros."""
    return np.float32(np.float32(np.float64(total) + np.float64(bias)) + np.float32(0.0))
