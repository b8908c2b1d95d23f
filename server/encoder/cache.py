"""Remembers the vectors of texts, under a budget of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# What an entry costs beside its floats: the array object, the key and the slot of the table.
ENTRY_BYTES = 256


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters since the start, and what is held now."""

    hits: int
    misses: int
    evictions: int
    entries: int
    held_bytes: int


class VectorCache:
    """Least-recently-used map of ``text_hash`` to a vector. Safe among threads.

    One cache serves one vector space: whoever changes the encoder makes a new cache.
    """

    def __init__(self, max_bytes: int) -> None:
        """An empty cache.

        Args:
            max_bytes: budget; 0 remembers nothing.
        """
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._vectors: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._held_bytes = 0
        self._hits = self._misses = self._evictions = 0

    def get(self, keys: Sequence[bytes]) -> list[NDArray[np.float32] | None]:
        """The vector [D] float32, read-only, of each key; None where it is not known."""
        with self._lock:
            found = [self._vectors.get(key) for key in keys]
            for key, vector in zip(keys, found, strict=True):
                if vector is not None:
                    self._vectors.move_to_end(key)
            known = sum(vector is not None for vector in found)
            self._hits += known
            self._misses += len(found) - known
        return found

    def put(self, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        """Remembers vectors [B, D] float32, and forgets the least recently used over the budget."""
        for key, vector in zip(keys, vectors, strict=True):
            # A copy: a view would keep the whole batch alive, beyond any budget.
            own = vector.copy()
            own.flags.writeable = False
            with self._lock:
                self._drop(key)
                self._vectors[key] = own
                self._held_bytes += own.nbytes + ENTRY_BYTES
                while self._held_bytes > self._max_bytes:
                    self._drop(next(iter(self._vectors)))
                    self._evictions += 1

    def stats(self) -> CacheStats:
        """The counters, all of one moment."""
        with self._lock:
            counters = (self._hits, self._misses, self._evictions)
            return CacheStats(*counters, len(self._vectors), self._held_bytes)

    def _drop(self, key: bytes) -> None:
        old = self._vectors.pop(key, None)
        if old is not None:
            self._held_bytes -= old.nbytes + ENTRY_BYTES
