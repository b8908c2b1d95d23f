"""Filters: from the facts of rows to columns, from a column to the bitmask of the rows that pass.

A *fact* of a row is two words, (column, value), and the order of the values of a column, as
unsigned integers, is the order of what they stand for. So every test of a column is one: does a
value lie in one of some spans? A column is its facts alone, in the order of the rows: it weighs
what it holds, and grows at its end as rows are appended.
"""

from typing import Final

import numba
import numpy as np

from rankstream.kernels.arrays import (
    Int32,
    Int64,
    UInt8,
    UInt64,
    checked,
    frozen,
)
from rankstream.kernels.compilation import compiled, parallel
from rankstream.kernels.device import split
from rankstream.kernels.errors import refuse

_BLOCK: Final = 512
_GATHER: Final = np.uint64(0x0102040810204080)
"""Times eight bytes of 0 or 1, the first the lowest: their bits, in this order, in the highest."""

_SPANS_WORK: Final = 4
"""A fact costs one of the multiply-adds that ``split`` counts; so many spans cost one more."""


@compiled
def _count_facts(columns: UInt64, column: np.uint64) -> int:
    """How many facts are of a column: a loop that compiles to vectors."""
    count = 0
    for i in range(columns.shape[0]):
        count += columns[i] == column
    return count


@compiled
def _copy_facts(
    ends: Int64, facts: UInt64, first: int, column: np.uint64, rows: Int32, values: UInt64
) -> None:
    """Fills ``rows`` and ``values`` with the facts of a column, from row ``first`` on."""
    at, row, i = 0, first, ends[first - 1] if first else 0
    while at < rows.shape[0]:
        while ends[row] <= i:
            row += 1
        if facts[i, 0] == column:
            rows[at], values[at] = row, facts[i, 1]
            at += 1
        i += 1


@compiled
def _test(values: UInt64, lows: UInt64, widths: UInt64, hits: UInt8) -> None:
    """Whether each value lies in a span: loops that compile to vectors, without a branch."""
    hits[:] = 0
    for span in range(lows.shape[0]):
        low, width = lows[span], widths[span]
        for i in range(values.shape[0]):
            # Unsigned: what is below wraps around, to above the width.
            hits[i] |= np.uint8(values[i] - low <= width)


@compiled
def _is_run(rows: Int32) -> bool:
    """Whether these are one row after the other, from the first bit of a byte on."""
    first, others = rows[0], 0
    for i in range(rows.shape[0]):
        others |= rows[i] - first - i
    return bool(first & 7 == 0 and others == 0)


