"""Where a score comes from: its parts per block, and the past interactions that caused it.

**Definition.** With a query pooled as ``pool.py`` defines, interaction t adds to the score of item
row r::

    c_t = sum over blocks n, in order, of (w_t * (v_n / norm_n)) * (x_t . x_r over block n)

in fp64, a block of norm 0 adding 0; the inner product is summed in the 8 lanes of ``lanes.py``
counted from the block's start; x_t is a row of the items, or of the texts, as in ``pool.py``. The
sum of all c_t and the bias is the score, but for the query's
rounding to fp32.
"""

from typing import Any, NamedTuple

import numpy as np

from rankstream.kernels.arrays import (
    Float32,
    Float64,
    Int32,
    Int64,
    checked,
    checked_block_offsets,
    checked_count,
    checked_finite,
    checked_indptr,
    checked_items,
    checked_pair,
)
from rankstream.kernels.device import split
from rankstream.kernels.explain_cpu import explain_parallel, explain_serial, sum_blocks
from rankstream.kernels.lanes import TILE_QUERIES
from rankstream.kernels.pool import checked_history, checked_texts, refuse_row
from rankstream.kernels.screening import first_outside


class Reasons(NamedTuple):
    """The interactions that add most to each pair's score.

    Ties go to an item before a text, then to the earlier one.

    Attributes:
        interactions: ``[P, n_reasons]`` int32, an index within the query's interactions; -1 where
            there are fewer.
        contributions: ``[P, n_reasons]`` float64, possibly negative; 0 where ``interactions`` is
            -1.
    """

    interactions: Int32
    contributions: Float64


def contributions(
    rows: Int32,
    indptr: Int64,
    weights: Float64,
    norms: Float64,
    items: Float32,
    block_offsets: Int64,
    block_weights: Float64,
    pair_rows: Int32,
    pair_indptr: Int64,
    n_reasons: int,
    texts: Float32 | None = None,
) -> Reasons:
    """The exact contributions of past interactions to the scores of given (query, item) pairs.

    Args:
        rows: ``[T]`` int32, as given to ``pool``; what is unknown (-1) is no reason.
        indptr: ``[B + 1]`` int64, as given to ``pool``.
        weights: ``[T]`` float64, as given to ``pool``.
        norms: ``[B, n_blocks]`` float64, as ``pool`` returned them.
        items: ``[N, D]`` float32.
        block_offsets: ``[n_blocks + 1]`` int64.
        block_weights: ``[B, n_blocks]`` float64.
        pair_rows: ``[P]`` int32, the item of each pair; -1 has no reasons.
        pair_indptr: ``[B + 1]`` int64; query b owns pairs ``pair_indptr[b]:pair_indptr[b + 1]``.
        n_reasons: At least 1.
        texts: ``[E, D]`` float32, as given to ``pool``.

    Raises:
        KernelArgumentError: an argument is not as described.
    """
    items = checked_items(items)
    offsets = checked_block_offsets(block_offsets, items.shape[1])
    block_weights = checked_finite(
        "block_weights", block_weights, np.float64, None, offsets.size - 1
    )
    batch = block_weights.shape[0]
    norms = checked_finite("norms", norms, np.float64, *block_weights.shape)
    rows, indptr, weights = checked_history(rows, indptr, weights, batch)
    texts = checked_texts(texts, items.shape[1])
    place = first_outside(rows, -1 - texts.shape[0], items.shape[0])
    if place >= 0:
        refuse_row("rows", int(rows[place]), place, items.shape[0], texts.shape[0])
    pair_rows, pair_indptr = _checked_pairs(pair_rows, pair_indptr, batch, items.shape[0])
    shape = (pair_rows.size, checked_count("n_reasons", n_reasons))
    reasons = Reasons(np.empty(shape, np.int32), np.empty(shape))
    history = rows, indptr, weights, block_weights, norms
    explain_checked(*history, items, texts, offsets, pair_rows, pair_indptr, reasons)
    return reasons


def explain_checked(
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
    reasons: Reasons,
) -> None:
    """Fills ``reasons``, for arguments that are as ``contributions`` wants them."""
    history = rows, indptr, weights, block_weights, norms
    batch = max(len(pair_indptr) - 1, 1)
    # What a row costs once loaded for one pair, it costs for four.
    parts = split(pair_rows.size * rows.size * items.shape[1] // (TILE_QUERIES * batch))
    if parts == 1:
        explain_serial(*history, items, texts, offsets, pair_rows, pair_indptr, *reasons)
    else:
        explain_parallel(parts, *history, items, texts, offsets, pair_rows, pair_indptr, *reasons)


def block_parts(
    queries: Float32, items: Float32, indptr: Int64, rows: Int32, block_offsets: Int64
) -> Float64:
    """The exact inner product of given (query, item) pairs over each block.

    Args:
        queries: ``[B, D]`` float32, finite.
        items: ``[N, D]`` float32.
        indptr: ``[B + 1]`` int64; query b owns pairs ``indptr[b]:indptr[b + 1]``.
        rows: ``[P]`` int32, the item of each pair; -1 is an unknown item, whose parts are 0.
        block_offsets: ``[n_blocks + 1]`` int64.

    Returns:
        ``[P, n_blocks]`` float64, each summed in the lanes of ``lanes.py`` counted from the block's
        start. They sum to S but for the last fp64 bits.

    Raises:
        KernelArgumentError: an argument is not as described.
    """
    queries, items = checked_pair(queries, items)
    offsets = checked_block_offsets(block_offsets, items.shape[1])
    rows, indptr = _checked_pairs(rows, indptr, queries.shape[0], items.shape[0])
    sums = np.empty((rows.size, offsets.size - 1))
    sum_blocks(queries, items, indptr, rows, offsets, sums)
    return sums


def _checked_pairs(rows: Any, indptr: Any, batch: int, count: int) -> tuple[Int32, Int64]:
    rows = checked("pair rows", rows, np.int32, None)
    _check_rows("pair rows", rows, count)
    return rows, checked_indptr("pair indptr", indptr, batch, rows.size)


def _check_rows(name: str, rows: Int32, count: int) -> None:
    place = first_outside(rows, -1, count)
    if place >= 0:
        refuse_row(name, int(rows[place]), place, count)
