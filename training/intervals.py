"""How far a mean over users may be from what it estimates: 95% intervals."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_Z = 1.959964
_DRAWS = 1_000


def share_interval(hits: int, trials: int) -> tuple[float, float]:
    """The interval of a share, which is honest at 0 as well.

    The score interval of Wilson, "Probable inference, the law of succession, and statistical
    inference", JASA 22, 158, 1927.

    Raises:
        ValueError: there are no trials, or more hits than trials.
    """
    if not 0 <= hits <= trials or trials == 0:
        message = f"{hits} hits of {trials}; expected 1 trial or more, and no more hits than trials"
        raise ValueError(message)
    share, square = hits / trials, _Z * _Z / trials
    middle = (share + square / 2) / (1 + square)
    half = _Z * math.sqrt(share * (1 - share) / trials + square / trials / 4) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def mean_interval(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """The percentile bootstrap interval of a mean (Efron and Tibshirani 1993, chapter 13).

    For a paired comparison, give the differences.

    Args:
        values: ``float64 [n]``, one a user.
        seed: of the draws.

    Raises:
        ValueError: there are no values.
    """
    if not len(values):
        message = "no values; expected 1 or more"
        raise ValueError(message)
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(_DRAWS)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
