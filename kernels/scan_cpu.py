"""The exact scan by eight-bit codes: find the rows that may be among the best, then score those.

A thread walks its tiles of 64 rows, and every query over each while it is in the first cache. The
upper ends of the bounds (``codes.py``) are made in registers and compared with the query's running
threshold; 64 of them are in memory at a time, and few pass. Those become candidates, in a buffer a
query. When it is full, the k-th greatest lower end in it is the new threshold, and who does not
reach that is dropped.

Then a query's candidates of all threads are joined, and scored by the definition in ``lanes.py``:
first the k best by their lower ends, then the others that still reach the worst of those. So the
result is the one of the plain scan to the last bit, for any split and any way of multiplying.

A query whose candidates do not fit its buffer even so is *widened*: the caller scans the rows
themselves for it. That takes data whose thousands of best differ by less than the codes can tell.
"""

from typing import NamedTuple

import numba
import numpy as np

from rankstream.kernels.arrays import Float32, Float64, Int32, Int64, UInt8, UInt32, UInt64
from rankstream.kernels.code_tiles import PLAIN, TILE, VNNI_512, WIDTHS, bound_tile, lowest_bit
from rankstream.kernels.codes import Codes
from rankstream.kernels.codes_cpu import rounding_of
from rankstream.kernels.compilation import compiled, parallel
from rankstream.kernels.heap import keep, key_of, row_of, score_of, sort_best_first
from rankstream.kernels.lanes import prefetch_row, prefetch_span, rounded_score, tile_4x1
from rankstream.kernels.top_k_cpu import is_excluded

WIDEST = max(WIDTHS[VNNI_512])
# Queries whose candidates are scored sooner than another thread wakes.
_FEW = 4
_HALVINGS = 10
_ROUNDING = np.float32(2.0**-20)
_LARGEST = np.float32(2.0**100)
_TINY = np.float32(2.0**-100)
_INFINITE = np.uint32(0x7F800000)
_MAGNITUDE = np.uint32(0x7FFFFFFF)


class CodedQueries(NamedTuple):
    """Queries as ``code_queries`` makes them."""

    codes: Int32
    starts: Int32
    steps: Float32
    norms: Float32
    slacks: Float32


class Candidates(NamedTuple):
    """Rows that may be among the best, of P parts and B queries, room for C each.

    Attributes:
        rows: int32[P, B, C].
        lower: float32[P, B, C], what their scores reach at least.
        upper: float32[P, B, C], at most.
        sizes: int64[P, B]; -1: they did not fit.
        due: int64[P, B], the size at which a query's are narrowed.
        thresholds: float32[P, B]: k rows of the part are known to reach it.
    """

    rows: Int32
    lower: Float32
    upper: Float32
    sizes: Int64
    due: Int64
    thresholds: Float32


class Wanted(NamedTuple):
    """What may be answered.

    Attributes:
        bias: float32[N], or empty.
        bias_bits: uint32[N], the same bits.
        allowed: uint8[ceil(N / 8)], or empty: all.
        indptr: int64[B + 1], or empty: nothing is excluded.
        excluded: int32[.], ascending for each query.
    """

    bias: Float32
    bias_bits: UInt32
    allowed: UInt8
    indptr: Int64
    excluded: Int32


@compiled
def _reached_by(values: Float32, count: int, k: int) -> np.float32:
    """What at least ``k`` of ``values[:count]`` reach: close to the most that they do.

    By bisection: counting is a few vector instructions, where a selection is a branch a value that
    nobody can predict.
    """
    low, high, finite = np.float32(np.inf), np.float32(-np.inf), 0
    for i in range(count):
        value = values[i]
        known = value > -np.inf
        finite += known
        low = min(low, value) if known else low
        high = max(high, value)
    if finite < k:
        return np.float32(-np.inf)
    for _ in range(_HALVINGS):
        middle = np.float32(np.float32(0.5) * low + np.float32(0.5) * high)
        reaching = 0
        for i in range(count):
            reaching += values[i] >= middle
        if reaching >= k:
            low = middle
        else:
            high = middle
    return low


