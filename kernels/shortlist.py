"""Shortlists of the scan by codes: rows that may be among the best, each between two bounds.

A shortlist is narrowed by its k-th greatest lower bound: k rows are known to reach that, so a row
whose upper bound stays below it is not among the best.
"""

from typing import NamedTuple

import numpy as np

from rankstream.kernels.arrays import Float32, Int32, Int64
from rankstream.kernels.compilation import compiled

_HALVINGS = 10
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
        thresholds: float32[P, B]: k rows of the part are known to reach it.
    """

    rows: Int32
    lower: Float32
    upper: Float32
    sizes: Int64
    due: Int64
    thresholds: Float32


@compiled
def reached_by(values: Float32, count: int, k: int) -> np.float32:
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
