"""The exact scan by codes: finds the rows that may be among the best, to be scored.

A thread walks its tiles of 64 rows, and every query over each while it is in the first cache. The
upper bounds (``codes.py``) are made in registers and compared with the query's running threshold;
64 of them are in memory at a time, and few pass. Those are shortlisted; when a shortlist has grown,
it is narrowed (``shortlist.py``), which is a new threshold. Then ``rescore_cpu.py`` scores them.

A query whose shortlist does not fit its room even so is *widened*: the caller scans the rows
themselves for it. That takes data whose thousands of best differ by less than the codes can tell.
"""

from typing import NamedTuple

import numba
import numpy as np

from rankstream.kernels.arrays import Float32, Int32, Int64, UInt8
from rankstream.kernels.code_layers import COARSE_STEP, STEP, TILE
from rankstream.kernels.code_tiles import bound_tile
from rankstream.kernels.code_ways import PLAIN, VNNI_512, WIDTHS
from rankstream.kernels.codes_cpu import code_queries, rounding_of
from rankstream.kernels.compilation import compiled, parallel
from rankstream.kernels.instructions import lowest_bit, prefetch_span, take
from rankstream.kernels.rescore_cpu import rescore, rescore_together, sharpen
from rankstream.kernels.shortlist import TINY, Shortlists, below, empty, narrow, reached_by
from rankstream.kernels.terms import (
    INFINITE,
    Terms,
    allowed_word,
    first_infinite,
    greatest_finite,
    load_bias,
)
from rankstream.kernels.top_k_cpu import is_excluded

WIDEST = max(WIDTHS[VNNI_512])
# Fewer queries than this are scored one after the other, each by all threads.
_FEW = 4
# Tiles of a turn at least: some ten microseconds.
_SHORTEST = 16
_LARGEST = np.float32(2.0**100)


class Source(NamedTuple):
    """What is read, and how.

    Attributes:
        codes: of the fine layer, or the coarse; so are the next three.
        scales: see ``Layer``.
        errors: see ``Layer``.
        tops: see ``Layer``.
        steps: int64[n_blocks + 1], where the blocks' steps begin.
        row_count: rows that have codes.
        way: of multiplying, see ``code_ways.py``.
        packed: 1: it is the coarse layer.
    """

    codes: UInt8
    scales: Float32
    errors: Float32
    tops: Float32
    steps: Int64
    row_count: int
    way: int
    packed: int


class CodedQueries(NamedTuple):
    """Queries as ``code_queries`` makes them, with the starts of the layer that is read."""

    codes: Int32
    starts: Int32
    scales: Float32
    norms: Float32
    slacks: Float32


