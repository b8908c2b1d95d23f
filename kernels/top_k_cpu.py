"""The exact scan on the CPU.

Every allowed row is scored by the definition in ``lanes.py`` itself, in fp64, so nothing needs a
bound or a second pass: at B = 1 the scan waits for memory, and above that a 4 x 4 register tile
keeps the fp64 units busy. Rows are split across threads; a thread walks its range in blocks that
stay in the cache while all queries pass over them, and keeps the best k per query in a heap whose
worst key is the running threshold. Scores are never stored. The kept set is the k greatest keys of
a total order, so no split of the rows can change it.
"""

import numba
import numpy as np

from rankstream.kernels.arrays import Float32, Float64, Int32, Int64, UInt8, UInt64
from rankstream.kernels.compilation import compiled, parallel
from rankstream.kernels.heap import keep, key_of, row_of, score_of, sort_best_first
from rankstream.kernels.lanes import rounded_score, tile_4x1, tile_4x4

_BLOCK = 64
_TILE = 4


@compiled
def _list_rows(start: int, stop: int, allowed: UInt8, rows: Int64) -> int:
    """Writes the allowed rows of ``start:stop`` into ``rows``; returns how many."""
    count = 0
    for row in range(start, stop):
        if allowed.size == 0 or (allowed[row >> 3] >> (row & 7)) & 1:
            rows[count] = row
            count += 1
    return count


@compiled
def _find_bad_bias(bias: Float32, rows: Int64, count: int) -> int:
    """The first listed row whose bias is not finite, or -1."""
    if bias.size:
        for i in range(count):
            if not np.isfinite(bias[rows[i]]):
                return int(rows[i])
    return -1


@compiled
def _sum_block(
    queries: Float32, first: int, width: int, items: Float32, rows: Int64, count: int, sums: Float64
) -> None:
    """S of ``width`` (1 or 4) queries with the listed rows, into ``sums [4, _BLOCK]``."""
    dimensions = queries.shape[1]
    last = count - 1
    for i in range(0, count, _TILE):
        a, b, c, d = rows[i], rows[min(i + 1, last)], rows[min(i + 2, last)], rows[min(i + 3, last)]
        if width == _TILE:
            tile_4x4(queries, first, items, a, b, c, d, 0, dimensions, sums, i)
        else:
            tile_4x1(queries, first, items, a, b, c, d, 0, dimensions, sums, i)


@compiled
def is_excluded(row: int, excluded: Int32, start: int, stop: int) -> bool:
    """Whether ``excluded[start:stop]``, which ascends, holds ``row``."""
    end = stop
    while start < stop:
        middle = (start + stop) // 2
        if excluded[middle] < row:
            start = middle + 1
        else:
            stop = middle
    return start < end and excluded[start] == row


@compiled
def _keep_block(
    sums: Float64,
    rows: Int64,
    count: int,
    bias: Float32,
    excluded: Int32,
    start: int,
    stop: int,
    heap: UInt64,
    size: int,
) -> int:
    """Offers a block's scores for one query to its heap; returns the heap's size."""
    scores = np.empty(_BLOCK, np.float32)
    full = size == heap.shape[0]
    worst = score_of(heap[0]) if full else np.float32(-np.inf)
    hits = 0
    for i in range(count):
        scores[i] = rounded_score(sums[i], bias[rows[i]] if bias.size else np.float32(0.0))
        hits += scores[i] >= worst
    if full and hits == 0:
        return size
    for i in range(count):
        if scores[i] >= worst and not is_excluded(rows[i], excluded, start, stop):
            size = keep(heap, size, key_of(scores[i], rows[i]))
            worst = score_of(heap[0]) if size == heap.shape[0] else worst
    return size


@compiled
def _scan_part(
    part: int,
    parts: int,
    queries: Float32,
    items: Float32,
    bias: Float32,
    allowed: UInt8,
    indptr: Int64,
    excluded: Int32,
    heaps: UInt64,
    sizes: Int64,
) -> int:
    """Scans one part of the rows into ``heaps [B, K]``; returns a row with a bad bias, or -1."""
    rows = np.empty(_BLOCK, np.int64)
    sums = np.empty((_TILE, _BLOCK))
    batch, count = queries.shape[0], items.shape[0]
    stop = count * (part + 1) // parts
    for start in range(count * part // parts, stop, _BLOCK):
        listed = _list_rows(start, min(start + _BLOCK, stop), allowed, rows)
        bad = _find_bad_bias(bias, rows, listed)
        if bad >= 0:
            return bad
        first = 0
        while first < batch:
            width = _TILE if first + _TILE <= batch else 1
            _sum_block(queries, first, width, items, rows, listed, sums)
            for b in range(first, first + width):
                low, high = (indptr[b], indptr[b + 1]) if indptr.size else (0, 0)
                sizes[b] = _keep_block(
                    sums[b - first], rows, listed, bias, excluded, low, high, heaps[b], sizes[b]
                )
            first += width
    return -1


@compiled
def _merge_part(
    part: int,
    parts: int,
    heaps: UInt64,
    sizes: Int64,
    rows: Int32,
    scores: Float32,
    counts: Int32,
) -> None:
    """Merges the heaps ``[parts, B, K]`` of one part of the queries and writes their results."""
    batch, k = rows.shape
    for b in range(batch * part // parts, batch * (part + 1) // parts):
        heap, size = heaps[0, b], sizes[0, b]
        for other in range(1, heaps.shape[0]):
            for i in range(sizes[other, b]):
                size = keep(heap, size, heaps[other, b, i])
        sort_best_first(heap, size)
        for i in range(k):
            rows[b, i] = row_of(heap[i]) if i < size else -1
            scores[b, i] = score_of(heap[i]) if i < size else -np.inf
        counts[b] = size


@compiled
def search_serial(
    queries: Float32,
    items: Float32,
    bias: Float32,
    allowed: UInt8,
    indptr: Int64,
    excluded: Int32,
    heaps: UInt64,
    sizes: Int64,
    bad: Int64,
    rows: Int32,
    scores: Float32,
    counts: Int32,
) -> None:
    """Fills ``rows``, ``scores [B, K]`` and ``counts [B]``.

    ``heaps [1, B, K]`` and ``sizes [1, B]`` (zeros) are its working memory; ``bad [1]`` becomes a
    row whose bias is not finite, or -1.
    """
    bad[0] = _scan_part(0, 1, queries, items, bias, allowed, indptr, excluded, heaps[0], sizes[0])
    _merge_part(0, 1, heaps, sizes, rows, scores, counts)


@parallel
def search_parallel(
    queries: Float32,
    items: Float32,
    bias: Float32,
    allowed: UInt8,
    indptr: Int64,
    excluded: Int32,
    heaps: UInt64,
    sizes: Int64,
    bad: Int64,
    rows: Int32,
    scores: Float32,
    counts: Int32,
) -> None:
    """As ``search_serial``, in as many parts as ``heaps``, ``sizes`` and ``bad`` have."""
    parts = bad.shape[0]
    for i in numba.prange(parts):
        part = int(np.int64(i))
        bad[part] = _scan_part(
            part, parts, queries, items, bias, allowed, indptr, excluded, heaps[part], sizes[part]
        )
    for i in numba.prange(parts):
        _merge_part(int(np.int64(i)), parts, heaps, sizes, rows, scores, counts)
