"""Exact scores and ranking of given candidates, ragged over a batch of queries."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rankstream.kernels.arrays import (
    Float32,
    Int32,
    Int64,
    checked,
    checked_bias,
    checked_count,
    checked_indptr,
    checked_pair,
    first_bad,
    freeze,
)
from rankstream.kernels.device import split
from rankstream.kernels.errors import refuse
from rankstream.kernels.rank_cpu import pick, score_parallel, score_serial, select


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """The best candidates of each query; ties go to the lower row, then the earlier candidate.

    Attributes:
        positions: ``[B, K]`` int32, a candidate's index within its query's; -1 where there are
            fewer than K.
        scores: ``[B, K]`` float32; -inf where ``positions`` is -1.
        counts: ``[B]`` int32, how many of the K are candidates.
    """

    positions: Int32
    scores: Float32
    counts: Int32


class Best(NamedTuple):
    """The best rows of B queries, ragged, best first; b's are ``indptr[b]:indptr[b + 1]``.

    Attributes:
        indptr: int64[B + 1].
        rows: int32[P], every one an item's.
        scores: float32[P].
    """

    indptr: Int64
    rows: Int32
    scores: Float32


def score_rows(
    queries: Float32,
    items: Float32,
    indptr: Int64,
    rows: Int32,
    *,
    bias: Float32 | None = None,
) -> Float32:
    """Scores of given candidates, the same to the last bit as ``top_k``'s.

    Args:
        queries: ``[B, D]`` float32, finite.
        items: ``[N, D]`` float32, C-contiguous, finite (not checked); may be read-only or
            memory-mapped.
        indptr: ``[B + 1]`` int64; query b owns candidates ``indptr[b]:indptr[b + 1]``.
        rows: ``[C]`` int32 rows of ``items``; -1 is an unknown item. Duplicates are scored like
            others.
        bias: ``[N]`` float32, added to each row's score; finite for every candidate.

    Returns:
        ``[C]`` float32; -inf for row -1.

    Raises:
        KernelArgumentError: an argument is not as described.
    """
    queries, items = checked_pair(queries, items)
    rows = checked("rows", rows, np.int32, None)
    indptr = checked_indptr("indptr", indptr, queries.shape[0], rows.size)
    return _score(queries, items, indptr, rows, checked_bias(bias, items.shape[0]))


def rank_candidates(
    queries: Float32,
    items: Float32,
    indptr: Int64,
    rows: Int32,
    k: int,
    *,
    bias: Float32 | None = None,
) -> Ranking:
    """The k best candidates of each query; arguments and scores are those of ``score_rows``.

    Args:
        queries: ``[B, D]`` float32.
        items: ``[N, D]`` float32.
        indptr: ``[B + 1]`` int64.
        rows: ``[C]`` int32; unknown candidates (-1) are left out, duplicates are kept.
        k: At least 1; K = min(k, the longest query's candidates).
        bias: ``[N]`` float32 or None.

    Raises:
        KernelArgumentError: an argument is not as described.
    """
    queries, items = checked_pair(queries, items)
    rows = checked("rows", rows, np.int32, None)
    batch = queries.shape[0]
    indptr = checked_indptr("indptr", indptr, batch, rows.size)
    scores = _score(queries, items, indptr, rows, checked_bias(bias, items.shape[0]))
    k = min(checked_count("k", k), int(np.diff(indptr).max(initial=0)))
    ranking = Ranking(
        np.empty((batch, k), np.int32), np.empty((batch, k), np.float32), np.empty(batch, np.int32)
    )
    select(indptr, rows, scores, ranking.positions, ranking.scores, ranking.counts)
    return ranking


def pick_candidates(
    queries: Float32, items: Float32, indptr: Int64, rows: Int32, ks: Int64, bias: Float32
) -> Best:
    """As ``rank_candidates`` with a k for each query, ragged, and for arguments that are right.

    Args:
        queries: ``[B, D]`` float32, finite.
        items: ``[N, D]`` float32, read-only.
        indptr: ``[B + 1]`` int64.
        rows: ``[C]`` int32, -1 or below N; a row is given once a query.
        ks: ``[B]`` int64, from 0 up.
        bias: ``[N]`` float32, read-only.
    """
    freeze((queries, indptr, rows, ks))
    return Best(*pick(indptr, rows, _score(queries, items, indptr, rows, bias), ks))


def _score(queries: Float32, items: Float32, indptr: Int64, rows: Int32, bias: Any) -> Float32:
    scores = np.empty(rows.size, np.float32)
    bad = np.empty(split(rows.size * items.shape[1]), np.int64)
    score = score_serial if bad.size == 1 else score_parallel
    score(queries, items, indptr, rows, bias, scores, bad)
    place = first_bad(bad)
    if place >= 0:
        _refuse(place, rows, bias, items.shape[0])
    return scores


def _refuse(place: int, rows: Int32, bias: Float32, count: int) -> None:
    row = int(rows[place])
    if not -1 <= row < count:
        refuse("rows", f"is {row} at {place}", f"-1 or a row below {count}")
    refuse("bias", f"is {bias[row]} at row {row}", "finite numbers")
