"""The per-item bias: popularity that decays, from integer counters.

An item's counter is a sorted run of (bucket, count) pairs, a bucket being ``bucket_s`` of event
time. Its *level* is ``log2(sum(count * 2^(bucket / half_life)))``, half_life in buckets: a function
of that item's counter alone, so that levels are kept while time moves on. Popularity at bucket
``t`` is ``2^(level - t / half_life)``, and ``t`` is the newest bucket of the log, never the local
clock: the same log gives the same bias, whenever it is replayed.

``bias = weight * log1p(popularity) / log1p(greatest popularity)``, between 0 and ``weight``.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels import KeyTable
from rankstream.server.store import Txn, View

COUNT = np.dtype([("bucket", "<i4"), ("count", "<i4")])
# Buckets of one item that are kept: the newest. A set that only grows, so the order of arrival
# cannot matter; with the default width, the last 64 days on which the item was touched.
MAX_BUCKETS = 64


def add_counts(
    txn: Txn, keys: NDArray[np.uint64], buckets: NDArray[np.int64], deltas: NDArray[np.int64]
) -> dict[int, NDArray[np.void]]:
    """Adds counter deltas inside a write transaction.

    Args:
        txn: the transaction.
        keys: target keys ``uint64 [n]``, in any order, with repeats.
        buckets: ``int64 [n]``.
        deltas: ``int64 [n]``, may be negative.

    Returns:
        The new counter of each key touched: ``COUNT [at most MAX_BUCKETS]``.
    """
    order = np.lexsort((buckets, keys))
    keys, buckets, deltas = keys[order], buckets[order], deltas[order]
    starts = np.unique(keys, return_index=True)[1].tolist()
    touched: dict[int, NDArray[np.void]] = {}
    for start, stop in zip(starts, [*starts[1:], len(keys)], strict=True):
        key = int(keys[start])
        name = key.to_bytes(8, "little")
        counter = read_counter(txn.get("counters", name))
        counter = _merge(counter, buckets[start:stop], deltas[start:stop])
        txn.put("counters", name, counter.tobytes())
        touched[key] = counter
    return touched


def read_counter(blob: memoryview | bytes | None) -> NDArray[np.void]:
    """A stored counter as an array of its own: ``COUNT [n]``."""
    return np.frombuffer(bytes(blob or b""), COUNT)


def _merge(
    counter: NDArray[np.void], buckets: NDArray[np.int64], deltas: NDArray[np.int64]
) -> NDArray[np.void]:
    counts = dict(zip(counter["bucket"].tolist(), counter["count"].tolist(), strict=True))
    for bucket, delta in zip(buckets.tolist(), deltas.tolist(), strict=True):
        counts[bucket] = counts.get(bucket, 0) + delta
    kept = sorted((b, c) for b, c in counts.items() if c != 0)[-MAX_BUCKETS:]
    return np.array(kept, COUNT)


class Popularity:
    """Levels of all counted items, in the ingest process's memory.

    Attributes:
        revision: grows with each change.
    """

    def __init__(self, *, weight: float, half_life_s: float, bucket_s: int) -> None:
        self._weight = weight
        self._half_life = half_life_s / bucket_s
        self._slots: dict[int, int] = {}
        self._table = KeyTable()
        self._levels = np.full(1024, -np.inf)
        self._newest = np.iinfo(np.int32).min
        self.revision = 0

    def load(self, view: View) -> None:
        """Reads every counter once, at start."""
        found = {
            int.from_bytes(k, "little"): read_counter(v)
            for k, v in view.items_from("counters", b"")
        }
        self.update(found)

    def update(self, counters: dict[int, NDArray[np.void]]) -> None:
        """Takes over changed counters."""
        self.revision += bool(counters)
        fresh = [key for key in counters if key not in self._slots]
        for key in fresh:
            self._slots[key] = len(self._slots)
        if fresh:
            slots = np.arange(len(self._slots) - len(fresh), len(self._slots), dtype=np.int32)
            self._table.insert(np.array(fresh, np.uint64), slots)
            self._grow()
        for key, counter in counters.items():
            self._levels[self._slots[key]] = self._level(counter)
            if len(counter):
                self._newest = max(self._newest, int(counter["bucket"][-1]))

    def bias(self, keys: NDArray[np.uint64]) -> NDArray[np.float32]:
        """The bias of the items with these keys: ``float32 [n]``; 0 for one never counted."""
        slots = self._table.lookup(np.ascontiguousarray(keys))
        levels = np.where(slots >= 0, self._levels[slots], -np.inf)
        powers = np.log1p(np.exp2(levels - self._newest / self._half_life))
        greatest = powers.max(initial=0.0)
        if greatest == 0.0:
            return np.zeros(len(keys), np.float32)
        bias: NDArray[np.float32] = (self._weight * powers / greatest).astype(np.float32)
        return bias

    def _level(self, counter: NDArray[np.void]) -> float:
        if not len(counter):
            return -math.inf
        newest = int(counter["bucket"][-1])
        ages = (counter["bucket"].astype(np.float64) - newest) / self._half_life
        total = float((counter["count"] * np.exp2(ages)).sum())
        return math.log2(total) + newest / self._half_life if total > 0 else -math.inf

    def _grow(self) -> None:
        if len(self._slots) > len(self._levels):
            grown = np.full(2 * len(self._slots), -np.inf)
            grown[: len(self._levels)] = self._levels
            self._levels = grown
