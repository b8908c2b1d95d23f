"""Exact contributions of interactions to scores, and of blocks, on the CPU."""

import numba
import numpy as np

from rankstream.kernels.arrays import Float32, Float64, Int32, Int64
from rankstream.kernels.compilation import compiled, inlined, parallel
from rankstream.kernels.lanes import TILE_QUERIES, TILE_ROWS, tile_4x1, tile_4x2, tile_4x4
from rankstream.kernels.pool_cpu import text_at
from rankstream.kernels.rank_cpu import owner_of

_PAIRS = 4 * TILE_QUERIES
"""Items of a query that are explained together: their rows fit the nearest cache."""


@inlined
def _insert(
    value: float, interaction: int, count: int, interactions: Int32, values: Float64
) -> int:
    """Inserts into the ``count`` best, descending; where they are all, the last one goes."""
    length = values.shape[0]
    at = count = min(count, length - 1)
    while at > 0 and values[at - 1] < value:
        values[at], interactions[at] = values[at - 1], interactions[at - 1]
        at -= 1
    values[at], interactions[at] = value, interaction
    return count + 1


@inlined
def _contribute(
    pairs: Float32,
    first: int,
    asked: int,
    chosen: Int64,
    weights: Float64,
    scales: Float64,
    items: Float32,
    offsets: Int64,
    places: Int64,
    count: int,
    tile: tuple[Float64, Float64, Float64],
) -> None:
    """Contributions of 1 to 4 interactions, ``places[:count]``, to 1 to 4 items.

    The items' rows are ``pairs[first:first + asked]``, four at least; the interactions' are
    ``items[chosen[:count]]``. Of ``tile``, (factors, sums, values), ``values[j, i]`` becomes what
    interaction i adds to item ``first + j``; 0 where there is no such i.
    """
    factors, sums, values = tile
    last = count - 1
    a, b = chosen[0], chosen[min(1, last)]
    c, d = chosen[min(2, last)], chosen[last]
    values[:] = 0.0
    for block in range(scales.shape[0]):
        begin, end = offsets[block], offsets[block + 1]
        if asked > 2:
            tile_4x4(pairs, first, items, a, b, c, d, begin, end, sums, 0)
        else:
            tile_4x2(pairs, first, items, a, b, c, d, begin, end, sums, 0)
        for i in range(count):
            factors[i] = weights[places[i]] * scales[block]
        for i in range(count, TILE_ROWS):
            factors[i] = 0.0
        for j in range(TILE_QUERIES if asked > 2 else 2):
            for i in range(TILE_ROWS):
                values[j, i] += factors[i] * sums[j, i]


@compiled
def _explain_pairs(
    pair_rows: Int32,
    rows: Int32,
    start: int,
    stop: int,
    weights: Float64,
    scales: Float64,
    items: Float32,
    texts: Float32,
    offsets: Int64,
    interactions: Int32,
    best: Float64,
) -> None:
    """The interactions ``start:stop`` that add most to each of some items' scores."""
    count = pair_rows.shape[0]
    tiles = (count + TILE_QUERIES - 1) // TILE_QUERIES
    pairs = np.zeros((TILE_QUERIES * tiles, items.shape[1]), np.float32)
    for j in range(count):
        if pair_rows[j] >= 0:
            pairs[j] = items[pair_rows[j]]
    kept = np.zeros(count, np.int64)
    span, found = (start, stop), (kept, interactions, best)
    _explain_by(pairs, rows, span, weights, scales, items, False, offsets, found)
    if texts.shape[0] > 0:
        _explain_by(pairs, rows, span, weights, scales, texts, True, offsets, found)


@compiled
def _explain_by(
    pairs: Float32,
    rows: Int32,
    span: tuple[int, int],
    weights: Float64,
    scales: Float64,
    vectors: Float32,
    are_texts: bool,
    offsets: Int64,
    found: tuple[Int64, Int32, Float64],
) -> None:
    """As ``_explain_pairs``, for the interactions with items or those with texts.

    ``found`` is, for each item, how many interactions are kept, which, and what they add.
    """
    start, stop = span
    kept, interactions, best = found
    count = kept.shape[0]
    places, chosen = np.empty(TILE_ROWS, np.int64), np.empty(TILE_ROWS, np.int64)
    factors, values = np.empty(TILE_ROWS), np.empty((TILE_QUERIES, TILE_ROWS))
    tile = factors, np.empty((TILE_QUERIES, TILE_ROWS)), values
    # What an interaction must add to be among the best of an item.
    least = np.full(count, -np.inf)
    for j in range(count):
        if kept[j] == best.shape[1]:
            least[j] = best[j, -1]
    filled = 0
    for place in range(start, stop + 1):
        if place < stop and (rows[place] < -1 if are_texts else rows[place] >= 0):
            places[filled] = place
            chosen[filled] = text_at(rows[place]) if are_texts else rows[place]
            filled += 1
        if filled == 0 or (filled < TILE_ROWS and place < stop):
            continue
        # These interactions' rows stay in the nearest cache while all items pass by.
        for first in range(0, count, TILE_QUERIES):
            rest = offsets, places, filled, tile
            asked = min(TILE_QUERIES, count - first)
            _contribute(pairs, first, asked, chosen, weights, scales, vectors, *rest)
            for j in range(first, first + asked):
                for i in range(filled):
                    value = values[j - first, i]
                    if value > least[j]:
                        which = places[i] - start
                        kept[j] = _insert(value, which, kept[j], interactions[j], best[j])
                        if kept[j] == best.shape[1]:
                            least[j] = best[j, -1]
        filled = 0


