"""Scoring what the scan by codes shortlisted, by the definition in ``lanes.py``.

A row that is scored lies in a shortlist as ``~row``, and both its bounds are its score. So rows are
scored at most once, whether it was to raise a threshold while the scan goes on (``sharpen``) or for
the answer, and the result is the one of the plain scan to the last bit, for any split and any way
of multiplying.
"""

import numba
import numpy as np

from rankstream.kernels.arrays import Float32, Int32, Int64
from rankstream.kernels.compilation import compiled, parallel
from rankstream.kernels.heap import keep, key_of, row_of, score_of, sort_best_first
from rankstream.kernels.instructions import AHEAD, prefetch_row
from rankstream.kernels.lanes import rounded_score, tile_4x1
from rankstream.kernels.shortlist import Shortlists, narrow, reached_by
from rankstream.kernels.terms import Terms
from rankstream.kernels.top_k_cpu import is_excluded


@compiled
def sharpen(
    b: int,
    queries: Float32,
    items: Float32,
    bias: Float32,
    rows: Int32,
    lower: Float32,
    upper: Float32,
    size: int,
    k: int,
    threshold: np.float32,
) -> tuple[int, np.float32]:
    """Scores what is likely the best of a shortlist of at least k rows, and narrows it by that.

    That is, of the k rows that are best by the middle between their bounds, those that are not
    scored yet: 2 k of them at most, because where there are more they are as good as equal.

    Returns:
        How many rows are left, and the new threshold.
    """
    middles = np.empty(size, np.float32)
    for i in range(size):
        middles[i] = np.float32(0.5) * lower[i] + np.float32(0.5) * upper[i]
    least = reached_by(middles, size, k, threshold)
    if least > -np.inf:
        places, count = np.empty(2 * k, np.int64), 0
        for i in range(size):
            if middles[i] >= least and rows[i] >= 0 and count < places.shape[0]:
                places[count] = i
                count += 1
        _score(b, queries, items, bias, rows, lower, upper, places[:count])
    threshold = reached_by(lower, size, k, threshold)
    return narrow(rows, lower, upper, size, threshold), threshold


@compiled
def _score(
    query: int,
    queries: Float32,
    items: Float32,
    bias: Float32,
    rows: Int32,
    lower: Float32,
    upper: Float32,
    places: Int64,
) -> None:
    """Scores the rows at some places of a shortlist."""
    count, dimensions, sums = places.shape[0], queries.shape[1], np.empty((1, 4))
    last = count - 1
    for i in range(min(AHEAD, count)):
        prefetch_row(items, rows[places[i]])
    for i in range(0, count, 4):
        for ahead in range(i + AHEAD, min(i + AHEAD + 4, count)):
            prefetch_row(items, rows[places[ahead]])
        a, b = rows[places[i]], rows[places[min(i + 1, last)]]
        c, d = rows[places[min(i + 2, last)]], rows[places[min(i + 3, last)]]
        tile_4x1(queries, query, items, a, b, c, d, 0, dimensions, sums, 0)
        for j in range(min(4, count - i)):
            at = places[i + j]
            added = bias[rows[at]] if bias.shape[0] else np.float32(0.0)
            lower[at] = upper[at] = rounded_score(sums[0, j], added)
            rows[at] = ~rows[at]


@compiled
def _join(
    b: int, queries: Float32, items: Float32, count: int, terms: Terms, found: Shortlists, k: int
) -> tuple[Int32, Float32, Float32, int]:
    """One query's shortlists of all parts, narrowed, and their size; -1: it is widened.

    With the rows behind ``count``, which have no codes, so that nothing is known of them.
    """
    total = 0
    for part in range(found.sizes.shape[0]):
        if found.sizes[part, b] < 0:
            total = -1
            break
        total += found.sizes[part, b]
    room = max(total, 0) + items.shape[0] - count
    rows, lower, upper = (
        np.empty(room, np.int32),
        np.empty(room, np.float32),
        np.empty(room, np.float32),
    )
    if total < 0:
        return rows, lower, upper, total
    at = 0
    for part in range(found.sizes.shape[0]):
        size = found.sizes[part, b]
        rows[at : at + size] = found.rows[part, b, :size]
        lower[at : at + size] = found.lower[part, b, :size]
        upper[at : at + size] = found.upper[part, b, :size]
        at += size
    if total > k:
        threshold = found.thresholds[:, b].max()
        total, _ = sharpen(b, queries, items, terms.bias, rows, lower, upper, total, k, threshold)
    low, high = 0, 0
    if terms.indptr.shape[0]:
        low, high = terms.indptr[b], terms.indptr[b + 1]
    for row in range(count, items.shape[0]):
        if terms.allowed.size and not (terms.allowed[row >> 3] >> (row & 7)) & 1:
            continue
        if not is_excluded(row, terms.excluded, low, high):
            rows[total], lower[total], upper[total] = row, -np.inf, np.inf
            total += 1
    return rows, lower, upper, total


@compiled
def _places(rows: Int32, size: int) -> Int64:
    """Of the rows that are not scored yet."""
    places, count = np.empty(max(size, 0), np.int64), 0
    for i in range(size):
        if rows[i] >= 0:
            places[count] = i
            count += 1
    return places[:count]


@compiled
def _write(
    b: int,
    listed: Int32,
    reached: Float32,
    size: int,
    rows: Int32,
    scores: Float32,
    counts: Int32,
) -> None:
    """Writes the best of what is scored, best first."""
    heap, kept = np.empty(rows.shape[1], np.uint64), 0
    for i in range(size):
        kept = keep(heap, kept, key_of(reached[i], ~listed[i]))
    sort_best_first(heap, kept)
    counts[b] = kept if size >= 0 else -1
    for i in range(rows.shape[1]):
        rows[b, i] = row_of(heap[i]) if i < kept else -1
        scores[b, i] = score_of(heap[i]) if i < kept else -np.inf


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
    listed, lower, upper, size = _join(b, queries, items, count, terms, found, rows.shape[1])
    _score(b, queries, items, terms.bias, listed, lower, upper, _places(listed, size))
    _write(b, listed, lower, size, rows, scores, counts)


@parallel
def rescore_together(
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
    """As ``rescore``, on all threads: rows from all over wait for memory."""
    listed, lower, upper, size = _join(b, queries, items, count, terms, found, rows.shape[1])
    places, parts = _places(listed, size), found.sizes.shape[0]
    for i in numba.prange(parts):
        part = int(np.int64(i))
        some = places[places.size * part // parts : places.size * (part + 1) // parts]
        _score(b, queries, items, terms.bias, listed, lower, upper, some)
    _write(b, listed, lower, size, rows, scores, counts)
