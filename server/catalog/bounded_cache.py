"""A map that remembers what was used last, under a budget of entries and of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class BoundedCache(Generic[Key, Value]):
    """Least-recently-used map. For one thread at a time.

    Attributes:
        held_bytes: what the values weigh together, as they were put in.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        """An empty map of at most so many values and bytes."""
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._values: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Key) -> Value | None:
        """The value, which counts as used now."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def put(self, key: Key, value: Value, size: int) -> None:
        """Sets a value of ``size`` bytes; whatever is used least leaves, be it this value."""
        self._drop(key)
        self._values[key] = value, size
        self.held_bytes += size
        while len(self._values) > self._max_entries or self.held_bytes > self._max_bytes:
            self._drop(next(iter(self._values)))

    def clear(self) -> None:
        """Forgets everything."""
        self._values.clear()
        self.held_bytes = 0

    def _drop(self, key: Key) -> None:
        old = self._values.pop(key, None)
        if old is not None:
            self.held_bytes -= old[1]