@compiled
def _below(threshold: np.float32) -> np.float32:
    """What rounds to at least ``threshold`` is not below this."""
    return np.float32(threshold - np.abs(threshold) * _ROUNDING - _TINY)


@compiled
def _narrow(
    rows: Int32, lower: Float32, upper: Float32, size: int, k: int
) -> tuple[int, np.float32]:
    """Drops what is not among the best k; returns how many stay, and the threshold."""
    threshold = _reached_by(lower, size, k)
    cut, kept = _below(threshold), 0
    for i in range(size):
        rows[kept], lower[kept], upper[kept] = rows[i], lower[i], upper[i]
        kept += not upper[i] < cut
    return kept, threshold


@compiled
def _allowed_word(allowed: UInt8, start: int, count: int) -> np.uint64:
    """Which of the rows ``start:start + 64`` may be answered, and exist, as bits."""
    word = np.uint64(0)
    if allowed.size == 0:
        word = ~word
    else:
        first = start >> 3
        for i in range(min(8, allowed.shape[0] - first)):
            word |= np.uint64(allowed[first + i]) << np.uint64(8 * i)
    left = count - start
    if left < TILE:
        word &= (np.uint64(1) << np.uint64(left)) - np.uint64(1)
    return word


@compiled
def _load_bias(bits: UInt32, bias: Float32, start: int, biases: Float32) -> np.uint32:
    """Copies a tile's bias; returns the greatest magnitude, as bits: of integers, as vectors do."""
    most = np.uint32(0)
    count = min(TILE, bias.shape[0] - start)
    for i in range(count):
        most = max(most, bits[start + i] & _MAGNITUDE)
    biases[0, :count] = bias[start : start + count]
    biases[0, count:] = np.float32(0.0)
    return most


@compiled
def _greatest_finite(bits: UInt32, start: int) -> np.uint32:
    """As ``_load_bias``, of the finite ones: what must not be answered may have any bias."""
    most = np.uint32(0)
    for i in range(min(TILE, bits.shape[0] - start)):
        magnitude = bits[start + i] & _MAGNITUDE
        if magnitude < _INFINITE:
            most = max(most, magnitude)
    return most


@compiled
def _first_infinite(bits: UInt32, start: int, word: np.uint64) -> int:
    """The first row of a tile that may be answered and whose bias is not finite, or -1."""
    for i in range(min(TILE, bits.shape[0] - start)):
        if (word >> np.uint64(i)) & np.uint64(1) and bits[start + i] & _MAGNITUDE >= _INFINITE:
            return start + i
    return -1


@compiled
def _width(way: int, left: int) -> int:
    """How many of the queries that are left are taken together."""
    if way == PLAIN or left == 1:
        return 1
    if way == VNNI_512:
        if left >= WIDEST and left != 8:
            return 6
        return 4 if left >= 4 else 2
    return 4 if left >= 4 else 1


