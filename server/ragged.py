"""Lists of different lengths side by side, as the kernels take them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def ragged(
    lists: list[NDArray[np.int32]],
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """``(indptr int64 [B + 1], rows int32 [T])``: list b is ``rows[indptr[b]:indptr[b + 1]]``."""
    indptr = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(rows) for rows in lists], out=indptr[1:])
    return indptr, np.concatenate([np.empty(0, np.int32), *lists])
