"""Scoring what the scan by codes shortlisted, by the definition in ``lanes.py``.

A query's shortlists of all threads are joined. First the k best by their lower bounds are scored,
then the others that still reach the worst of those. So the result is the one of the plain scan to
the last bit, for any split and any way of multiplying.
"""

import numpy as np

from rankstream.kernels.arrays import Float32, Float64, Int32, UInt64
from rankstream.kernels.compilation import compiled
from rankstream.kernels.heap import keep, key_of, row_of, score_of, sort_best_first
from rankstream.kernels.instructions import prefetch_row
from rankstream.kernels.lanes import rounded_score, tile_4x1
from rankstream.kernels.shortlist import Shortlists, below, narrow
from rankstream.kernels.terms import Terms
from rankstream.kernels.top_k_cpu import is_excluded


@compiled
def rescore(
    b: int,
    queries: Float32,
    items: Float32,
    count: int,
    terms: Terms,
    found: Shortlists,
    rows: Int32,
    scores: Float32,
    counts: Int32,
) -> None:
    """Writes one query's result; a count of -1: it is widened."""
    heap = np.empty(rows.shape[1], np.uint64)
    size = _settle(b, queries, items, count, terms, found, heap)
    counts[b] = size
    for i in range(rows.shape[1]):
        rows[b, i] = row_of(heap[i]) if i < size else -1
        scores[b, i] = score_of(heap[i]) if i < size else -np.inf


@compiled
def _score_listed(
    query: int,
    queries: Float32,
    items: Float32,
    bias: Float32,
    rows: Int32,
    count: int,
    heap: UInt64,
    size: int,
    sums: Float64,
) -> int:
    """Scores rows exactly and offers them to the heap; returns its size."""
    last, dimensions = count - 1, queries.shape[1]
    for i in range(min(8, count)):
        prefetch_row(items, rows[i])
    for i in range(0, count, 4):
        for ahead in range(i + 8, min(i + 12, count)):
            prefetch_row(items, rows[ahead])
        a, b = rows[i], rows[min(i + 1, last)]
        c, d = rows[min(i + 2, last)], rows[min(i + 3, last)]
        tile_4x1(queries, query, items, a, b, c, d, 0, dimensions, sums, 0)
        for j in range(min(4, count - i)):
            row = rows[i + j]
            added = bias[row] if bias.shape[0] else np.float32(0.0)
            size = keep(heap, size, key_of(rounded_score(sums[0, j], added), row))
    return size


@compiled
def _settle(
    b: int,
    queries: Float32,
    items: Float32,
    count: int,
    terms: Terms,
    found: Shortlists,
    heap: UInt64,
) -> int:
    """The best of one query into ``heap``, best first; returns how many, or -1: it is widened."""
    k, total = heap.shape[0], 0
    for part in range(found.sizes.shape[0]):
        if found.sizes[part, b] < 0:
            return -1
        total += found.sizes[part, b]
    rows, listed = np.empty(total, np.int32), np.empty(total, np.int32)
    lower, upper = np.empty(total, np.float32), np.empty(total, np.float32)
    at = 0
    for part in range(found.sizes.shape[0]):
        size = found.sizes[part, b]
        rows[at : at + size] = found.rows[part, b, :size]
        lower[at : at + size] = found.lower[part, b, :size]
        upper[at : at + size] = found.upper[part, b, :size]
        at += size
    threshold = np.float32(-np.inf)
    if total > k:
        total, threshold = narrow(rows, lower, upper, total, k)
    size, sums, first = 0, np.empty((1, 4)), 0
    for i in range(total):
        if lower[i] >= threshold:
            listed[first] = rows[i]
            first += 1
    size = _score_listed(b, queries, items, terms.bias, listed, first, heap, size, sums)
    cut = below(score_of(heap[0])) if size == k else np.float32(-np.inf)
    rest = 0
    for i in range(total):
        if not (lower[i] >= threshold or upper[i] < cut):
            listed[rest] = rows[i]
            rest += 1
    size = _score_listed(b, queries, items, terms.bias, listed, rest, heap, size, sums)
    size = _score_tail(b, queries, items, count, terms, heap, size, sums)
    sort_best_first(heap, size)
    return size


@compiled
def _score_tail(
    b: int,
    queries: Float32,
    items: Float32,
    count: int,
    terms: Terms,
    heap: UInt64,
    size: int,
    sums: Float64,
) -> int:
    """Scores the rows behind those that have codes."""
    if items.shape[0] == count:
        return size
    listed, at = np.empty(items.shape[0] - count, np.int32), 0
    low, high = 0, 0
    if terms.indptr.shape[0]:
        low, high = terms.indptr[b], terms.indptr[b + 1]
    for row in range(count, items.shape[0]):
        if terms.allowed.size and not (terms.allowed[row >> 3] >> (row & 7)) & 1:
            continue
        if not is_excluded(row, terms.excluded, low, high):
            listed[at] = row
            at += 1
    return _score_listed(b, queries, items, terms.bias, listed, at, heap, size, sums)
