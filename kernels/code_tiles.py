"""Inner products of codes, 64 rows and a few queries at a time.

Codes lie as ``code_layers.py`` says. So a vector register holds one step of 16 (or 8) rows, a
query's step is one 32-bit word that is broadcast, and a row's sum stays in its lane: nothing is
ever added across lanes. Of the coarse layer, three registers become four.

Items are unsigned, queries signed; what is added to an item's codes for that, times the sum of the
query's, is what the accumulators start below zero by. How they are multiplied depends on the
processor, the sums do not (``code_ways.py``).

The integers become bounds in the registers: ``out[j, i]`` grows by ``sum * scale[i] *
query_scale[j] + error[i] * norm[j]``, in fp32, with fused multiply-adds: ``codes.py`` says why.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from rankstream.kernels.code_layers import GROUP, STEP, TILE
from rankstream.kernels.code_ways import VNNI_512, WIDTHS, arithmetic, constant, splat, vector
from rankstream.kernels.instructions import prefetch

_AHEAD = 8192
_I32, _I64 = (ir.IntType(bits) for bits in (32, 64))
_FLOAT = ir.FloatType()


def _load(builder: Any, kind: Any, start: Any, offset: Any) -> Any:
    pointer = builder.bitcast(builder.gep(start, [offset]), kind.as_pointer())
    return builder.load(pointer, align=4)


def _groups_at_once(way: int, queries: int) -> int:
    """How many registers of rows are worked on together: accumulators stay in registers.

    One query takes all 64 rows at once, from the first byte of a tile to the last: read in two
    halves, it waits for memory twice.
    """
    if way == VNNI_512:
        return 4
    return 2 if queries > 1 else 8


def _add_step(builder: Any, made: Any, pointers: Any, index: Any, groups: Any, totals: Any) -> None:
    """Adds the products of the step with that number, of some groups of rows and all queries."""
    base = builder.mul(index, ir.Constant(_I64, STEP))
    words = [_load_rows(builder, made, pointers["codes"], base, group) for group in groups]
    rows = [made.rows(builder, word) for word in words]
    for j, query in enumerate(pointers["queries"]):
        part = made.query(builder, builder.load(builder.gep(query, [index])))
        for row, total in zip(rows, totals, strict=True):
            builder.store(made.add(builder, builder.load(total[j]), row, part), total[j])


def _add_packed(
    builder: Any, made: Any, pointers: Any, index: Any, groups: Any, totals: Any
) -> None:
    """Adds those of the four steps of a group of the coarse layer, of one query."""
    first = builder.mul(index, ir.Constant(_I64, GROUP))
    places = [builder.add(first, ir.Constant(_I64, place)) for place in range(GROUP)]
    query = [builder.load(builder.gep(pointers["queries"][0], [place])) for place in places]
    base = builder.mul(index, ir.Constant(_I64, (GROUP - 1) * STEP))
    for group, total in zip(groups, totals, strict=True):
        rows = _unpacked(builder, made, pointers["codes"], base, group)
        builder.store(made.add_six(builder, builder.load(total[0]), rows, query), total[0])


def _unpacked(builder: Any, made: Any, codes: Any, base: Any, group: int) -> list[Any]:
    """The four registers that three of the coarse layer hold."""
    words = vector(_I32, made.bits)
    six, pairs = constant(words, 0x3F3F3F3F), [0x03030303, 0x0C0C0C0C, 0x30303030]
    packed = [
        _load_rows(builder, made, codes, builder.add(base, ir.Constant(_I64, place * STEP)), group)
        for place in range(GROUP - 1)
    ]
    fourth = constant(words, 0)
    for place, mask in enumerate(pairs):
        bits = builder.lshr(packed[place], constant(words, 6 - 2 * place))
        fourth = builder.or_(fourth, builder.and_(bits, constant(words, mask)))
    return [*(builder.and_(one, six) for one in packed), fourth]


def _load_rows(builder: Any, made: Any, codes: Any, base: Any, group: int) -> Any:
    """One register of a step that begins at byte ``base``."""
    place = builder.add(base, ir.Constant(_I64, group * made.bits // 8))
    return _load(builder, vector(_I32, made.bits), codes, place)


def _prefetch_ahead(builder: Any, codes: Any, index: Any, packed: bool) -> None:
    size = (GROUP - 1) * STEP if packed else STEP
    ahead = builder.add(builder.mul(index, ir.Constant(_I64, size)), ir.Constant(_I64, _AHEAD))
    for line in range(0, size, 64):
        place = builder.add(ahead, ir.Constant(_I64, line))
        prefetch(builder, builder.gep(codes, [place]))


def _emit(builder: Any, way: int, packed: bool, count: int, steps: Any, pointers: Any) -> None:
    """Emits the tile of the fine layer, or of the coarse, which is packed, for ``count`` queries.

    ``pointers`` are those that ``bound_tile`` puts together.
    """
    made = arithmetic(way)
    lanes = made.bits // 32
    floats = ir.VectorType(_FLOAT, lanes)
    groups, together = TILE // lanes, _groups_at_once(way, count)
    reached = [ir.Constant(_I64, 0) for _ in range(count)]
    for first in range(0, groups, together):
        chosen = range(first, first + together)
        totals = [
            [
                cgutils.alloca_once_value(builder, splat(builder, builder.load(start), lanes))
                for start in pointers["starts"]
            ]
            for _ in chosen
        ]
        add = _add_packed if packed else _add_step
        each = builder.udiv(steps, ir.Constant(_I64, GROUP)) if packed else steps
        with cgutils.for_range(builder, each) as loop:
            if count <= 4 and first == 0:
                _prefetch_ahead(builder, pointers["codes"], loop.index, packed)
            add(builder, made, pointers, loop.index, chosen, totals)
        for group, total in zip(chosen, totals, strict=True):
            place = ir.Constant(_I64, lanes * group)
            scale = _load(builder, floats, pointers["scales"], place)
            error = _load(builder, floats, pointers["errors"], place)
            for j in range(count):
                bounds = _add_bound(builder, floats, pointers, j, place, total[j], scale, error)
                cut = splat(builder, builder.load(pointers["cuts"][j]), lanes)
                # Unordered: what is no number is not known to be below.
                reaches = builder.fcmp_unordered(">=", bounds, cut)
                bits = builder.zext(builder.bitcast(reaches, ir.IntType(lanes)), _I64)
                reached[j] = builder.or_(reached[j], builder.shl(bits, place))
    for mask, bits in zip(pointers["masks"], reached, strict=True):
        builder.store(bits, mask)


def _add_bound(
    builder: Any,
    floats: Any,
    pointers: Any,
    j: int,
    place: Any,
    total: Any,
    scale: Any,
    error: Any,
) -> Any:
    """Adds one register of sums and errors to what was before, for ``out``."""
    lanes = floats.count
    fma = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(floats, [floats, floats, floats]),
        f"llvm.fma.v{lanes}f32",
    )
    before, out = (
        builder.bitcast(builder.gep(pointers[name][j], [place]), floats.as_pointer())
        for name in ("before", "out")
    )
    norm = splat(builder, builder.load(pointers["norms"][j]), lanes)
    factor = splat(builder, builder.load(pointers["query_scales"][j]), lanes)
    lost = builder.call(fma, [error, norm, builder.load(before, align=4)])
    sums = builder.sitofp(builder.load(total), floats)
    bounds = builder.call(fma, [sums, builder.fmul(scale, factor), lost])
    builder.store(bounds, out, align=4)
    return bounds


@intrinsic  # type: ignore[untyped-decorator]
def bound_tile(
    typingctx: Any,
    way: Any,
    width: Any,
    codes: Any,
    code: Any,
    steps: Any,
    scales: Any,
    errors: Any,
    line: Any,
    queries: Any,
    query: Any,
    step: Any,
    starts: Any,
    query_scales: Any,
    norms: Any,
    block: Any,
    before: Any,
    apart: Any,
    out: Any,
    cuts: Any,
    masks: Any,
    packed: Any,
) -> Any:
    """The bounds of one block of a tile's rows for ``width`` consecutive queries.

    An intrinsic, not a function, because a call of one counts references to all of these arrays,
    which takes longer than what there is to do.

    The arguments: which way, and how many queries (of ``WIDTHS``); the codes of all tiles, uint8
    [.], where this block of this tile begins, and its steps; the items' scales and errors, float32
    [.], and where this block of this tile begins; the queries' codes, int32 [B, .], the first query
    and the block's first step; their starts, int32, scales and norms, float32, all [B, blocks], and
    the block; the bounds before, float32 [., 64], and whether (1) query j has row j of it, or (0)
    all have row 0; the bounds, float32 [., 64]; what matters, float32 [.]; uint64 [.], which rows
    reach that; and whether (1) the codes are of the coarse layer, of which one query is taken at a
    time, or (0) of the fine one.
    """
    index = types.intp
    signature = types.void(
        index, index, codes, index, index, scales, errors, index, queries, index, index,
        starts, query_scales, norms, index, before, index, out, cuts, masks, index,
    )  # fmt: skip

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def at(array: int, offset: Any) -> Any:
            made = context.make_array(sig.args[array])(context, builder, args[array])
            return builder.gep(made.data, [offset])

        def element(array: int, row: Any, column: Any) -> Any:
            made = context.make_array(sig.args[array])(context, builder, args[array])
            across = cgutils.unpack_tuple(builder, made.shape, 2)[1]
            return builder.gep(made.data, [builder.add(builder.mul(row, across), column)])

        zero = ir.Constant(_I64, 0)
        for number, counts in WIDTHS.items():
            for count, packed in [*((count, False) for count in counts), (1, True)]:
                told = (args[0], number), (args[1], count), (args[20], int(packed))
                chosen = ir.Constant(ir.IntType(1), 1)
                for given, wanted in told:
                    equal = builder.icmp_signed("==", given, ir.Constant(_I64, wanted))
                    chosen = builder.and_(chosen, equal)
                with builder.if_then(chosen):
                    places = [ir.Constant(_I64, j) for j in range(count)]
                    rows = [builder.add(args[9], place) for place in places]
                    pointers = {
                        "codes": at(2, args[3]),
                        "scales": at(5, args[7]),
                        "errors": at(6, args[7]),
                        "queries": [element(8, row, args[10]) for row in rows],
                        "starts": [element(11, row, args[14]) for row in rows],
                        "query_scales": [element(12, row, args[14]) for row in rows],
                        "norms": [element(13, row, args[14]) for row in rows],
                        "before": [element(15, builder.mul(args[16], p), zero) for p in places],
                        "out": [element(17, place, zero) for place in places],
                        "cuts": [at(18, place) for place in places],
                        "masks": [at(19, place) for place in places],
                    }
                    _emit(builder, number, packed, count, args[4], pointers)
        return context.get_dummy_value()

    return signature, codegen
