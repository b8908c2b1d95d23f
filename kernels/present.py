"""From the best rows to the bytes of an answer: parts, reasons, encoding."""

from typing import NamedTuple

import numpy as np

from rankstream.kernels.arrays import Float32, Float64, Int32, Int64, freeze
from rankstream.kernels.compilation import compiled
from rankstream.kernels.encode import Ranked, Why, encode_items
from rankstream.kernels.explain import Reasons, explain_checked
from rankstream.kernels.explain_cpu import sum_blocks
from rankstream.kernels.pool import Pooled
from rankstream.kernels.query import Extras, Past, Space
from rankstream.kernels.rank import Best
from rankstream.kernels.texts import Texts


class Wanted(NamedTuple):
    """What each query's answer shows.

    Attributes:
        items: int64[B], how many of the best items have reasons.
        reasons: int64[B], how many each of them has at most.
        biased: int64[B], 1 where the bias is part of the scores, else 0.
    """

    items: Int64
    reasons: Int64
    biased: Int64


@compiled
def rank_parts(
    best: Best, queries: Float32, items: Float32, offsets: Int64, bias: Float32, biased: Int64
) -> tuple[Float64, Float32]:
    """The parts and the bias of every row."""
    parts = np.empty((best.rows.shape[0], offsets.shape[0] - 1))
    sum_blocks(queries, items, best.indptr, best.rows, offsets, parts)
    biases = np.zeros(best.rows.shape[0], np.float32)
    for b in range(biased.shape[0]):
        for place in range(best.indptr[b], best.indptr[b + 1]):
            if biased[b] and best.rows[place] < bias.shape[0]:
                biases[place] = bias[best.rows[place]]
    return parts, biases


@compiled
def pick_explained(best: Best, wanted: Wanted) -> tuple[Int64, Int32]:
    """Which rows have reasons, ragged."""
    indptr = np.zeros(best.indptr.shape[0], np.int64)
    rows = np.empty(best.rows.shape[0], np.int32)
    for b in range(indptr.shape[0] - 1):
        most = wanted.items[b] if wanted.reasons[b] > 0 else 0
        count = min(most, best.indptr[b + 1] - best.indptr[b])
        indptr[b + 1] = indptr[b] + count
        for i in range(count):
            rows[indptr[b] + i] = best.rows[best.indptr[b] + i]
    return indptr, rows[: indptr[-1]]


def present(
    best: Best,
    past: Past,
    pooled: Pooled,
    space: Space,
    block_weights: Float64,
    extras: Extras,
    bias: Float32,
    wanted: Wanted,
    ids: Texts,
    kinds: Texts,
) -> list[memoryview]:
    """``RankResponse.items`` of each query, encoded.

    Args:
        best: what was found; rows below ``len(space.items)``, not checked.
        past: as ``make_queries`` returned it.
        pooled: likewise.
        space: as it was given to it.
        block_weights: float64[B, n_blocks], what ``pooled`` was pooled with, read-only.
        extras: likewise.
        bias: float32[.], 0 for rows behind its end.
        wanted: which items have reasons.
        ids: item ids by row.
        kinds: names of event types by number.
    """
    items, offsets = space.items, space.offsets
    freeze((*best, *wanted, *pooled))
    parts, biases = rank_parts(best, pooled.queries, items, offsets, bias, wanted.biased)
    ranked = Ranked(best.indptr, best.rows, best.scores, parts, biases)
    why = _reasons(best, past, pooled, space, block_weights, extras, wanted)
    return encode_items(ranked, ids, why, past, kinds, extras.labels)


def _reasons(
    best: Best,
    past: Past,
    pooled: Pooled,
    space: Space,
    block_weights: Float64,
    extras: Extras,
    wanted: Wanted,
) -> Why:
    indptr, rows = pick_explained(best, wanted)
    shape = (len(rows), int(wanted.reasons.max(initial=0)))
    reasons = Reasons(np.empty(shape, np.int32), np.empty(shape))
    if reasons.interactions.size:
        freeze((indptr, rows))
        history = past.rows, past.indptr, past.weights, block_weights, pooled.norms
        vectors = space.items, extras.vectors
        explain_checked(*history, *vectors, space.offsets, rows, indptr, reasons)
    return Why(indptr, wanted.reasons, *reasons)