@compiled
def plan_turns(row_count: int, parts: int) -> Int64:
    """Where the turns begin in which threads take the tiles, and, last, where they end.

    The first ones are short, for a first threshold; then each is half of a share of what is left,
    so that all threads end together, though something else may run on a core of theirs.
    """
    tiles = (row_count + TILE - 1) // TILE
    bounds, count = np.zeros(tiles // _SHORTEST + 2, np.int64), 0
    while bounds[count] < tiles:
        share = (tiles - bounds[count]) // parts
        fair = share >> 4 if count < parts else share >> 1
        bounds[count + 1] = min(bounds[count] + max(fair, _SHORTEST), tiles)
        count += 1
    return bounds[: count + 1]


@compiled
def _width(way: int, packed: int, left: int) -> int:
    """How many of the queries that are left are taken together."""
    if way == PLAIN or packed or left == 1:
        return 1
    if way == VNNI_512:
        if left >= WIDEST and left != 8:
            return 6
        return 4 if left >= 4 else 2
    return 4 if left >= 4 else 1


@compiled
def _scan_turns(
    bounds: Int64,
    taken: Int64,
    source: Source,
    k: int,
    queries: CodedQueries,
    vectors: Float32,
    items: Float32,
    terms: Terms,
    rows: Int32,
    lower: Float32,
    upper: Float32,
    sizes: Int64,
    due: Int64,
    thresholds: Float32,
    part: int,
    fair: Float32,
) -> int:
    """Takes turns until there are none; returns the first row with a bad bias in them, or -1.

    The tuples are taken apart first, and what a candidate takes is written out here: both would
    count references, in every tile, that cost more than the tile.
    """
    last = bounds.shape[0] - 1
    steps, count, way, packed = source.steps, source.row_count, source.way, source.packed
    data, scales, errors, tops = source.codes, source.scales, source.errors, source.tops
    words, starts, query_scales = queries.codes, queries.starts, queries.scales
    norms, slacks = queries.norms, queries.slacks
    bias, bits, allowed = terms.bias, terms.bias_bits, terms.allowed
    indptr, excluded = terms.indptr, terms.excluded
    out, biases = np.empty((WIDEST, TILE), np.float32), np.zeros((1, TILE), np.float32)
    margins, cuts = np.empty(WIDEST, np.float32), np.empty(WIDEST, np.float32)
    masks = np.empty(WIDEST, np.uint64)
    batch, room, blocks = rows.shape[0], rows.shape[1], norms.shape[1]
    fair_count = (k + fair.shape[0] - 1) // fair.shape[0]
    share_rounded = np.float32(rounding_of(blocks))
    step_bytes = COARSE_STEP if packed else STEP
    tile_bytes = steps[blocks] * step_bytes
    # Where one pass of queries does not wait for memory, each asks for its share of the next tile.
    share = (tile_bytes * WIDEST // batch >> 6) + 1 if batch > WIDEST else 0
    left, turn = batch, take(taken, 1)
    while turn < last:
        for t in range(bounds[turn], bounds[turn + 1]):
            first = t * TILE
            word = allowed_word(allowed, first, count)
            if word == 0:
                continue
            rounding, most_bias = TINY, np.float32(0.0)
            if bias.shape[0]:
                most = load_bias(bits, bias, first, biases)
                if most >= INFINITE:
                    bad = first_infinite(bits, first, word)
                    if bad >= 0:
                        return bad
                    most = greatest_finite(bits, first)
                most_bias = np.uint32(most).view(np.float32)
                rounding = most_bias * share_rounded + TINY
            b = 0
            while b < batch:
                width = _width(way, packed, batch - b)
                for j in range(width):
                    margin, size_of_all = rounding, most_bias
                    for block in range(blocks):
                        margin += slacks[b + j, block] * tops[t * blocks + block]
                        size_of_all += norms[b + j, block] * tops[t * blocks + block]
                    if not size_of_all < _LARGEST:
                        # A sum may overflow on its way to a score that does not: nothing is known.
                        margin = np.float32(np.inf)
                    margins[j], cuts[j] = margin, below(thresholds[b + j]) - margin
                    if sizes[b + j] < 0:
                        cuts[j] = np.float32(np.inf)
                    elif not cuts[j] > -np.inf:
                        cuts[j] = np.float32(-np.inf)
                for block in range(blocks):
                    bound_tile(
                        way, width,
                        data, t * tile_bytes + steps[block] * step_bytes,
                        steps[block + 1] - steps[block],
                        scales, errors, (t * blocks + block) * TILE,
                        words, b, steps[block], starts, query_scales, norms, block,
                        biases if block == 0 else out, min(block, 1), out, cuts, masks, packed,
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
                        thresholds[q] = reached_by(lower[q], size, k, thresholds[q])
                        size = narrow(rows[q], lower[q], upper[q], size, thresholds[q])
                        if size > room >> 1:
                            size, thresholds[q] = sharpen(
                                q, vectors, items, bias, rows[q], lower[q], upper[q], size, k,
                                thresholds[q],
                            )  # fmt: skip
                        # Often while little is known: a threshold that lags lets too much pass.
                        due[q] = min(max(2 * k, size + (size >> 1)), room - TILE)
                        if size >= due[q]:
                            size = -1
                            left -= 1
                    sizes[q] = size
                b += width
            if left == 0:
                # Each query is widened: what is left of the turns need not be looked at.
                take(taken, last)
                return -1
        if packed:
            for q in range(batch):
                if sizes[q] > k:
                    sizes[q], thresholds[q] = sharpen(
                        q, vectors, items, bias, rows[q], lower[q], upper[q], sizes[q], k,
                        thresholds[q],
                    )  # fmt: skip
                    # What other threads have found counts, too, however late it is seen.
                    fair[part, q] = reached_by(lower[q], sizes[q], fair_count, fair[part, q])
                    thresholds[q] = max(thresholds[q], fair[:, q].min())
        turn = take(taken, 1)
    return -1


@compiled
def _scan_part(
    part: int,
    bounds: Int64,
    taken: Int64,
    source: Source,
    k: int,
    queries: CodedQueries,
    vectors: Float32,
    items: Float32,
    terms: Terms,
    found: Shortlists,
) -> int:
    return _scan_turns(
        bounds, taken, source, k, queries, vectors, items, terms,
        found.rows[part], found.lower[part], found.upper[part], found.sizes[part],
        found.due[part], found.thresholds[part], part, found.fair,
    )  # fmt: skip


@compiled
def coded_queries(queries: Float32, offsets: Int64, steps: Int64, packed: int) -> CodedQueries:
    """The codes of queries ``[B, D]`` with the starts of one layer."""
    batch, blocks = queries.shape[0], offsets.shape[0] - 1
    words = np.empty((batch, steps[blocks]), np.int32)
    starts = np.empty((2, batch, blocks), np.int32)
    floats = np.empty((3, batch, blocks), np.float32)
    code_queries(
        queries, offsets, steps, words, starts[0], starts[1], floats[0], floats[1], floats[2]
    )
    return CodedQueries(words, starts[packed], floats[0], floats[1], floats[2])


@compiled
def scan_serial(
    source: Source,
    queries: Float32,
    offsets: Int64,
    items: Float32,
    terms: Terms,
    found: Shortlists,
    rows: Int32,
    scores: Float32,
    counts: Int32,
) -> tuple[int, int]:
    """Fills ``rows``, ``scores [B, K]`` and ``counts [B]``, -1 where a query is widened.

    Returns:
        A row whose bias is not finite, or -1: nothing is filled otherwise; and how many queries are
        widened.
    """
    coded, k = coded_queries(queries, offsets, source.steps, source.packed), rows.shape[1]
    bounds, taken = plan_turns(source.row_count, 1), np.zeros(1, np.int64)
    empty(found, k)
    bad = _scan_part(0, bounds, taken, source, k, coded, queries, items, terms, found)
    if bad >= 0:
        return bad, 0
    for b in range(rows.shape[0]):
        rescore(b, queries, items, source.row_count, terms, found, rows, scores, counts)
    return -1, _negative(counts)


@compiled
def scan_parallel(
    source: Source,
    queries: Float32,
    offsets: Int64,
    items: Float32,
    terms: Terms,
    found: Shortlists,
    rows: Int32,
    scores: Float32,
    counts: Int32,
) -> tuple[int, int]:
    """As ``scan_serial``, in as many parts as ``found`` has."""
    coded = coded_queries(queries, offsets, source.steps, source.packed)
    bad = np.empty(found.sizes.shape[0], np.int64)
    empty(found, rows.shape[1])
    _scan_together(source, coded, queries, items, terms, found, bad, rows, scores, counts)
    row = _lowest(bad)
    return row, 0 if row >= 0 else _negative(counts)


@parallel
def _scan_together(
    source: Source,
    coded: CodedQueries,
    queries: Float32,
    items: Float32,
    terms: Terms,
    found: Shortlists,
    bad: Int64,
    rows: Int32,
    scores: Float32,
    counts: Int32,
) -> None:
    parts, k = bad.shape[0], rows.shape[1]
    bounds, taken = plan_turns(source.row_count, parts), np.zeros(1, np.int64)
    for i in numba.prange(parts):
        part = int(np.int64(i))
        bad[part] = _scan_part(part, bounds, taken, source, k, coded, queries, items, terms, found)
    if bad.max() >= 0:
        return
    if rows.shape[0] < _FEW:
        for b in range(rows.shape[0]):
            rescore_together(
                b, queries, items, source.row_count, terms, found, rows, scores, counts
            )
    else:
        for i in numba.prange(rows.shape[0]):
            b = int(np.int64(i))
            rescore(b, queries, items, source.row_count, terms, found, rows, scores, counts)


@compiled
def _lowest(bad: Int64) -> int:
    """The lowest row that is none of -1, or -1."""
    lowest = -1
    for row in bad:
        if row >= 0 and (lowest < 0 or row < lowest):
            lowest = row
    return lowest


@compiled
def _negative(counts: Int32) -> int:
    negative = 0
    for count in counts:
        negative += count < 0
    return negative