@compiled
def _pack(eights: UInt64, rows: Int32, mask: UInt8) -> None:
    """Sets the bits of a run: eight hits are one byte. Touches no byte that another part may."""
    first = rows[0] >> 3
    for i in range((rows.shape[0] + 7) // 8):
        mask[first + i] |= np.uint8((eights[i] * _GATHER) >> np.uint64(56))


@compiled
def _scatter(hits: UInt8, eights: UInt64, rows: Int32, mask: UInt8) -> None:
    """Sets the bits of any rows."""
    for eight in range((rows.shape[0] + 7) // 8):
        if eights[eight]:
            for i in range(8 * eight, min(8 * eight + 8, rows.shape[0])):
                mask[rows[i] >> 3] |= hits[i] << np.uint8(rows[i] & 7)


@compiled
def _first_of(rows: Int32, part: int, parts: int) -> int:
    """Where a part begins: at the first fact of a byte of the mask, so that no two share one."""
    at = rows.shape[0] * part // parts
    while 0 < at < rows.shape[0] and rows[at] >> 3 == rows[at - 1] >> 3:
        at += 1
    return int(at)


@compiled
def _mark_part(
    part: int, parts: int, rows: Int32, values: UInt64, lows: UInt64, widths: UInt64, mask: UInt8
) -> None:
    """Sets the bits of one part of the facts."""
    hits = np.empty(_BLOCK, np.uint8)
    eights = hits.view(np.uint64)
    stop = _first_of(rows, part + 1, parts)
    for at in range(_first_of(rows, part, parts), stop, _BLOCK):
        some = rows[at : min(at + _BLOCK, stop)]
        _test(values[at : at + some.shape[0]], lows, widths, hits)
        if _is_run(some):
            _pack(eights, some, mask)
        else:
            _scatter(hits, eights, some, mask)


@compiled
def _mark_serial(rows: Int32, values: UInt64, lows: UInt64, widths: UInt64, mask: UInt8) -> None:
    """Sets the bit of every row that has a value in a span."""
    _mark_part(0, 1, rows, values, lows, widths, mask)


@parallel
def _mark_parallel(
    parts: int, rows: Int32, values: UInt64, lows: UInt64, widths: UInt64, mask: UInt8
) -> None:
    """As ``_mark_serial``, in parts."""
    for part in numba.prange(parts):
        _mark_part(int(np.int64(part)), parts, rows, values, lows, widths, mask)


def read_column(
    ends: Int64, facts: UInt64, first: int, stop: int, column: int
) -> tuple[Int32, UInt64]:
    """The facts of one column.

    Args:
        ends: ``[N]`` int64, rising: row r has ``facts[ends[r - 1] : ends[r]]``, row 0 from 0 on.
        facts: ``[T, 2]`` uint64: column and value.
        first: the first row to read.
        stop: the row behind the last.
        column: which, below 2**64.

    Returns:
        ``(rows int32 [n], values uint64 [n])``, in the order of the rows.

    Raises:
        KernelArgumentError: an argument is not as described.
    """
    ends = checked("ends", ends, np.int64, None)
    facts = checked("facts", facts, np.uint64, None, 2)
    if not 0 <= first <= stop <= ends.size:
        refuse("rows", f"are {first}:{stop}", f"inside 0:{ends.size}")
    begin = int(ends[first - 1]) if first else 0
    end = int(ends[stop - 1]) if stop else 0
    if not 0 <= begin <= end <= len(facts):
        refuse("ends", f"go from {begin} to {end}", f"rising ends inside 0:{len(facts)}")
    count = _count_facts(facts[begin:end, 0], np.uint64(column))
    rows, values = np.empty(count, np.int32), np.empty(count, np.uint64)
    _copy_facts(ends, facts, first, np.uint64(column), rows, values)
    return rows, values


def mark_rows(rows: Int32, values: UInt64, lows: UInt64, highs: UInt64, count: int) -> UInt8:
    """Which rows have a value in one of the spans.

    Args:
        rows: ``[n]`` int32, not falling, from 0 to ``count``: as ``read_column`` returns.
        values: ``[n]`` uint64.
        lows: ``[S]`` uint64.
        highs: ``[S]`` uint64, included; a span whose high is below its low holds nothing.
        count: N, the rows of the mask.

    Returns:
        ``[ceil(N / 8)]`` uint8, as ``pack_allowed`` packs.

    Raises:
        KernelArgumentError: an argument is not as described.
    """
    rows = checked("rows", rows, np.int32, None)
    values = checked("values", values, np.uint64, rows.size)
    lows = checked("lows", lows, np.uint64, None)
    highs = checked("highs", highs, np.uint64, lows.size)
    if rows.size and not 0 <= rows[0] <= rows[-1] < count:
        refuse("rows", f"go from {rows[0]} to {rows[-1]}", f"rows inside 0:{count}")
    some = lows <= highs
    lows, widths = frozen(lows[some]), frozen((highs - lows)[some])
    mask = np.zeros((count + 7) // 8, np.uint8)
    parts = split(rows.size * (1 + lows.size // _SPANS_WORK))
    if parts == 1:
        _mark_serial(rows, values, lows, widths, mask)
    else:
        _mark_parallel(parts, rows, values, lows, widths, mask)
    return mask
