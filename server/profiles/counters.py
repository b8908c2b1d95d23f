"""Popularity counters: what a batch adds to each (item, time bucket).

A counter is a sum over log records, of whatever users they are, so it does not depend on their
order; watermarks take no part. A record is not counted where its event_id is still retained; where
its content is greater than the retained one, it takes that one's place. Beyond what is retained, a
duplicate counts again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rankstream.kernels.counters import sum_rows


@dataclass(frozen=True, slots=True)
class Counts:
    """Deltas other than zero, each (target key, bucket) once, in that order.

    Attributes:
        target_keys: uint64[n].
        buckets: int64[n], event_time_ms // bucket_ms.
        deltas: int64[n].
    """

    target_keys: npt.NDArray[np.uint64]
    buckets: npt.NDArray[np.int64]
    deltas: npt.NDArray[np.int64]


def sum_counts(rows: npt.NDArray[np.int64]) -> Counts:
    """Sums rows int64[n, 3] of (target key, bucket, delta)."""
    return Counts(*sum_rows(np.ascontiguousarray(rows)))
