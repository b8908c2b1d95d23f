"""The per-item bias: popularity that decays, from integer counters.

An item's counter is a set of (bucket, count) pairs, a bucket being ``bucket_s`` of event time. Its
*level* is ``log2(sum(count * 2^(bucket / half_life)))``, half_life in buckets: a function of that
item's counter alone, so that levels are kept while time moves on. Popularity at bucket ``t`` is
``2^(level - t / half_life)``, and ``t`` is the newest bucket of the log, never the local clock: the
same log gives the same bias, whenever it is replayed.

``bias = weight * max(floor, log1p(popularity) / log1p(greatest popularity))``, at most ``weight``.
The floor is what an item starts with of which nothing is known yet: without it nothing new would
ever be shown beside what is popular. The greatest is
of the items that are there, whatever was there before; where that is 0, so is the bias.

Stored, a counter is its newest pair (``counters``, 8 bytes) and the older ones
(``counters_older``), because nearly every event adds to the newest alone: a small value in a dense
page.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels import KeyTable
from rankstream.kernels.counters import (
    add_to_newest,
    bias_of,
    find_runs,
    levels_of,
    merge_counts,
    newest_bucket,
    refresh_powers,
)
from rankstream.server.store import Store, Txn, View

# Buckets of one item that are kept: the newest; with the default width, the last 64 days on which
# the item was touched. The set of touched buckets only grows, so the order of arrival does not
# matter, but for one corner: a correction that empties a bucket of an item with 64 others.
MAX_BUCKETS = 64
_PAIR_BYTES = 8
_PAGE = 20_000
_NONE = b"\0" * _PAIR_BYTES
_NO_COUNT = b"\0" * (_PAIR_BYTES // 2)

Pairs = NDArray[np.int32]
_NO_PAIRS: Pairs = np.empty((0, 2), np.int32)
_NO_OFFSETS: NDArray[np.int64] = np.zeros(1, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Touched:
    """Counters after a batch.

    Attributes:
        keys: ``uint64 [U]``.
        newest: ``int32 [U, 2]`` (bucket, count); count 0: nothing is left.
        whole: indices ``int64 [W]`` of those whose older pairs changed.
        older: their older pairs ``int32 [T, 2]``.
        offsets: ``int64 [W + 1]`` into ``older``.
    """

    keys: NDArray[np.uint64]
    newest: Pairs
    whole: NDArray[np.int64]
    older: Pairs
    offsets: NDArray[np.int64]


def add_counts(
    txn: Txn, keys: NDArray[np.uint64], buckets: NDArray[np.int64], deltas: NDArray[np.int64]
) -> Touched:
    """Adds counter deltas inside a write transaction.

    Args:
        txn: the transaction.
        keys: target keys ``uint64 [n]``.
        buckets: ``int64 [n]``.
        deltas: ``int64 [n]``, may be negative. Sorted by (key, bucket), each pair once.

    Returns:
        The counters touched, each once.
    """
    owners, firsts = find_runs(keys)
    names = _names(owners)
    stored = np.frombuffer(b"".join(txn.get_many("counters", names, _NONE)), np.int32)
    newest, whole = add_to_newest(stored, buckets, deltas, firsts)
    touched = Touched(owners, newest, whole, _NO_PAIRS, _NO_OFFSETS)
    if len(whole):
        older, offsets = _joined(txn.get_many("counters_older", (names[u] for u in whole.tolist())))
        added = (buckets, deltas, firsts)
        merged = merge_counts(newest, whole, older, offsets, added, MAX_BUCKETS)
        touched = Touched(owners, newest, whole, *merged)
        _write_older(txn, names, touched)
    _write_newest(txn, names, newest)
    return touched


def _write_newest(txn: Txn, names: list[bytes], newest: Pairs) -> None:
    raw, put = newest.tobytes(), txn.put
    for at, name in zip(range(0, len(raw), _PAIR_BYTES), names, strict=True):
        pair = raw[at : at + _PAIR_BYTES]
        if pair.endswith(_NO_COUNT):
            txn.delete("counters", name)
        else:
            put("counters", name, pair)


def _write_older(txn: Txn, names: list[bytes], touched: Touched) -> None:
    rest, ends = touched.older.tobytes(), (touched.offsets * _PAIR_BYTES).tolist()
    for w, u in enumerate(touched.whole.tolist()):
        if ends[w] < ends[w + 1]:
            txn.put("counters_older", names[u], rest[ends[w] : ends[w + 1]])
        else:
            txn.delete("counters_older", names[u])


def read_counter(view: View, key: int) -> list[tuple[int, int]]:
    """One item's counter: ``(bucket, count)``, buckets rising."""
    name = key.to_bytes(8, "little")
    stored = [bytes(view.get(db, name) or b"") for db in ("counters_older", "counters")]
    pairs = np.frombuffer(b"".join(stored), np.int32).reshape(-1, 2)
    return [(bucket, count) for bucket, count in pairs.tolist()]


def read_counters(store: Store, before: int) -> Iterator[Touched]:
    """All counters without the buckets from ``before`` on, page by page, a transaction each."""
    start: bytes | None = b""
    while start is not None:
        with store.read() as view:
            page, start = _read_page(view, start, _PAGE)
        yield _without(page, before)


def _read_page(view: View, start: bytes, most: int | None) -> tuple[Touched, bytes | None]:
    """Counters from a key on, at most so many, whole; and where the next page begins."""
    stored = [(k, bytes(v)) for k, v in itertools.islice(view.items_from("counters", start), most)]
    keys = np.frombuffer(b"".join(k for k, _ in stored), np.uint64)
    newest = np.frombuffer(b"".join(v for _, v in stored), np.int32).reshape(-1, 2)
    older, offsets = _joined(view.get_many("counters_older", (k for k, _ in stored)))
    page = Touched(keys, newest, np.arange(len(keys)), older, offsets)
    return page, stored[-1][0] + b"\0" if most is not None and len(stored) == most else None