@compiled
def _explain_part(
    part: int,
    parts: int,
    rows: Int32,
    indptr: Int64,
    weights: Float64,
    block_weights: Float64,
    norms: Float64,
    items: Float32,
    texts: Float32,
    offsets: Int64,
    pair_rows: Int32,
    pair_indptr: Int64,
    interactions: Int32,
    best: Float64,
) -> None:
    """Explains one part of the pairs, some of one query at a time."""
    pair, stop = pair_rows.size * part // parts, pair_rows.size * (part + 1) // parts
    while pair < stop:
        b = owner_of(pair_indptr, pair)
        end = min(stop, pair_indptr[b + 1])
        explain_entry(
            pair_rows[pair:end],
            rows,
            indptr[b],
            indptr[b + 1],
            weights,
            block_weights[b],
            norms[b],
            items,
            texts,
            offsets,
            interactions[pair:end],
            best[pair:end],
        )
        pair = end


@compiled
def explain_entry(
    pair_rows: Int32,
    rows: Int32,
    start: int,
    stop: int,
    weights: Float64,
    block_weights: Float64,
    norms: Float64,
    items: Float32,
    texts: Float32,
    offsets: Int64,
    interactions: Int32,
    best: Float64,
) -> None:
    """Explains items of one query; fills ``interactions`` and ``best``, both ``[P, n_reasons]``."""
    interactions[:] = -1
    best[:] = 0.0
    scales = np.zeros(norms.shape[0])
    for block in range(scales.shape[0]):
        if norms[block] > 0.0:
            scales[block] = block_weights[block] / norms[block]
    for pair in range(0, pair_rows.shape[0], _PAIRS):
        end = min(pair + _PAIRS, pair_rows.shape[0])
        _explain_pairs(
            pair_rows[pair:end],
            rows,
            start,
            stop,
            weights,
            scales,
            items,
            texts,
            offsets,
            interactions[pair:end],
            best[pair:end],
        )
        for place in range(pair, end):
            if pair_rows[place] < 0:
                interactions[place] = -1
                best[place] = 0.0


@compiled
def explain_serial(
    rows: Int32,
    indptr: Int64,
    weights: Float64,
    block_weights: Float64,
    norms: Float64,
    items: Float32,
    texts: Float32,
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
        block_weights,
        norms,
        items,
        texts,
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
    block_weights: Float64,
    norms: Float64,
    items: Float32,
    texts: Float32,
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
            block_weights,
            norms,
            items,
            texts,
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
    sums[:] = 0.0
    if items.shape[0] == 0:
        return
    for b in range(indptr.shape[0] - 1):
        sum_entry(queries, b, items, rows, indptr[b], indptr[b + 1], offsets, sums)


@compiled
def sum_entry(
    queries: Float32,
    b: int,
    items: Float32,
    rows: Int32,
    first: int,
    end: int,
    offsets: Int64,
    sums: Float64,
) -> None:
    """Fills ``sums[first:end]`` for the rows of one query that are not -1."""
    tile = np.empty((1, TILE_ROWS))
    for pair in range(first, end, TILE_ROWS):
        last = min(pair + TILE_ROWS, end) - 1
        r0, r1 = max(rows[pair], 0), max(rows[min(pair + 1, last)], 0)
        r2, r3 = max(rows[min(pair + 2, last)], 0), max(rows[last], 0)
        for block in range(sums.shape[1]):
            start, stop = offsets[block], offsets[block + 1]
            tile_4x1(queries, b, items, r0, r1, r2, r3, start, stop, tile, 0)
            for i in range(last - pair + 1):
                # The last row stands in the last place, also of a tile that is not full.
                if rows[pair + i] >= 0:
                    place = TILE_ROWS - 1 if pair + i == last else i
                    sums[pair + i, block] = tile[0, place]
