"""Shortlists of the scan by codes: rows that may be among the best, each between two bounds.

A shortlist is narrowed by its k-th greatest lower bound: k rows are known to reach that, so a row
whose upper bound stays below it is not among the best.
"""

from typing import NamedTuple

import numpy as np

from rankstream.kernels.arrays import Float32, Int32, Int64
from rankstream.kernels.code_layers import TILE
from rankstream.kernels.compilation import compiled
from rankstream.kernels.heap import key_of, score_of

_HALVINGS = 40
_ROUNDING = np.float32(2.0**-20)
TINY = np.float32(2.0**-100)


class Shortlists(NamedTuple):
    """Rows that may be among the best, of P parts and B queries, room for C each.

    Attributes:
        rows: int32[P, B, C].
        lower: float32[P, B, C], what their scores reach at least.
        upper: float32[P, B, C], at most.
        sizes: int64[P, B]; -1: they did not fit.
        due: int64[P, B], the size at which a query's are narrowed.
        thresholds: float32[P, B]: k rows are known to reach it.
        fair: float32[P, B]: ceil(k / P) rows of the part are known to; so k rows reach the least of
            all parts'.
    """

    rows: Int32
    lower: Float32
    upper: Float32
    sizes: Int64
    due: Int64
    thresholds: Float32
    fair: Float32


@compiled
def empty(found: Shortlists, k: int) -> None:
    """Makes them empty, for the k best."""
    due = min(2 * k, found.rows.shape[2] - TILE)
    found.sizes[:], found.due[:] = 0, due
    found.thresholds[:] = found.fair[:] = -np.inf


@compiled
def _between(low: np.float32, high: np.float32) -> np.float32:
    """The float half of all floats between two."""
    one = np.uint64(1)
    return score_of((key_of(low, 0) >> one) + (key_of(high, 0) >> one))


@compiled
def reached_by(values: Float32, count: int, k: int, least: np.float32) -> np.float32:
    """What at least ``k`` of ``values[:count]`` reach: close to the most that they do.

    By bisection, because counting is a few vector instructions, where a selection is a branch a
    value that nobody can predict. In turns by value, which is quick where values lie together, and
    by order of magnitude, because one of them may lie far from all others.

    Args:
        values: more than -inf, where something is known.
        count: how many.
        k: at least 1.
        least: what at least k of them are known to reach.
    """
    low, high, known = np.float32(np.inf), np.float32(-np.inf), 0
    for i in range(count):
        value = values[i]
        finite = value > -np.inf
        known += finite
        low = min(low, value) if finite else low
        high = max(high, value)
    if known < k:
        return least
    low = max(low, least)
    for step in range(_HALVINGS):
        if step % 4 == 3:
            middle = _between(low, high)
        else:
            middle = np.float32(np.float32(0.5) * low + np.float32(0.5) * high)
        reaching = 0
        for i in range(count):
            reaching += values[i] >= middle
        if reaching >= k:
            low = middle
            if reaching <= k + (k >> 3):
                break
        else:
            high = middle
    return low


@compiled
def below(threshold: np.float32) -> np.float32:
    """What rounds to at least ``threshold`` is not below this."""
    return np.float32(threshold - np.abs(threshold) * _ROUNDING - TINY)


@compiled
def narrow(rows: Int32, lower: Float32, upper: Float32, size: int, threshold: np.float32) -> int:
    """Drops what stays below a threshold; returns how many are left."""
    cut, kept = below(threshold), 0
    for i in range(size):
        rows[kept], lower[kept], upper[kept] = rows[i], lower[i], upper[i]
        kept += not upper[i] < cut
    return kept
