"""Ragged candidate scores and their order on the CPU: the candidates of a whole batch in one call.

The candidates are cut into equal parts wherever the queries end, so one long request and many short
ones use the threads alike. A candidate is -1 for an unknown item, else a row.
"""

import numba
import numpy as np

from rankstream.kernels.arrays import Float32, Float64, Int32, Int64, UInt64
from rankstream.kernels.compilation import compiled, parallel
from rankstream.kernels.heap import keep, key_of, row_of, score_of, sort_best_first
from rankstream.kernels.instructions import AHEAD, prefetch_row
from rankstream.kernels.lanes import rounded_score, tile_4x1

_SORT_FROM = 4
"""Sorting all is faster than a heap where at least one in so many is wanted."""


@compiled
def owner_of(indptr: Int64, position: int) -> int:
    """The entry b with ``indptr[b] <= position < indptr[b + 1]``."""
    low, high = 0, indptr.shape[0] - 1
    while low < high:
        middle = (low + high) // 2
        if indptr[middle + 1] <= position:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _score_tile(
    queries: Float32,
    query: int,
    items: Float32,
    rows: Int32,
    bias: Float32,
    places: Int64,
    count: int,
    sums: Float64,
    scores: Float32,
) -> int:
    """Scores ``rows[places[:count]]``, 1 to 4 of them; returns a place with a bad bias, or -1."""
    last = count - 1
    a, b = rows[places[0]], rows[places[min(1, last)]]
    c, d = rows[places[min(2, last)]], rows[places[last]]
    tile_4x1(queries, query, items, a, b, c, d, 0, queries.shape[1], sums, 0)
    for i in range(count):
        place = int(places[i])
        added = bias[rows[place]] if bias.size else np.float32(0.0)
        if not np.isfinite(added):
            return place
        scores[place] = rounded_score(sums[0, i], added)
    return -1


@compiled
def score_span(
    queries: Float32,
    query: int,
    items: Float32,
    rows: Int32,
    bias: Float32,
    start: int,
    stop: int,
    scores: Float32,
) -> int:
    """Scores one query's candidates; returns a place that cannot be scored, or -1."""
    places = np.empty(4, np.int64)
    sums = np.empty((1, 4))
    filled = 0
    for place in range(start, stop):
        ahead = place + AHEAD
        if ahead < stop and 0 <= rows[ahead] < items.shape[0]:
            prefetch_row(items, rows[ahead])
        if rows[place] < -1 or rows[place] >= items.shape[0]:
            return place
        if rows[place] == -1:
            scores[place] = -np.inf
            continue
        places[filled] = place
        filled += 1
        if filled == 4:
            bad = _score_tile(queries, query, items, rows, bias, places, filled, sums, scores)
            if bad >= 0:
                return bad
            filled = 0
    if filled == 0:
        return -1
    return _score_tile(queries, query, items, rows, bias, places, filled, sums, scores)


@compiled
def _score_part(
    part: int,
    parts: int,
    queries: Float32,
    items: Float32,
    indptr: Int64,
    rows: Int32,
    bias: Float32,
    scores: Float32,
) -> int:
    """Scores one part of the candidates; returns a place that cannot be scored, or -1."""
    start, stop = rows.size * part // parts, rows.size * (part + 1) // parts
    while start < stop:
        query = owner_of(indptr, start)
        end = min(indptr[query + 1], stop)
        bad = score_span(queries, query, items, rows, bias, start, end, scores)
        if bad >= 0:
            return bad
        start = end
    return -1


@compiled
def score_serial(
    queries: Float32,
    items: Float32,
    indptr: Int64,
    rows: Int32,
    bias: Float32,
    scores: Float32,
    bad: Int64,
) -> None:
    """Fills ``scores [C]``; ``bad [1]`` becomes a place that cannot be scored, or -1."""
    bad[0] = _score_part(0, 1, queries, items, indptr, rows, bias, scores)


@parallel
def score_parallel(
    queries: Float32,
    items: Float32,
    indptr: Int64,
    rows: Int32,
    bias: Float32,
    scores: Float32,
    bad: Int64,
) -> None:
    """As ``score_serial``, in as many parts as ``bad`` has."""
    parts = bad.shape[0]
    for i in numba.prange(parts):
        part = int(np.int64(i))
        bad[part] = _score_part(part, parts, queries, items, indptr, rows, bias, scores)


@compiled
def _place(heap: UInt64, size: int, key: np.uint64, position: int, positions: Int32) -> None:
    """Notes ``position`` at the first free slot of ``key`` in the descending ``heap[:size]``."""
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        if heap[middle] > key:
            low = middle + 1
        else:
            high = middle
    while low < size and heap[low] == key and positions[low] >= 0:
        low += 1
    if low < size and heap[low] == key:
        positions[low] = position


@compiled
def select(
    indptr: Int64, rows: Int32, scores: Float32, positions: Int32, best: Float32, counts: Int32
) -> None:
    """Orders known candidates: fills ``positions``, ``best [B, K]`` and ``counts [B]``."""
    heap = np.empty(positions.shape[1], np.uint64)
    for b in range(counts.shape[0]):
        size = 0
        for place in range(indptr[b], indptr[b + 1]):
            if rows[place] >= 0:
                size = keep(heap, size, key_of(scores[place], rows[place]))
        sort_best_first(heap, size)
        positions[b] = -1
        for place in range(indptr[b], indptr[b + 1]):
            if rows[place] >= 0:
                key = key_of(scores[place], rows[place])
                _place(heap, size, key, place - indptr[b], positions[b])
        for i in range(heap.shape[0]):
            best[b, i] = score_of(heap[i]) if i < size else -np.inf
        counts[b] = size


@compiled
def pick(indptr: Int64, rows: Int32, scores: Float32, ks: Int64) -> tuple[Int64, Int32, Float32]:
    """The best ``ks[b]`` known candidates of each query b, ragged: ``(indptr, rows, scores)``."""
    ends = np.zeros(indptr.shape[0], np.int64)
    for b in range(ks.shape[0]):
        ends[b + 1] = ends[b] + min(ks[b], indptr[b + 1] - indptr[b])
    found, best = np.empty(ends[-1], np.int32), np.empty(ends[-1], np.float32)
    at = 0
    for b in range(ks.shape[0]):
        keys = best_keys(rows, scores, indptr[b], indptr[b + 1], ends[b + 1] - ends[b])
        ends[b] = at
        for i in range(keys.shape[0]):
            found[at], best[at] = row_of(keys[i]), score_of(keys[i])
            at += 1
    ends[-1] = at
    return ends, found[:at], best[:at]


@compiled
def best_keys(rows: Int32, scores: Float32, start: int, stop: int, k: int) -> UInt64:
    """Keys of the best ``k`` candidates of ``start:stop`` that are known, descending."""
    if _SORT_FROM * k >= stop - start:
        keys, size = np.empty(stop - start, np.uint64), 0
        for place in range(start, stop):
            if rows[place] >= 0:
                keys[size] = key_of(scores[place], rows[place])
                size += 1
        ordered, best = np.sort(keys[:size]), np.empty(min(k, size), np.uint64)
        for i in range(best.shape[0]):
            best[i] = ordered[size - 1 - i]
        return best
    heap, size = np.empty(k, np.uint64), 0
    if k == 0:
        return heap
    for place in range(start, stop):
        if rows[place] >= 0:
            size = keep(heap, size, key_of(scores[place], rows[place]))
    sort_best_first(heap, size)
    return heap[:size]
