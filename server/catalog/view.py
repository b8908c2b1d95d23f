"""The catalogue as one worker sees it: the mapped rows, and what makes them answerable.

Only the engine touches it. ``sync`` brings it to the version of a read transaction, so that
everything computed inside that transaction is of one version.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels import KeyTable
from rankstream.kernels.arrays import freeze
from rankstream.kernels.codes import Codes
from rankstream.kernels.query import Space
from rankstream.server.catalog.blocks import Layout
from rankstream.server.catalog.segments import Segments, generation_folder
from rankstream.server.store import View
from rankstream.server.types import Head


class Catalogue:
    """Rows, liveness, keys and bias.

    Attributes:
        head: the counts it stands at.
        layout: the blocks of a row.
        table: item key -> live row.
        changes: grows whenever what the properties show has changed.
    """

    def __init__(self, folder: Path, layout: Layout) -> None:
        self._folder = folder
        self.layout = layout
        self.head = Head(0, 0, 0, 0)
        self.table = KeyTable()
        self._segments: Segments | None = None
        self._alive = np.zeros(0, np.uint8)
        self._bias = np.zeros(0, np.float32)
        self._bias_sequence = 0
        self.changes = 0

    @property
    def rows(self) -> NDArray[np.float32]:
        """``float32 [N, stride]``, memory-mapped and read-only."""
        if self._segments is None:
            return np.zeros((0, self.layout.stride), np.float32)
        return self._segments.rows[: self.head.rows]

    @property
    def codes(self) -> Codes | None:
        """The rows' codes; None where there are no rows."""
        if self._segments is None:
            return None
        return self._segments.codes._replace(row_count=self.head.rows)

    @property
    def keys(self) -> NDArray[np.uint64]:
        """``uint64 [N]``: the item key of each row, dead or alive."""
        if self._segments is None:
            return np.zeros(0, np.uint64)
        return self._segments.keys[: self.head.rows]

    @property
    def ids(self) -> NDArray[np.uint8]:
        """The item_ids' UTF-8 of all rows, one after the other: ``uint8 [bytes]``, mapped whole."""
        return self._segments.ids if self._segments is not None else np.zeros(0, np.uint8)

    @property
    def id_ends(self) -> NDArray[np.int64]:
        """``int64 [N]``: where in ``ids`` each row's item_id ends, and the next row's begins."""
        if self._segments is None:
            return np.zeros(0, np.int64)
        return self._segments.id_ends[: self.head.rows]

    @property
    def space(self) -> Space:
        """The rows and what weight their blocks have, read-only."""
        layout = self.layout
        space = Space(self.rows, layout.offsets, layout.weights)
        freeze(space)
        return space

    def item_id(self, row: int) -> str:
        """The item_id of one row."""
        start = int(self.id_ends[row - 1]) if row else 0
        return self.ids[start : self.id_ends[row]].tobytes().decode()

    @property
    def fact_ends(self) -> NDArray[np.int64]:
        """``int64 [N]``: where in ``facts`` each row's facts end, and the next row's begin."""
        if self._segments is None:
            return np.zeros(0, np.int64)
        return self._segments.fact_ends[: self.head.rows]

    @property
    def facts(self) -> NDArray[np.uint64]:
        """The facts of all rows, one after the other: ``uint64 [T, 2]``, mapped whole."""
        return self._segments.facts if self._segments is not None else np.zeros((0, 2), np.uint64)

    @property
    def alive(self) -> NDArray[np.uint8]:
        """Live rows as a bitmask, little bit order: ``uint8 [ceil(N / 8)]``."""
        return self._alive[: -(-self.head.rows // 8)]

    @property
    def bias(self) -> NDArray[np.float32]:
        """``float32 [N]``."""
        return self._bias[: self.head.rows]

    def sync(self, view: View, bias_sequence: int) -> None:
        """Moves to the version that ``view`` sees, and to the newest bias."""
        head = view.head()
        if head.catalogue_version != self.head.catalogue_version:
            self._advance(view, head)
            self.changes += 1
        if bias_sequence != self._bias_sequence:
            self._load_bias(bias_sequence)
            self.changes += 1

    def _advance(self, view: View, head: Head) -> None:
        old = self.head
        if self._segments is None or head.generation != old.generation:
            layout = self.layout
            self._segments = Segments(self._folder, head.generation, layout.stride, layout.offsets)
            self.table, old = KeyTable(), Head(head.generation, 0, 0, 0)
        self._reserve(head.rows)
        fresh = np.arange(old.rows, head.rows, dtype=np.int32)
        self.table.insert(self._segments.keys[old.rows : head.rows], fresh)
        set_bits(self._alive, fresh)
        dead = view.tombstones_after(old.catalogue_version)
        clear_bits(self._alive, dead)
        keys = self._segments.keys[dead]
        gone = self.table.lookup(keys) == dead
        self.table.insert(keys[gone], np.full(int(gone.sum()), -1, np.int32))
        self.head = head

    def _reserve(self, rows: int) -> None:
        if rows > len(self._bias):
            room = max(1024, rows + rows // 4)
            self._bias = np.concatenate([self._bias, np.zeros(room - len(self._bias), np.float32)])
            bits = -(-room // 8) - len(self._alive)
            self._alive = np.concatenate([self._alive, np.zeros(max(bits, 0), np.uint8)])

    def _load_bias(self, sequence: int) -> None:
        try:
            path = bias_path(self._folder, self.head.generation, sequence)
            fresh = np.fromfile(path, np.float32)
        except FileNotFoundError:
            # Ingest has put a newer one in place between the announcement and now.
            return
        bias = np.zeros(max(len(self._bias), len(fresh)), np.float32)
        bias[: len(fresh)] = fresh
        self._bias, self._bias_sequence = bias, sequence
        if len(self._alive) * 8 < len(bias):
            grown = np.zeros(-(-len(bias) // 8), np.uint8)
            grown[: len(self._alive)] = self._alive
            self._alive = grown


def bias_path(folder: Path, generation: int, sequence: int) -> Path:
    """Where ingest puts a bias array of a generation: ``float32 [rows]``."""
    return generation_folder(folder, generation) / f"bias-{sequence:012d}.f32"


def set_bits(mask: NDArray[np.uint8], rows: NDArray[np.int32]) -> None:
    """Sets the bits of ``rows``, little bit order, in place."""
    np.bitwise_or.at(mask, rows >> 3, np.left_shift(1, rows & 7).astype(np.uint8))


def clear_bits(mask: NDArray[np.uint8], rows: NDArray[np.int32]) -> None:
    """Clears the bits of ``rows``, little bit order, in place."""
    np.bitwise_and.at(mask, rows >> 3, np.invert(np.left_shift(1, rows & 7).astype(np.uint8)))
