"""Looking through an argument for what must not be in it, in one pass.

A NumPy expression makes temporary arrays and takes several calls, which for small arguments cost
more than the kernel that follows.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from rankstream.kernels.compilation import compiled


@compiled
def first_above(values: npt.NDArray[Any], most: float) -> int:
    """The first place whose magnitude exceeds ``most``, or that is NaN; -1: none."""
    for i in range(values.shape[0]):
        if not np.abs(values[i]) <= most:
            return i
    return -1


@compiled
def first_outside(rows: npt.NDArray[np.int32], low: int, high: int) -> int:
    """The first place that is not in ``low:high``; -1: none."""
    for i in range(rows.shape[0]):
        if not low <= rows[i] < high:
            return i
    return -1


@compiled
def rises(offsets: npt.NDArray[np.int64], step: int) -> bool:
    """Whether each offset is at least ``step`` more than the one before it."""
    for i in range(1, offsets.shape[0]):
        if offsets[i] - offsets[i - 1] < step:
            return False
    return True
