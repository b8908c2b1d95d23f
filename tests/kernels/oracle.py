"""The kernels' definitions as plain loops: slow, sequential, and sharing no code with them."""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Best(NamedTuple):
    rows: Array
    scores: Array
    counts: Array


def inner(q: Array, x: Array) -> np.float64:
    """The documented fp64 sum: eight lanes, then halves."""
    lane = [np.float64(0.0) for _ in range(8)]
    for d in range(len(q)):
        lane[d % 8] = lane[d % 8] + np.float64(q[d]) * np.float64(x[d])
    even = (lane[0] + lane[4]) + (lane[2] + lane[6])
    odd = (lane[1] + lane[5]) + (lane[3] + lane[7])
    return even + odd


def score(q: Array, x: Array, bias: Any) -> np.float32:
    """fp32(S + bias), a zero being +0."""
    with np.errstate(over="ignore", under="ignore"):
        rounded = np.float32(inner(q, x) + np.float64(bias))
    return np.float32(0.0) if rounded == 0 else rounded


def top_k(
    queries: Array,
    items: Array,
    k: int,
    bias: Array | None = None,
    allowed: Array | None = None,
    excluded: list[list[int]] | None = None,
) -> Best:
    """Scores everything, sorts by (score descending, row ascending)."""
    batch, count = len(queries), len(items)
    k = min(k, count)
    best = Best(
        np.full((batch, k), -1, np.int32),
        np.full((batch, k), -np.inf, np.float32),
        np.zeros(batch, np.int32),
    )
    for b in range(batch):
        found = []
        for row in range(count):
            if allowed is not None and not allowed[row]:
                continue
            if excluded is not None and row in excluded[b]:
                continue
            s = score(queries[b], items[row], 0.0 if bias is None else bias[row])
            found.append((-float(s), row))
        found.sort()
        best.counts[b] = min(k, len(found))
        for i, (negative, row) in enumerate(found[:k]):
            best.rows[b, i], best.scores[b, i] = row, np.float32(-negative) + np.float32(0)
    return best


def score_rows(
    queries: Array, items: Array, indptr: Array, rows: Array, bias: Array | None = None
) -> Array:
    scores = np.full(len(rows), -np.inf, np.float32)
    for b in range(len(queries)):
        for c in range(indptr[b], indptr[b + 1]):
            if rows[c] != -1:
                added = 0.0 if bias is None else bias[rows[c]]
                scores[c] = score(queries[b], items[rows[c]], added)
    return scores


def rank(indptr: Array, rows: Array, scores: Array, k: int) -> Best:
    """Positions within each query's candidates by (score descending, row, position ascending)."""
    batch = len(indptr) - 1
    k = min(k, max((int(indptr[b + 1] - indptr[b]) for b in range(batch)), default=0))
    best = Best(
        np.full((batch, k), -1, np.int32),
        np.full((batch, k), -np.inf, np.float32),
        np.zeros(batch, np.int32),
    )
    for b in range(batch):
        found = [
            (-float(scores[c]), int(rows[c]), c - int(indptr[b]))
            for c in range(indptr[b], indptr[b + 1])
            if rows[c] != -1
        ]
        found.sort()
        best.counts[b] = min(k, len(found))
        for i, (negative, _, position) in enumerate(found[:k]):
            best.rows[b, i], best.scores[b, i] = position, np.float32(-negative) + np.float32(0)
    return best


def pool(
    rows: Array,
    indptr: Array,
    weights: Array,
    items: Array,
    offsets: Array,
    block_weights: Array,
) -> tuple[Array, Array]:
    batch, blocks = block_weights.shape
    queries = np.zeros((batch, items.shape[1]), np.float32)
    norms = np.zeros((batch, blocks))
    for b in range(batch):
        total = [np.float64(0.0)] * int(offsets[-1])
        for t in range(indptr[b], indptr[b + 1]):
            if rows[t] == -1:
                continue
            for d in range(len(total)):
                total[d] = total[d] + weights[t] * np.float64(items[rows[t], d])
        for n in range(blocks):
            block = total[offsets[n] : offsets[n + 1]]
            norms[b, n] = math.sqrt(inner(np.array(block), np.array(block)))
            if norms[b, n] > 0:
                scale = block_weights[b, n] / norms[b, n]
                with np.errstate(over="ignore", under="ignore"):
                    queries[b, offsets[n] : offsets[n + 1]] = [
                        np.float32(value * scale) for value in block
                    ]
    return queries, norms


def contributions(
    rows: Array,
    indptr: Array,
    weights: Array,
    norms: Array,
    items: Array,
    offsets: Array,
    block_weights: Array,
    pair_rows: Array,
    pair_indptr: Array,
    n_reasons: int,
) -> tuple[Array, Array]:
    shape = (len(pair_rows), n_reasons)
    interactions, best = np.full(shape, -1, np.int32), np.zeros(shape)
    for b in range(len(norms)):
        for pair in range(pair_indptr[b], pair_indptr[b + 1]):
            found = []
            for t in range(indptr[b], indptr[b + 1]):
                if rows[t] == -1 or pair_rows[pair] == -1:
                    continue
                total = np.float64(0.0)
                for n in range(len(offsets) - 1):
                    span = slice(offsets[n], offsets[n + 1])
                    scale = block_weights[b, n] / norms[b, n] if norms[b, n] > 0 else 0.0
                    dot = inner(items[pair_rows[pair], span], items[rows[t], span])
                    total = total + weights[t] * scale * dot
                found.append((-total, t - int(indptr[b])))
            found.sort()
            for i, (negative, interaction) in enumerate(found[:n_reasons]):
                interactions[pair, i], best[pair, i] = interaction, -negative
    return interactions, best


def block_parts(queries: Array, items: Array, indptr: Array, rows: Array, offsets: Array) -> Array:
    parts = np.zeros((len(rows), len(offsets) - 1))
    for b in range(len(queries)):
        for pair in range(indptr[b], indptr[b + 1]):
            for n in range(len(offsets) - 1):
                span = slice(offsets[n], offsets[n + 1])
                if rows[pair] != -1:
                    parts[pair, n] = inner(queries[b, span], items[rows[pair], span])
    return parts
