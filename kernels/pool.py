"""Weighted pooling of histories into query vectors, ragged over a batch.

**Definition.** For a query with interactions t in the given order, block n of dimensions and block
weight v::

    total_d = sum over t of w_t * x_td            fp64, items in order, then texts in order,
                                                  product rounded before it is added, from +0
    norm    = sqrt(sum over d in n of total_d^2)  fp64, in the 8 lanes of ``lanes.py`` counted
                                                  from the block's start
    q_d     = fp32(total_d * (v / norm))          or 0 where norm is 0

so a query is rounded to fp32 once. The vector of an interaction is a row of the items, or, where
its row is -2 - i, row i of the texts: vectors that are no items' (what was searched for, said or
asked) and are few.
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
    checked_finite,
    checked_indptr,
    checked_items,
    first_bad,
)
from rankstream.kernels.device import split
from rankstream.kernels.errors import refuse
from rankstream.kernels.pool_cpu import pool_parallel, pool_serial
from rankstream.kernels.screening import first_above

MAX_WEIGHT = 1e90
"""Largest magnitude of an interaction's weight: no norm overflows below it."""


class Pooled(NamedTuple):
    """Query vectors, and what explains them.

    Attributes:
        queries: ``[B, D]`` float32, D being the items' dimensions; zero outside the blocks.
        norms: ``[B, n_blocks]`` float64, each block's norm before normalisation.
    """

    queries: Float32
    norms: Float64


def pool(
    rows: Int32,
    indptr: Int64,
    weights: Float64,
    items: Float32,
    block_offsets: Int64,
    block_weights: Float64,
    texts: Float32 | None = None,
) -> Pooled:
    """Pools each query's interactions as this module defines.

    Args:
        rows: ``[T]`` int32 rows of ``items``; -1 is unknown, and adds nothing; -2 - i is row i of
            ``texts``.
        indptr: ``[B + 1]`` int64; query b owns interactions ``indptr[b]:indptr[b + 1]``.
        weights: ``[T]`` float64, signed, at most ``MAX_WEIGHT`` in magnitude.
        items: ``[N, D]`` float32, C-contiguous, finite (not checked); may be read-only or
            memory-mapped.
        block_offsets: ``[n_blocks + 1]`` int64, rising from 0 to at most D; dimensions after the
            last are padding.
        block_weights: ``[B, n_blocks]`` float64, finite.
        texts: ``[E, D]`` float32, finite (not checked); None: there are none.

    Raises:
        KernelArgumentError: an argument is not as described.
    """
    items = checked_items(items)
    offsets = checked_block_offsets(block_offsets, items.shape[1])
    blocks = offsets.size - 1
    block_weights = checked_finite("block_weights", block_weights, np.float64, None, blocks)
    rows, indptr, weights = checked_history(rows, indptr, weights, block_weights.shape[0])
    texts = checked_texts(texts, items.shape[1])
    return pool_checked(rows, indptr, weights, items, texts, offsets, block_weights)


def pool_checked(
    rows: Int32,
    indptr: Int64,
    weights: Float64,
    items: Float32,
    texts: Float32,
    offsets: Int64,
    block_weights: Float64,
) -> Pooled:
    """``pool`` of arguments that are as it wants them, but that rows may not exist."""
    batch, blocks = block_weights.shape
    pooled = Pooled(np.empty((batch, items.shape[1]), np.float32), np.empty((batch, blocks)))
    bad = np.empty(split(rows.size * items.shape[1]), np.int64)
    fill = pool_serial if bad.size == 1 else pool_parallel
    fill(rows, indptr, weights, items, texts, offsets, block_weights, *pooled, bad)
    place = first_bad(bad)
    if place >= 0:
        refuse_row("rows", int(rows[place]), place, items.shape[0], texts.shape[0])
    return pooled


def checked_texts(texts: Any, dimensions: int) -> Float32:
    """Checks the shape of ``texts``, read-only; None becomes no rows."""
    if texts is None:
        texts = np.empty((0, dimensions), np.float32)
    found = checked_items(texts)
    if found.shape[1] != dimensions:
        refuse("texts", f"has {found.shape[1]} dimensions", f"{dimensions}, as items have")
    return found


def checked_history(
    rows: Any, indptr: Any, weights: Any, batch: int
) -> tuple[Int32, Int64, Float64]:
    """Checks the ragged interactions of ``batch`` queries, except that their rows exist."""
    rows = checked("rows", rows, np.int32, None)
    weights = checked("weights", weights, np.float64, rows.size)
    place = first_above(weights, MAX_WEIGHT)
    if place >= 0:
        wanted = f"finite numbers of magnitude at most {MAX_WEIGHT}"
        refuse("weights", f"is {weights[place]} at {place}", wanted)
    return rows, checked_indptr("indptr", indptr, batch, rows.size), weights


def refuse_row(name: str, row: int, place: int, count: int, texts: int = 0) -> None:
    """Raises the error for a row that does not exist."""
    wanted = f"-1 or a row below {count}"
    if texts:
        wanted += f", or from {-1 - texts} up for a text"
    refuse(name, f"is {row} at {place}", wanted)
