"""A hash table from 64-bit keys to rows: linear probing, one cache line a look-up."""

import secrets
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from rankstream.kernels.arrays import Int32, Int64, UInt8, UInt64, checked
from rankstream.kernels.compilation import compiled
from rankstream.kernels.errors import refuse
from rankstream.kernels.spans import is_same

if TYPE_CHECKING:
    from rankstream.kernels.item_ids import ItemIds

_MIN_SLOTS: Final = 16
_FREE, _DELETED = np.uint64(0), np.uint64(1)
_OFFSET: Final = 2
"""A slot holds a key and row + 2: a slot of zeros is free, a deleted key (row -1) is 1."""

Spans: TypeAlias = tuple[UInt8, Int64, Int64, UInt64]
"""What kernels take of ids, a plain tuple because calls with one are quicker: text, starts, stops
and keys, as in ``ItemIds``. One that stops before it starts has no name: its key decides alone."""

_MULTIPLIERS = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))
_SHIFT = np.uint64(33)


@compiled
def mix(key: np.uint64, seed: np.uint64) -> np.uint64:
    """MurmurHash3's 64-bit finaliser of the seeded key: neighbouring keys scatter."""
    bits = key ^ seed
    bits = (bits ^ (bits >> _SHIFT)) * _MULTIPLIERS[0]
    bits = (bits ^ (bits >> _SHIFT)) * _MULTIPLIERS[1]
    return bits ^ (bits >> _SHIFT)


@compiled
def _find(slots: UInt64, key: np.uint64, seed: np.uint64) -> int:
    """The slot of ``key``, or the free one where it belongs."""
    mask = np.uint64(slots.shape[0] - 1)
    at = mix(key, seed) & mask
    while slots[at, 1] != _FREE and slots[at, 0] != key:
        at = (at + np.uint64(1)) & mask
    return int(at)


@compiled
def _insert(
    slots: UInt64, seed: np.uint64, keys: UInt64, rows: Int32, used: int, live: int
) -> tuple[int, int]:
    """Sets each key's row; returns how many slots are used and how many keys have a row then."""
    for i in range(keys.shape[0]):
        at = _find(slots, keys[i], seed)
        used += slots[at, 1] == _FREE
        live += int(rows[i] >= 0) - int(slots[at, 1] > _DELETED)
        slots[at, 0] = keys[i]
        slots[at, 1] = np.uint64(np.int64(rows[i]) + _OFFSET)
    return used, live


@compiled
def _move(old: UInt64, new: UInt64, seed: np.uint64) -> None:
    """Puts the keys of ``old`` that have a row into the empty ``new``."""
    for i in range(old.shape[0]):
        if old[i, 1] > _DELETED:
            at = _find(new, old[i, 0], seed)
            new[at, 0], new[at, 1] = old[i, 0], old[i, 1]


@compiled
def look_up(slots: UInt64, seed: np.uint64, keys: UInt64, rows: Int32) -> None:
    """Fills ``rows`` with each key's row, or -1."""
    for i in range(keys.shape[0]):
        value = slots[_find(slots, keys[i], seed), 1]
        rows[i] = -1 if value == _FREE else np.int32(np.int64(value) - _OFFSET)


@compiled
def _keep_named(ids: Spans, names: UInt8, ends: Int64, rows: Int32) -> None:
    """Sets rows of another name to -1. One loop a memory access: those of a loop overlap."""
    text, asked, stops, _ = ids
    starts = np.empty(rows.shape[0], np.int64)
    for i in range(rows.shape[0]):
        if stops[i] < asked[i]:
            continue
        row = rows[i] if rows[i] < ends.shape[0] else -1
        start, stop = ends[row - 1] if row > 0 else 0, ends[row] if row >= 0 else -1
        inside = start >= 0 and stop <= names.shape[0]
        starts[i] = start
        rows[i] = row if inside and stop - start == stops[i] - asked[i] else -1
    for i in range(rows.shape[0]):
        length = stops[i] - asked[i]
        if rows[i] >= 0 and length >= 0 and not is_same(text, asked[i], names, starts[i], length):
            rows[i] = -1


@compiled
def find_named(
    slots: UInt64, seed: np.uint64, ids: Spans, names: UInt8, ends: Int64, rows: Int32
) -> None:
    """Fills ``rows`` with the row of each id's key where the row has the id's name, or -1."""
    look_up(slots, seed, ids[3], rows)
    _keep_named(ids, names, ends, rows)


class KeyTable:
    """Rows by key: the last insertion wins, row -1 deletes, ``len`` counts the keys with a row.

    Not for concurrent use while one thread inserts: kernels run without the GIL, so callers take
    turns. Keys are scattered by a random seed, on which no result depends.

    Args:
        capacity: Keys to make room for at once; the table grows as needed (at most half its slots
            of 16 bytes are used).
    """

    __slots__ = ("_live", "_seed", "_slots", "_used")

    def __init__(self, capacity: int = 0) -> None:
        self._seed = np.uint64(secrets.randbits(64))
        self._slots: UInt64 = _free_slots(capacity)
        self._used = self._live = 0

    def __len__(self) -> int:
        return self._live

    @property
    def slots(self) -> UInt64:
        """What ``look_up`` reads: uint64[slots, 2]."""
        return self._slots

    @property
    def seed(self) -> np.uint64:
        """What ``look_up`` scatters keys by."""
        return self._seed

    def insert(self, keys: UInt64, rows: Int32) -> None:
        """Sets the row of each key, in order.

        Args:
            keys: ``[T]`` uint64.
            rows: ``[T]`` int32, -1 or more.

        Raises:
            KernelArgumentError: an argument is not as described; nothing has changed then.
        """
        keys = checked("keys", keys, np.uint64, None)
        rows = checked("rows", rows, np.int32, keys.size)
        if rows.size and rows.min() < -1:
            refuse("rows", f"has {rows.min()}", "rows of at least -1")
        self._reserve(keys.size)
        counts = _insert(self._slots, self._seed, keys, rows, self._used, self._live)
        self._used, self._live = counts

    def lookup(self, keys: UInt64) -> Int32:
        """The row of each key: ``[T]`` uint64 to ``[T]`` int32, -1 if unknown or deleted."""
        keys = checked("keys", keys, np.uint64, None)
        rows = np.empty(keys.size, np.int32)
        look_up(self._slots, self._seed, keys, rows)
        return rows

    def find(self, ids: "ItemIds", names: UInt8, ends: Int64) -> Int32:
        """The row of each id: a look-up by key, after which the row's name decides.

        Args:
            ids: C ids, of ``read_item_ids``.
            names: uint8, the names of rows end to end.
            ends: int64[N], where each row's name ends and the next row's starts.

        Returns:
            int32[C]: -1 where no row has the key, where the row has another name, and where it is
            N or more.
        """
        names = checked("names", names, np.uint8, None)
        ends = checked("ends", ends, np.int64, None)
        rows = np.empty(ids.keys.size, np.int32)
        find_named(self._slots, self._seed, ids[:4], names, ends, rows)
        return rows

    def _reserve(self, added: int) -> None:
        """Makes room for ``added`` keys; new slots hold no deleted keys and some to spare."""
        if 2 * (self._used + added) > self._slots.shape[0]:
            slots = _free_slots((self._live + added) * 3 // 2)
            _move(self._slots, slots, self._seed)
            self._slots, self._used = slots, self._live


def _free_slots(keys: int) -> UInt64:
    """At least twice as many free slots ``[slots, 2]`` as ``keys``, a power of two."""
    return np.zeros((max(_MIN_SLOTS, 1 << (2 * keys).bit_length()), 2), np.uint64)
