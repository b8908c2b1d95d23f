"""Columns: the facts of one name and kind, gathered the first time that a filter names them."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels import KeyTable, mark_rows, read_column
from rankstream.server.catalog.bounded_cache import BoundedCache
from rankstream.server.catalog.view import Catalogue
from rankstream.server.filters import Within

Number = TypeVar("Number", bound=np.generic)

_CHUNK = 1 << 16


class Columns:
    """The columns of one catalogue that filters have named lately. For one thread at a time.

    Args:
        catalogue: whose rows; when it has moved on, a column follows as soon as it is asked.
        max_columns: how many are held.
        max_bytes: what they weigh together.
    """

    def __init__(self, catalogue: Catalogue, max_columns: int, max_bytes: int) -> None:
        self._catalogue = catalogue
        self._held: BoundedCache[int, _Column] = BoundedCache(max_columns, max_bytes)
        self._known = KeyTable()
        self._generation = self._rows = 0

    def mark(self, test: Within) -> NDArray[np.uint8]:
        """The rows that pass, dead ones too: ``uint8 [ceil(N / 8)]``, little bit order."""
        column, spans = self._column(test.column), np.array(test.spans, np.uint64).reshape(-1, 2)
        lows, highs = np.ascontiguousarray(spans.T)
        return mark_rows(column.rows, column.values, lows, highs, self._catalogue.head.rows)

    def _column(self, key: int) -> _Column:
        self._follow()
        if self._known.lookup(np.array([key], np.uint64))[0] < 0:
            # Names that no item has cost a look-up, and no memory.
            return _Column()
        column = self._held.get(key) or _Column()
        column.read(self._catalogue, key)
        self._held.put(key, column, column.held_bytes)
        return column

    def _follow(self) -> None:
        """Learns which columns the rows have that were appended."""
        head, ends = self._catalogue.head, self._catalogue.fact_ends
        if head.generation != self._generation:
            self._held.clear()
            self._known, self._generation, self._rows = KeyTable(), head.generation, 0
        begin, end = (int(ends[rows - 1]) if rows else 0 for rows in (self._rows, head.rows))
        for at in range(begin, end, _CHUNK):
            keys = np.ascontiguousarray(self._catalogue.facts[at : min(at + _CHUNK, end), 0])
            fresh = np.unique(keys[self._known.lookup(keys) < 0])
            self._known.insert(fresh, np.zeros(len(fresh), np.int32))
        self._rows = head.rows


class _Column:
    """Grows at its end; its arrays have room to spare, so that most growth copies little."""

    def __init__(self) -> None:
        self._rows = np.empty(0, np.int32)
        self._values = np.empty(0, np.uint64)
        self._count = self._read_rows = 0

    @property
    def rows(self) -> NDArray[np.int32]:
        """``int32 [n]``, not falling: the row of each fact."""
        return self._rows[: self._count]

    @property
    def values(self) -> NDArray[np.uint64]:
        """``uint64 [n]``."""
        return self._values[: self._count]

    @property
    def held_bytes(self) -> int:
        return self._rows.nbytes + self._values.nbytes

    def read(self, catalogue: Catalogue, key: int) -> None:
        """Adds the facts of the rows since the last time."""
        stop = catalogue.head.rows
        if stop == self._read_rows:
            return
        rows, values = read_column(catalogue.fact_ends, catalogue.facts, self._read_rows, stop, key)
        end = self._count + len(rows)
        if end > len(self._rows):
            # Read for the first time: as it is. From then on it grows.
            room = end + end // 4 if self._count else end
            self._rows, self._values = _resized(self._rows, room), _resized(self._values, room)
        self._rows[self._count : end], self._values[self._count : end] = rows, values
        self._count, self._read_rows = end, stop


def _resized(array: NDArray[Number], room: int) -> NDArray[Number]:
    grown = np.empty(room, array.dtype)
    grown[: len(array)] = array
    return grown
