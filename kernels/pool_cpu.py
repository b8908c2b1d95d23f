"""Ragged weighted pooling on the CPU, every sum in the order that ``pool.py`` states."""

import numba
import numpy as np

from rankstream.kernels.arrays import Float32, Float64, Int32, Int64
from rankstream.kernels.compilation import compiled, parallel
from rankstream.kernels.instructions import AHEAD, prefetch_row


@compiled
def _first_entry(indptr: Int64, part: int, parts: int) -> int:
    """Where a part begins, so that parts hold whole entries and about equally many elements."""
    batch: int = indptr.shape[0] - 1
    if part == parts:
        return batch
    target = indptr[batch] * part // parts
    low, high = 0, batch
    while low < high:
        middle = (low + high) // 2
        if indptr[middle] < target:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _add_rows(
    rows: Int32, weights: Float64, places: Int64, count: int, items: Float32, total: Float64
) -> None:
    """Adds the 1 to 4 weighted rows ``places[:count]`` to ``total``, one after the other."""
    if count < 4:
        for i in range(count):
            item, weight = items[rows[places[i]]], weights[places[i]]
            for d in range(total.shape[0]):
                total[d] += weight * np.float64(item[d])
        return
    a, b, c, e = places[0], places[1], places[2], places[3]
    item_a, item_b, item_c, item_e = items[rows[a]], items[rows[b]], items[rows[c]], items[rows[e]]
    weight_a, weight_b, weight_c, weight_e = weights[a], weights[b], weights[c], weights[e]
    for d in range(total.shape[0]):
        added = total[d] + weight_a * np.float64(item_a[d])
        added += weight_b * np.float64(item_b[d])
        added += weight_c * np.float64(item_c[d])
        total[d] = added + weight_e * np.float64(item_e[d])


@compiled
def text_at(row: int) -> int:
    """Which text a row below -1 is."""
    return -2 - row


@compiled
def _sum_rows(
    rows: Int32,
    weights: Float64,
    start: int,
    stop: int,
    items: Float32,
    texts: Float32,
    places: Int64,
    total: Float64,
) -> int:
    """Sums the weighted rows of items in order, then of texts; returns a bad place, or -1.

    Four rows at a time: their loads overlap, and ``total`` passes through the registers once.
    """
    total[:] = 0.0
    filled = 0
    for place in range(start, stop):
        ahead = place + AHEAD
        if ahead < stop and 0 <= rows[ahead] < items.shape[0]:
            prefetch_row(items, rows[ahead])
        if text_at(rows[place]) >= texts.shape[0] or rows[place] >= items.shape[0]:
            return place
        if rows[place] >= 0:
            places[filled] = place
            filled += 1
        if filled == 4:
            _add_rows(rows, weights, places, 4, items, total)
            filled = 0
    _add_rows(rows, weights, places, filled, items, total)
    if texts.shape[0] > 0:
        for place in range(start, stop):
            if rows[place] < -1:
                text, weight = texts[text_at(rows[place])], weights[place]
                for d in range(total.shape[0]):
                    total[d] += weight * np.float64(text[d])
    return -1


@compiled
def _norm(total: Float64, start: int, stop: int, lanes: Float64) -> float:
    """L2 norm of ``total[start:stop]``: squares in 8 lanes, combined as a score's are."""
    lanes[:] = 0.0
    for d in range(start, stop):
        lanes[(d - start) & 7] += total[d] * total[d]
    even = (lanes[0] + lanes[4]) + (lanes[2] + lanes[6])
    odd = (lanes[1] + lanes[5]) + (lanes[3] + lanes[7])
    return float(np.sqrt(even + odd))


@compiled
def _pool_part(
    part: int,
    parts: int,
    rows: Int32,
    indptr: Int64,
    weights: Float64,
    items: Float32,
    texts: Float32,
    offsets: Int64,
    block_weights: Float64,
    queries: Float32,
    norms: Float64,
) -> int:
    """Pools one part of the entries; returns a place whose row does not exist, or -1."""
    total = np.empty(offsets[-1])
    lanes = np.empty(8)
    places = np.empty(4, np.int64)
    for b in range(_first_entry(indptr, part, parts), _first_entry(indptr, part + 1, parts)):
        span = indptr[b], indptr[b + 1]
        bad = _sum_rows(rows, weights, *span, items, texts, places, total)
        if bad >= 0:
            return bad
        _scale(total, offsets, block_weights[b], lanes, queries[b], norms[b])
    return -1


@compiled
def _scale(
    total: Float64,
    offsets: Int64,
    block_weights: Float64,
    lanes: Float64,
    query: Float32,
    norms: Float64,
) -> None:
    """Makes one query of a weighted sum of rows: each block gets its weight as its length."""
    query[:] = 0.0
    for block in range(norms.shape[0]):
        start, stop = offsets[block], offsets[block + 1]
        norms[block] = _norm(total, start, stop, lanes)
        if norms[block] > 0.0:
            scale = block_weights[block] / norms[block]
            for d in range(start, stop):
                query[d] = np.float32(total[d] * scale)


@compiled
def pool_entry(
    rows: Int32,
    start: int,
    stop: int,
    weights: Float64,
    items: Float32,
    texts: Float32,
    offsets: Int64,
    block_weights: Float64,
    query: Float32,
    norms: Float64,
) -> int:
    """Pools the interactions ``start:stop`` into one query; returns a bad place, or -1."""
    total, lanes, places = np.empty(offsets[-1]), np.empty(8), np.empty(4, np.int64)
    bad = _sum_rows(rows, weights, start, stop, items, texts, places, total)
    if bad < 0:
        _scale(total, offsets, block_weights, lanes, query, norms)
    return bad


@compiled
def pool_serial(
    rows: Int32,
    indptr: Int64,
    weights: Float64,
    items: Float32,
    texts: Float32,
    offsets: Int64,
    block_weights: Float64,
    queries: Float32,
    norms: Float64,
    bad: Int64,
) -> None:
    """Fills ``queries [B, D]``, ``norms [B, n_blocks]``; ``bad [1]`` is a bad place, or -1."""
    bad[0] = _pool_part(
        0, 1, rows, indptr, weights, items, texts, offsets, block_weights, queries, norms
    )


@parallel
def pool_parallel(
    rows: Int32,
    indptr: Int64,
    weights: Float64,
    items: Float32,
    texts: Float32,
    offsets: Int64,
    block_weights: Float64,
    queries: Float32,
    norms: Float64,
    bad: Int64,
) -> None:
    """As ``pool_serial``, in as many parts as ``bad`` has."""
    parts = bad.shape[0]
    for i in numba.prange(parts):
        part = int(np.int64(i))
        bad[part] = _pool_part(
            part, parts, rows, indptr, weights, items, texts, offsets, block_weights, queries, norms
        )
