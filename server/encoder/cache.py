"""Remembers the vectors of texts, under a budget of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rankstream.server.encoder.base import Encoded

# What an entry costs beside its floats: the array object, the key and the slot of the table.
ENTRY_BYTES = 256


class Remembered(NamedTuple):
    """A text's vector ``float32 [D]``, read-only, and what was read to make it."""

    vector: NDArray[np.float32]
    tokens: int
    truncated: bool


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
        self._known: OrderedDict[bytes, Remembered] = OrderedDict()
        self._held_bytes = 0
        self._hits = self._misses = self._evictions = 0

    def get(self, keys: Sequence[bytes]) -> list[Remembered | None]:
        """What is remembered of each key; None where it is not known."""
        with self._lock:
            found = [self._known.get(key) for key in keys]
            for key, one in zip(keys, found, strict=True):
                if one is not None:
                    self._known.move_to_end(key)
            known = sum(one is not None for one in found)
            self._hits += known
            self._misses += len(found) - known
        return found

    def put(self, keys: Sequence[bytes], encoded: Encoded) -> None:
        """Remembers B texts, and forgets the least recently used over the budget."""
        counts = encoded.tokens.tolist(), encoded.truncated.tolist()
        for key, vector, tokens, cut in zip(keys, encoded.vectors, *counts, strict=True):
            # A copy: a view would keep the whole batch alive, beyond any budget.
            own = vector.copy()
            own.flags.writeable = False
            with self._lock:
                self._drop(key)
                self._known[key] = Remembered(own, tokens, cut)
                self._held_bytes += own.nbytes + ENTRY_BYTES
                while self._held_bytes > self._max_bytes:
                    self._drop(next(iter(self._known)))
                    self._evictions += 1

    def stats(self) -> CacheStats:
        """The counters, all of one moment."""
        with self._lock:
            counters = (self._hits, self._misses, self._evictions)
            return CacheStats(*counters, len(self._known), self._held_bytes)

    def _drop(self, key: bytes) -> None:
        old = self._known.pop(key, None)
        if old is not None:
            self._held_bytes -= old.vector.nbytes + ENTRY_BYTES
