"""Exact contributions of interactions to scores, and of blocks, on the CPU."""

import numba
import numpy as np

from rankstream.kernels.arrays import Float32, Float64, Int32, Int64
from rankstream.kernels.compilation import compiled, parallel
from rankstream.kernels.lanes import tile_4x1
from rankstream.kernels.rank_cpu import owner_of


@compiled
def _insert(
    value: float, interaction: int, count: int, interactions: Int32, values: Float64
) -> int:
    """Inserts into the ``count`` best, descending, bounded by length; returns the count."""
    length = values.shape[0]
    if count == length:
        if not value > values[length - 1]:
            return count
        count -= 1
    at = count
    while at > 0 and values[at - 1] < value:
        values[at], interactions[at] = values[at - 1], interactions[at - 1]
        at -= 1
    values[at], interactions[at] = value, interaction
    return count + 1


@compiled
def _contribute(
    row: int,
    rows: Int32,
    weights: Float64,
    scales: Float64,
    items: Float32,
    offsets: Int64,
    places: Int64,
    count: int,
    sums: Float64,
    values: Float64,
) -> None:
    """Contributions of the 1 to 4 interactions ``places[:count]`` to ``row``, into ``values``."""
    last = count - 1
    a, b = rows[places[0]], rows[places[min(1, last)]]
    c, d = rows[places[min(2, last)]], rows[places[last]]
    values[:] = 0.0
    for block in range(scales.shape[0]):
        tile_4x1(items, row, items, a, b, c, d, offsets[block], offsets[block + 1], sums, 0)
        for i in range(count):
            values[i] += weights[places[i]] * scales[block] * sums[0, i]


@compiled
def _explain_pair(
    row: int,
    rows: Int32,
    start: int,
    stop: int,
    weights: Float64,
    scales: Float64,
    items: Float32,
    offsets: Int64,
    interactions: Int32,
    best: Float64,
) -> None:
    """The interactions ``start:stop`` that add most to ``row``'s score."""
    places = np.empty(4, np.int64)
    sums = np.empty((1, 4))
    values = np.empty(4)
    kept, filled = 0, 0
    for place in range(start, stop + 1):
        if place < stop and rows[place] >= 0:
            places[filled] = place
            filled += 1
        if filled == 4 or (place == stop and filled > 0):
            _contribute(row, rows, weights, scales, items, offsets, places, filled, sums, values)
            for i in range(filled):
                kept = _insert(values[i], places[i] - start, kept, interactions, best)
            filled = 0


@compiled
def _explain_part(
    part: int,
    parts: int,
    rows: Int32,
    indptr: Int64,
    weights: Float64,
    scales: Float64,
    items: Float32,
    offsets: Int64,
    pair_rows: Int32,
    pair_indptr: Int64,
    interactions: Int32,
    best: Float64,
) -> None:
    """Explains one part of the pairs."""
    for pair in range(pair_rows.size * part // parts, pair_rows.size * (part + 1) // parts):
        interactions[pair] = -1
        best[pair] = 0.0
        b = owner_of(pair_indptr, pair)
        if pair_rows[pair] >= 0:
            _explain_pair(
                pair_rows[pair],
                rows,
                indptr[b],
                indptr[b + 1],
                weights,
                scales[b],
                items,
                offsets,
                interactions[pair],
                best[pair],
            )


@compiled
def explain_serial(
    rows: Int32,
    indptr: Int64,
    weights: Float64,
    scales: Float64,
    items: Float32,
    offsets: Int64,
    pair_rows: Int32,
    pair_indptr: Int64,
    interactions: Int32,
    best: Float64,
) -> None:
    """Fills ``interactions`` and ``best``, both ``[P, n_reasons]``."""
    _explain_part(
        0,
        1,
        rows,
        indptr,
        weights,
        scales,
        items,
        offsets,
        pair_rows,
        pair_indptr,
        interactions,
        best,
    )


@parallel
def explain_parallel(
    parts: int,
    rows: Int32,
    indptr: Int64,
    weights: Float64,
    scales: Float64,
    items: Float32,
    offsets: Int64,
    pair_rows: Int32,
    pair_indptr: Int64,
    interactions: Int32,
    best: Float64,
) -> None:
    """As ``explain_serial``, in ``parts`` parts."""
    for i in numba.prange(parts):
        _explain_part(
            int(np.int64(i)),
            parts,
            rows,
            indptr,
            weights,
            scales,
            items,
            offsets,
            pair_rows,
            pair_indptr,
            interactions,
            best,
        )


@compiled
def sum_blocks(
    queries: Float32, items: Float32, indptr: Int64, rows: Int32, offsets: Int64, sums: Float64
) -> None:
    """Fills ``sums [P, n_blocks]`` with the inner product of each pair over each block."""
    tile = np.empty((1, 4))
    sums[:] = 0.0
    for b in range(indptr.shape[0] - 1):
        for pair in range(indptr[b], indptr[b + 1]):
            row = rows[pair]
            if row < 0:
                continue
            for block in range(sums.shape[1]):
                start, stop = offsets[block], offsets[block + 1]
                tile_4x1(queries, b, items, row, row, row, row, start, stop, tile, 0)
                sums[pair, block] = tile[0, 0]
