"""Codes of a catalogue, in eight bits and in six: what the scan reads instead of the rows.

**Codes.** Each block of a row x has a scale s = max|x| / 126.5, and the codes c = round(x / s), of
which ``vpdpbusd`` takes c + 126. Beside them lie s and an upper bound e of the length of what was
lost, ``|x - s c|``. A query q is coded alike, block by block: codes d, scale t, and f, the length
of ``q - t d``. The coarse layer has codes of its own, the upper six bits of these
(``code_layers.py``), with the scale 4 s and a larger e; all that follows is true of both.

**Bound.** With ``q = t d + g`` and ``x = s c + h``, where |g| <= f and |h| <= e::

    q.x = q.h + g.(s c) + (t s)(d.c),  so  |q.x - t s (d.c)| <= |q| e + f |s c|

by Cauchy and Schwarz, summed over the blocks. ``d.c`` is an integer and exact. The scan works with
the upper bound of this, in fp32, and asks of a row whether it reaches the k-th greatest lower bound
so far; a row that does not is not among the best k. So the rows that are left hold the answer,
whatever the data are; where they are too many, the rows themselves are scanned (``scan_cpu.py``).

**Rounding.** Every operation in fp32 errs by at most 2^-24 of what it makes. With M = ``sum |q| n +
|bias|``, n being an upper bound of ``|s c| + e`` over the rows of a tile, the additions on the way
to a bound make sums of about M at most, and the products each a block's share of it, so that all
err by less than ``(8 blocks + 16) 2^-24`` of M. ``f`` is enlarged by ``(blocks + 4) 2^-21`` of |q|,
and as much of the bias counts as error. Scores are rounded to fp32 once more before ties are
broken, so a row is let in that stays below a threshold by 2^-20 of it. Where M is not below 2^100,
sums might overflow on their way, and nothing is concluded from them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from rankstream.kernels.arrays import (
    Float32,
    Int64,
    UInt8,
    checked,
    checked_block_offsets,
    checked_items,
    freeze,
    frozen,
)
from rankstream.kernels.code_layers import COARSE_STEP, GROUP, STEP, TILE, Layer
from rankstream.kernels.codes_cpu import code_rows_parallel, code_rows_serial
from rankstream.kernels.device import split
from rankstream.kernels.errors import refuse

MAX_DIMENSIONS: Final = 65_536
"""Beyond it sums might not fit an int32."""


class Codes(NamedTuple):
    """The codes of a matrix's first ``row_count`` rows.

    Attributes:
        fine: in eight bits.
        coarse: in six, for whom memory is slower than arithmetic.
        offsets: int64[n_blocks + 1], the blocks' dimensions.
        steps: int64[n_blocks + 1], where their steps begin.
        row_count: rows.
    """

    fine: Layer
    coarse: Layer
    offsets: Int64
    steps: Int64
    row_count: int

    @property
    def arrays(self) -> tuple[UInt8 | Float32, ...]:
        """Those of both layers."""
        return *self.fine, *self.coarse


def steps_of(offsets: Int64) -> Int64:
    """``int64 [n_blocks + 1]``: where each block's steps of four dimensions begin: whole groups."""
    steps = np.zeros(len(offsets), np.int64)
    np.cumsum(-(-np.diff(offsets) // (4 * GROUP)) * GROUP, out=steps[1:])
    return frozen(steps)


def empty_codes(capacity: int, offsets: Int64) -> Codes:
    """Room for the codes of so many rows, all zero; writable, for ``write_codes``."""
    tiles = -(-capacity // TILE)
    fine, coarse = (
        Layer(*(np.zeros(tiles * a_tile // kind().itemsize, kind) for a_tile, kind in of_layer))
        for of_layer in tile_bytes(offsets)
    )
    return Codes(fine, coarse, offsets, steps_of(offsets), capacity)


def tile_bytes(offsets: Int64) -> list[list[tuple[int, type[np.generic]]]]:
    """Bytes that each array has of a tile, and its dtype: of the fine layer, then the coarse."""
    blocks, steps = len(offsets) - 1, int(steps_of(offsets)[-1])
    a_row = 4 * TILE * blocks
    return [
        [
            (step * steps, np.uint8), (a_row, np.float32), (a_row, np.float32),
            (4 * blocks, np.float32),
        ]
        for step in (STEP, COARSE_STEP)
    ]  # fmt: skip


def code_items(items: Float32, offsets: Int64 | None = None) -> Codes:
    """The codes of a matrix: less than half of its size, unless its rows are narrow.

    Args:
        items: ``[N, D]`` float32, C-contiguous, finite.
        offsets: ``[n_blocks + 1]`` int64: blocks have scales of their own, so that a small block is
            not lost beside a large one; None: one block.

    Raises:
        KernelArgumentError: an argument is not as described.
    """
    items = checked_items(items)
    if items.shape[1] > MAX_DIMENSIONS:
        refuse("items", f"has {items.shape[1]} dimensions", f"at most {MAX_DIMENSIONS}")
    if offsets is None:
        offsets = np.array([0, items.shape[1]], np.int64)
    offsets = checked_block_offsets(offsets, items.shape[1])
    made = empty_codes(items.shape[0], offsets)
    row = write_codes(made, items, 0)
    if row >= 0:
        refuse("items", f"has a value that is not finite in row {row}", "finite numbers")
    freeze(made.arrays)
    return made


def write_codes(codes: Codes, items: Float32, first: int) -> int:
    """Codes rows into the places from ``first`` on; what is before them does not change.

    But for the tile's ``tops``, which only grow: whoever reads the earlier rows meanwhile finds a
    bound that is still one.

    Args:
        codes: with room for them, writable.
        items: ``[n, D]`` float32, C-contiguous, the rows.
        first: where the first of them goes.

    Returns:
        Which of them has a value that is not finite, and codes that mean nothing, or -1.
    """
    items = checked("items", items, np.float32, None, None)
    if first < 0 or first + len(items) > codes.row_count or items.shape[1] < codes.offsets[-1]:
        problem = f"has shape {items.shape}, to be put at {first}"
        wanted = f"rows of {codes.offsets[-1]} dimensions, room is for {codes.row_count} rows"
        refuse("items", problem, wanted)
    tiles = -(-(first + items.shape[0]) // TILE) - first // TILE
    bad = np.full(max(1, min(split(4 * items.size), tiles)), -1, np.int64)
    code_rows = code_rows_serial if bad.size == 1 else code_rows_parallel
    code_rows(items, first, codes.offsets, codes.steps, codes.fine, codes.coarse, bad)
    return int(min((row for row in bad if row >= 0), default=-1))