class Popularity:
    """Levels of all counted items, in the ingest process's memory.

    Each has a slot, which it keeps. ``update`` and the others may be called from different threads.

    Attributes:
        revision: grows with each change.
    """

    def __init__(
        self, *, weight: float, half_life_s: float, bucket_s: int, floor: float = 0.0
    ) -> None:
        self.revision = 0
        self._floor = floor
        self._lock = threading.Lock()
        self._weight = weight
        self._half_life = half_life_s / bucket_s
        self._slots = KeyTable()
        self._count = 0
        self._older = np.full(1024, -np.inf)
        self._newest = np.zeros((1024, 2), np.int32)
        # As of the bucket ``_now``, but for those that are stale. Whoever asks for a bias has it.
        self._powers = np.zeros(0)
        self._asked = threading.Lock()
        self._stale = np.ones(1024, np.bool_)
        self._now: int | None = None

    @property
    def counted(self) -> int:
        """How many items have a slot."""
        return self._count

    def load(self, view: View) -> None:
        """Reads every counter once, at start."""
        self.update(_read_page(view, b"", None)[0])

    def update(self, touched: Touched) -> None:
        """Takes over changed counters."""
        if not len(touched.keys):
            return
        with self._lock:
            slots = self._slots_of(touched.keys)
            self._newest[slots] = touched.newest
            if len(touched.whole):
                levels = levels_of(touched.older, touched.offsets, self._half_life)
                self._older[slots[touched.whole]] = levels
            self._stale[slots] = True
            self.revision += 1

    def slots(self, keys: NDArray[np.uint64]) -> NDArray[np.int32]:
        """The slots ``int32 [n]`` of the items with these keys; -1: never counted."""
        with self._lock:
            return self._slots.lookup(np.ascontiguousarray(keys))

    def bias(
        self, keys: NDArray[np.uint64], live: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """The bias of the items with these keys: ``float32 [n]``.

        Args:
            keys: ``uint64 [n]``.
            live: which of them are there, ``bool [n]``: a log whose deleted items were compacted
                away has no row of them, and leads to the same bias. None: all.
        """
        everything = np.ones(len(keys), np.bool_)
        return self.bias_of(self.slots(keys), everything if live is None else live)

    def bias_of(self, slots: NDArray[np.int32], live: NDArray[np.bool_]) -> NDArray[np.float32]:
        """As ``bias``, for the items with these slots.

        What did not change since it was last called, and is of the same bucket, is not computed
        again: otherwise it would cost several times as much, once a second.
        """
        with self._asked:
            # Copies: nothing that is counted waits for what is computed of them.
            with self._lock:
                newest, older = (
                    self._newest[: self._count].copy(),
                    self._older[: self._count].copy(),
                )
                stale = self._stale[: self._count].copy()
                self._stale[: self._count] = False
            found, now = newest_bucket(newest)
            if not found or now != self._now:
                stale[:] = True
            self._now = now if found else None
            fresh = np.zeros(len(stale) - len(self._powers))
            self._powers = np.concatenate([self._powers, fresh]) if len(fresh) else self._powers
            if not found:
                return np.zeros(len(slots), np.float32)
            which = np.flatnonzero(stale)
            refresh_powers(which, newest, older, self._half_life, now, self._powers)
            return bias_of(self._powers, slots, live, self._weight, self._floor)

    def _slots_of(self, keys: NDArray[np.uint64]) -> NDArray[np.int32]:
        slots = self._slots.lookup(keys)
        fresh = np.flatnonzero(slots < 0)
        if len(fresh):
            slots[fresh] = np.arange(self._count, self._count + len(fresh), dtype=np.int32)
            self._slots.insert(keys[fresh], slots[fresh])
            self._count += len(fresh)
            self._grow()
        return slots

    def _grow(self) -> None:
        room = len(self._older)
        if self._count > room:
            more = 2 * self._count - room
            self._older = np.concatenate([self._older, np.full(more, -np.inf)])
            self._newest = np.concatenate([self._newest, np.zeros((more, 2), np.int32)])
            self._stale = np.concatenate([self._stale, np.ones(more, np.bool_)])


def _names(keys: NDArray[np.uint64]) -> list[bytes]:
    raw = keys.astype("<u8").tobytes()
    return [raw[i : i + 8] for i in range(0, len(raw), 8)]


def _joined(blobs: list[bytes] | list[memoryview | bytes]) -> tuple[Pairs, NDArray[np.int64]]:
    offsets = np.zeros(len(blobs) + 1, np.int64)
    np.cumsum([len(b) // _PAIR_BYTES for b in blobs], out=offsets[1:])
    return np.frombuffer(b"".join(blobs), np.int32).reshape(-1, 2).copy(), offsets


def _without(page: Touched, before: int) -> Touched:
    """Counters without the buckets from ``before`` on."""
    whole = np.insert(page.older, page.offsets[1:], page.newest, axis=0)
    offsets = page.offsets + np.arange(len(page.offsets))
    # A newest bucket with no count is none.
    kept = (whole[:, 0] < before) & (whole[:, 1] != 0)
    ends = np.concatenate([[0], np.cumsum(kept)])[offsets]
    pairs = whole[kept]
    newest = np.zeros_like(page.newest)
    some = np.flatnonzero(np.diff(ends))
    last = ends[some + 1] - 1
    newest[some] = pairs[last]
    left = np.ones(len(pairs), bool)
    left[last] = False
    older_ends = np.concatenate([[0], np.cumsum(left)])[ends]
    return Touched(page.keys, newest, page.whole, pairs[left], older_ends)