@compiled
def _scan_tiles(
    tile: int,
    last: int,
    way: int,
    k: int,
    codes: Codes,
    steps: Int64,
    queries: CodedQueries,
    wanted: Wanted,
    rows: Int32,
    lower: Float32,
    upper: Float32,
    sizes: Int64,
    due: Int64,
    thresholds: Float32,
) -> int:
    """Scans tiles ``tile:last`` for candidates; returns a row with a bad bias, or -1.

    The tuples are taken apart first, and what a candidate takes is written out here: both would
    count references, in every tile, that cost more than the tile.
    """
    data, scales, errors, tops = codes.codes, codes.scales, codes.errors, codes.norms
    words, starts, query_steps = queries.codes, queries.starts, queries.steps
    norms, slacks = queries.norms, queries.slacks
    bias, bits, allowed = wanted.bias, wanted.bias_bits, wanted.allowed
    indptr, excluded, count = wanted.indptr, wanted.excluded, codes.row_count
    out, biases = np.empty((WIDEST, TILE), np.float32), np.zeros((1, TILE), np.float32)
    margins, cuts = np.empty(WIDEST, np.float32), np.empty(WIDEST, np.float32)
    masks = np.empty(WIDEST, np.uint64)
    batch, room, blocks = rows.shape[0], rows.shape[1], norms.shape[1]
    share_rounded = np.float32(rounding_of(blocks))
    tile_bytes = steps[blocks] * (4 * TILE)
    # Where one pass of queries does not wait for memory, each asks for its share of the next tile.
    share = (tile_bytes * WIDEST // batch >> 6) + 1 if batch > WIDEST else 0
    for t in range(tile, last):
        first = t * TILE
        word = _allowed_word(allowed, first, count)
        if word == 0:
            continue
        rounding, most_bias = _TINY, np.float32(0.0)
        if bias.shape[0]:
            most = _load_bias(bits, bias, first, biases)
            if most >= _INFINITE:
                bad = _first_infinite(bits, first, word)
                if bad >= 0:
                    return bad
                most = _greatest_finite(bits, first)
            most_bias = np.uint32(most).view(np.float32)
            rounding = most_bias * share_rounded + _TINY
        b = 0
        while b < batch:
            width = _width(way, batch - b)
            for j in range(width):
                margin, size_of_all = rounding, most_bias
                for block in range(blocks):
                    margin += slacks[b + j, block] * tops[t * blocks + block]
                    size_of_all += norms[b + j, block] * tops[t * blocks + block]
                if not size_of_all < _LARGEST:
                    # A sum may overflow on its way to a score that does not: nothing is known.
                    margin = np.float32(np.inf)
                margins[j], cuts[j] = margin, _below(thresholds[b + j]) - margin
                if sizes[b + j] < 0:
                    cuts[j] = np.float32(np.inf)
                elif not cuts[j] > -np.inf:
                    cuts[j] = np.float32(-np.inf)
            for block in range(blocks):
                bound_tile(
                    way, width,
                    data, t * tile_bytes + steps[block] * (4 * TILE),
                    steps[block + 1] - steps[block],
                    scales, errors, (t * blocks + block) * TILE,
                    words, b, steps[block], starts, query_steps, norms, block,
                    biases if block == 0 else out, min(block, 1), out, cuts, masks,
                )  # fmt: skip
            if share:
                prefetch_span(data, (t + 1) * tile_bytes + (b // WIDEST) * share * 64, share)
            for j in range(width):
                reached, q = masks[j] & word, b + j
                if reached == 0 or sizes[q] < 0:
                    continue
                size, low, high = sizes[q], 0, 0
                if indptr.shape[0]:
                    low, high = indptr[q], indptr[q + 1]
                while reached != 0:
                    i = lowest_bit(reached)
                    reached &= reached - np.uint64(1)
                    if high > low and is_excluded(first + i, excluded, low, high):
                        continue
                    lost = np.float32(0.0)
                    for block in range(blocks):
                        lost += norms[q, block] * errors[(t * blocks + block) * TILE + i]
                    least = out[j, i] - np.float32(2.0) * lost - margins[j]
                    rows[q, size] = first + i
                    lower[q, size] = least if least > -np.inf else np.float32(-np.inf)
                    upper[q, size] = out[j, i] + margins[j]
                    size += 1
                if size >= due[q]:
                    size, thresholds[q] = _narrow(rows[q], lower[q], upper[q], size, k)
                    # Often while little is known: a threshold that lags lets too much pass.
                    due[q] = min(max(2 * k, size + (size >> 1)), room - TILE)
                    if size >= due[q]:
                        size = -1
                sizes[q] = size
            b += width
    return -1


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
    wanted: Wanted,
    found: Candidates,
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
        total, threshold = _narrow(rows, lower, upper, total, k)
    size, sums, first = 0, np.empty((1, 4)), 0
    for i in range(total):
        if lower[i] >= threshold:
            listed[first] = rows[i]
            first += 1
    size = _score_listed(b, queries, items, wanted.bias, listed, first, heap, size, sums)
    cut = _below(score_of(heap[0])) if size == k else np.float32(-np.inf)
    rest = 0
    for i in range(total):
        if not (lower[i] >= threshold or upper[i] < cut):
            listed[rest] = rows[i]
            rest += 1
    size = _score_listed(b, queries, items, wanted.bias, listed, rest, heap, size, sums)
    size = _score_tail(b, queries, items, count, wanted, heap, size, sums)
    sort_best_first(heap, size)
    return size


@compiled
def _score_tail(
    b: int,
    queries: Float32,
    items: Float32,
    count: int,
    wanted: Wanted,
    heap: UInt64,
    size: int,
    sums: Float64,
) -> int:
    """Scores the rows behind those that have codes."""
    if items.shape[0] == count:
        return size
    listed, at = np.empty(items.shape[0] - count, np.int32), 0
    low, high = 0, 0
    if wanted.indptr.shape[0]:
        low, high = wanted.indptr[b], wanted.indptr[b + 1]
    for row in range(count, items.shape[0]):
        if wanted.allowed.size and not (wanted.allowed[row >> 3] >> (row & 7)) & 1:
            continue
        if not is_excluded(row, wanted.excluded, low, high):
            listed[at] = row
            at += 1
    return _score_listed(b, queries, items, wanted.bias, listed, at, heap, size, sums)


@compiled
def _scan_part(
    part: int,
    parts: int,
    way: int,
    k: int,
    codes: Codes,
    steps: Int64,
    queries: CodedQueries,
    wanted: Wanted,
    found: Candidates,
) -> int:
    tiles = (codes.row_count + TILE - 1) // TILE
    return _scan_tiles(
        tiles * part // parts, tiles * (part + 1) // parts, way, k, codes, steps, queries, wanted,
        found.rows[part], found.lower[part], found.upper[part], found.sizes[part],
        found.due[part], found.thresholds[part],
    )  # fmt: skip


@compiled
def _answer(
    b: int,
    queries: Float32,
    items: Float32,
    count: int,
    wanted: Wanted,
    found: Candidates,
    rows: Int32,
    scores: Float32,
    counts: Int32,
) -> None:
    """Writes one query's result; a count of -1: it is widened."""
    heap = np.empty(rows.shape[1], np.uint64)
    size = _settle(b, queries, items, count, wanted, found, heap)
    counts[b] = size
    for i in range(rows.shape[1]):
        rows[b, i] = row_of(heap[i]) if i < size else -1
        scores[b, i] = score_of(heap[i]) if i < size else -np.inf


@compiled
def scan_serial(
    way: int,
    codes: Codes,
    steps: Int64,
    coded: CodedQueries,
    queries: Float32,
    items: Float32,
    wanted: Wanted,
    found: Candidates,
    bad: Int64,
    rows: Int32,
    scores: Float32,
    counts: Int32,
) -> None:
    """Fills ``rows``, ``scores [B, K]`` and ``counts [B]``, -1 where a query is widened.

    ``found`` has one part; ``bad [1]`` becomes a row whose bias is not finite, or -1.
    """
    bad[0] = _scan_part(0, 1, way, rows.shape[1], codes, steps, coded, wanted, found)
    if bad[0] < 0:
        for b in range(rows.shape[0]):
            _answer(b, queries, items, codes.row_count, wanted, found, rows, scores, counts)


@parallel
def scan_parallel(
    way: int,
    codes: Codes,
    steps: Int64,
    coded: CodedQueries,
    queries: Float32,
    items: Float32,
    wanted: Wanted,
    found: Candidates,
    bad: Int64,
    rows: Int32,
    scores: Float32,
    counts: Int32,
) -> None:
    """As ``scan_serial``, in as many parts as ``found`` and ``bad`` have."""
    parts, k = bad.shape[0], rows.shape[1]
    for i in numba.prange(parts):
        part = int(np.int64(i))
        bad[part] = _scan_part(part, parts, way, k, codes, steps, coded, wanted, found)
    if bad.max() >= 0:
        return
    if rows.shape[0] < _FEW:
        for b in range(rows.shape[0]):
            _answer(b, queries, items, codes.row_count, wanted, found, rows, scores, counts)
    else:
        for i in numba.prange(rows.shape[0]):
            b = int(np.int64(i))
            _answer(b, queries, items, codes.row_count, wanted, found, rows, scores, counts)
