"""Exact top-k inner product over a whole catalogue."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rankstream.kernels.arrays import (
    Float32,
    Int32,
    Int64,
    UInt8,
    checked,
    checked_bias,
    checked_count,
    checked_indptr,
    checked_pair,
    first_bad,
    frozen,
)
from rankstream.kernels.codes import Codes
from rankstream.kernels.device import split
from rankstream.kernels.errors import refuse
from rankstream.kernels.scan import scan, worth
from rankstream.kernels.terms import Terms
from rankstream.kernels.top_k_cpu import search_parallel, search_serial

_ALL_ALLOWED: UInt8 = frozen(np.empty(0, np.uint8))
_NONE_EXCLUDED: tuple[Int64, Int32] = (
    frozen(np.empty(0, np.int64)),
    frozen(np.empty(0, np.int32)),
)


@dataclass(frozen=True, slots=True, eq=False)
class TopK:
    """The best rows of each query, best first; ties go to the lower row.

    Attributes:
        rows: ``[B, K]`` int32; -1 where a query has fewer than K allowed rows.
        scores: ``[B, K]`` float32; -inf where ``rows`` is -1.
        counts: ``[B]`` int32, how many of the K are rows.
        widened: queries that ``codes`` were too coarse for, and that took a scan of the rows. Where
            that is close, it depends on which thread came by first; the answer does not.
    """

    rows: Int32
    scores: Float32
    counts: Int32
    widened: int = 0


def pack_allowed(mask: npt.NDArray[np.bool_]) -> UInt8:
    """Packs a bool mask ``[N]`` into the bitmask that ``top_k`` takes.

    Returns:
        ``[ceil(N / 8)]`` uint8; row r is bit ``r % 8`` (from the least significant) of byte ``r //
        8``.
    """
    return np.packbits(checked("mask", mask, np.bool_, None), bitorder="little")


def top_k(
    queries: Float32,
    items: Float32,
    k: int,
    *,
    bias: Float32 | None = None,
    allowed: UInt8 | None = None,
    excluded: tuple[Int64, Int32] | None = None,
    codes: Codes | None = None,
) -> TopK:
    """The k best rows of ``items`` for each query, by the score that ``lanes.py`` defines.

    The result is the same to the last bit for any number of threads and any batch a query is part
    of.

    Args:
        queries: ``[B, D]`` float32, finite.
        items: ``[N, D]`` float32, C-contiguous; may be read-only or memory-mapped, is not copied.
            Its values must be finite: that is not checked, and a row that is not has an undefined
            place (nothing else is harmed).
        k: At least 1; K = min(k, N).
        bias: ``[N]`` float32, added to each row's score; finite for every allowed row.
        allowed: ``[ceil(N / 8)]`` uint8 from ``pack_allowed``: the rows that may be returned. None
            allows all.
        excluded: ``(indptr [B + 1] int64, rows int32)``: query b never gets
            ``rows[indptr[b]:indptr[b + 1]]``, in any order; a row that does not exist excludes
            nothing.
        codes: of ``items``, or of its first rows, from ``code_items``: the same result, sooner;
            None scans the rows themselves.

    Raises:
        KernelArgumentError: an argument is not as described.
    """
    queries, items = checked_pair(queries, items)
    batch, count = queries.shape[0], items.shape[0]
    k = min(checked_count("k", k), count)
    bias = checked_bias(bias, count)
    if allowed is None:
        allowed = _ALL_ALLOWED
    else:
        allowed = checked("allowed", allowed, np.uint8, (count + 7) // 8)
    indptr, rows = _NONE_EXCLUDED if excluded is None else _checked_excluded(excluded, batch)
    if codes is not None:
        _check_codes(codes, queries, items)
        if batch and worth(codes, k):
            _check_tail(bias, allowed, codes.row_count)
            terms = Terms(bias, bias.view(np.uint32), allowed, indptr, rows)
            return _scan(k, queries, items, terms, codes)
    return _search(k, queries, items, bias, allowed, indptr, rows)


def _scan(k: int, queries: Float32, items: Float32, terms: Terms, codes: Codes) -> TopK:
    """By codes; what they cannot tell apart by the rows themselves."""
    answer = scan(k, queries, items, terms, codes)
    best = TopK(*answer[:3])
    if not answer[3]:
        return best
    widened = np.flatnonzero(best.counts < 0)
    bias, _, allowed, indptr, rows = terms
    if len(indptr):
        groups = [rows[indptr[b] : indptr[b + 1]] for b in widened.tolist()]
        rows = frozen(np.concatenate(groups))
        indptr = frozen(np.cumsum([0, *map(len, groups)], dtype=np.int64))
    others = _search(k, frozen(queries[widened]), items, bias, allowed, indptr, rows)
    best.rows[widened], best.scores[widened] = others.rows, others.scores
    best.counts[widened] = others.counts
    return replace(best, widened=len(widened))


def _check_tail(bias: Float32, allowed: UInt8, first: int) -> None:
    """Refuses what the scan of the rows from ``first`` on would not look at."""
    if first >= len(bias):
        return
    bad = first + np.flatnonzero(~np.isfinite(bias[first:]))
    if len(allowed):
        bad = bad[(allowed[bad >> 3] >> (bad & 7)) & 1 > 0]
    if len(bad):
        refuse("bias", f"is {bias[bad[0]]} at row {bad[0]}", "finite numbers")


def _check_codes(codes: Codes, queries: Float32, items: Float32) -> None:
    width, (count, dimensions) = int(codes.offsets[-1]), items.shape
    beyond = width > dimensions or (width < dimensions and queries[:, width:].any())
    if codes.row_count > count or beyond:
        problem = f"are of {codes.row_count} rows of {width} dimensions"
        refuse("codes", problem, f"those of these items or of its first rows, {items.shape}")


def _search(
    k: int,
    queries: Float32,
    items: Float32,
    bias: Float32,
    allowed: UInt8,
    indptr: Int64,
    excluded: Int32,
) -> TopK:
    """Makes room for the results and the work, runs the scan, and looks at what it refused."""
    batch = queries.shape[0]
    shape = (batch, k)
    best = TopK(np.empty(shape, np.int32), np.empty(shape, np.float32), np.empty(batch, np.int32))
    parts = split(batch * items.size)
    heaps = np.empty((parts, batch, k), np.uint64)
    sizes, bad = np.zeros((parts, batch), np.int64), np.empty(parts, np.int64)
    search = search_serial if parts == 1 else search_parallel
    work, output = (heaps, sizes, bad), (best.rows, best.scores, best.counts)
    search(queries, items, bias, allowed, indptr, excluded, *work, *output)
    row = first_bad(bad)
    if row >= 0:
        refuse("bias", f"is {bias[row]} at row {row}", "finite numbers")
    return best


def _checked_excluded(excluded: Any, batch: int) -> tuple[Int64, Int32]:
    if not isinstance(excluded, tuple) or len(excluded) != 2:
        problem = f"is {type(excluded).__name__}"
        refuse("excluded", problem, "a pair (indptr, rows)")
    rows = checked("excluded rows", excluded[1], np.int32, None)
    indptr = checked_indptr("excluded indptr", excluded[0], batch, rows.size)
    return indptr, _sorted_rows(indptr, rows)


def _sorted_rows(indptr: Int64, rows: Int32) -> Int32:
    """Sorts each query's rows: all at once, as (query, row) in one int64."""
    owners = np.repeat(np.arange(indptr.size - 1, dtype=np.int64) << 32, np.diff(indptr))
    return frozen((np.sort(owners + rows) - owners).astype(np.int32))
