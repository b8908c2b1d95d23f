"""The one LMDB environment: what is durable, and the one commit that changes it.

One process writes (ingest), any number read. A write transaction holds a micro-batch's effects and
the log positions after it, so that a crash at any moment leaves both or neither. Readers see a
commit at once, copy nothing, and must finish with every buffer inside the transaction: after it the
same memory may hold something else.

A commit is visible at once and not synced: ``checkpoint.py`` makes it safe a few times a second. A
power loss can cost the commits since, which the log replays; never consistency.

Databases (keys -> values):

==========  ==============================  ==================================================
meta        name                            positions, settings, which slot is served
recent      user_id                         newest interactions (server/profiles)
settled     user_id                         the interactions behind them
archive     chunk key (server/profiles)     what a user has seen before those
users       user_id                         ``UserRecord`` (server/profiles/users)
identities  user_id                         the users that claim it
texts       text key, 8 bytes               a text (server/profiles/texts)
text_order  number, 8 bytes BE              the text that has it
counters    target key, 8 bytes             the newest (bucket, count) (server/catalog/popularity)
counters_older  target key, 8 bytes         the older ones, sorted
==========  ==============================  ==================================================

What an encoder has made is there twice, in two *slots*: a generation of the catalogue lives in one
while another is made, or kept, in the other. A ``View`` is of one slot.

==========  ==============================  ==================================================
generation  name                            its head, positions and settings, as in ``meta``
items       item_key, 8 bytes               ``ItemRecord``
tombstones  catalogue_version, 8 bytes BE   int32 rows that died in that commit
checksums   first row, 8 bytes BE           (rows, crc32c) of one append to the segments
vectors     text key, 8 bytes               the vector of a text, float32
==========  ==============================  ==================================================
"""

from __future__ import annotations

import copy
import functools
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeAlias

import lmdb
import numpy as np
from numpy.typing import NDArray

from rankstream.server.checkpoint import Checkpoints, boot_id, recover
from rankstream.server.errors import StateRefused
from rankstream.server.generation import SLOTS, Slot
from rankstream.server.item_record import ItemRecord, item_id_of
from rankstream.server.types import Head, Lane, Position

STATE_LAYOUT = 7
"""Grows when a database or a file of rows means something else; another one is refused."""
_SHARED = (
    "meta",
    "recent",
    "settled",
    "archive",
    "users",
    "identities",
    "texts",
    "text_order",
    "counters",
    "counters_older",
)
OF_A_SLOT = ("generation", "items", "tombstones", "checksums", "vectors")
"""The databases that each slot has."""
# What a commit meets when the disk or the map is full: transient, the transaction is gone.
WRITE_ERRORS = (lmdb.MapFullError, lmdb.DiskError, OSError)
_HEAD = struct.Struct("<qqqq")
_POSITION = struct.Struct("<B16sIq")
_LANES: tuple[Lane, ...] = ("events", "items", "users")
_MAX_READERS = 512

Databases: TypeAlias = "dict[str, lmdb._Database]"


# Read by every ranking, changed by commits: the values are the same as long as their bytes are.
@functools.lru_cache(maxsize=4)
def _read_head(blob: bytes) -> Head:
    return Head(*_HEAD.unpack(blob))


@functools.lru_cache(maxsize=4)
def _read_positions(blob: bytes) -> tuple[Position, ...]:
    return tuple(sorted(Position(_LANES[p[0]], *p[1:]) for p in _POSITION.iter_unpack(blob)))


class View:
    """One transaction, as one slot sees it: a consistent picture. Buffers die with it.

    Attributes:
        slot: whose items, rows and vectors of texts are seen.
    """

    def __init__(self, txn: lmdb.Transaction, slots: Mapping[Slot, Databases], slot: Slot) -> None:
        self.slot = slot
        self._txn = txn
        self._slots = slots
        self._dbs = slots[slot]

    def of(self, slot: Slot) -> Self:
        """The same transaction, as another slot sees it."""
        return type(self)(self._txn, self._slots, slot)

    def get(self, database: str, key: bytes) -> memoryview | None:
        """The stored bytes, valid inside this transaction only."""
        # Every transaction here is begun with buffers=True.
        return self._txn.get(key, db=self._dbs[database])  # type: ignore[return-value]

    def get_many(
        self, database: str, keys: Iterable[bytes], missing: bytes = b""
    ) -> list[memoryview | bytes]:
        """As ``get`` for each key in order; ``missing`` where there is nothing."""
        get, db = self._txn.get, self._dbs[database]
        return [get(key, missing, db) for key in keys]

    def items_from(self, database: str, start: bytes) -> Iterator[tuple[bytes, memoryview]]:
        """Entries in key order, from the first whose key is not less than ``start``."""
        cursor = self._txn.cursor(db=self._dbs[database])
        if cursor.set_range(start):
            for key, value in cursor:
                yield bytes(key), memoryview(value)

    def count(self, database: str) -> int:
        """How many keys a database holds."""
        return int(self._txn.stat(self._dbs[database])["entries"])

    def head(self) -> Head:
        """The catalogue's counts as of this transaction."""
        blob = self.get("generation", b"head")
        return _read_head(bytes(blob)) if blob is not None else Head(1, 0, 0, 0)

    def positions(self) -> tuple[Position, ...]:
        """Where each partition of each lane stands, sorted; of the items lane, this slot's."""
        own, shared = (self.get(db, b"positions") or b"" for db in ("generation", "meta"))
        return _read_positions(bytes(shared) + bytes(own))

    def setting(self, name: str, database: str = "meta") -> bytes | None:
        """A value that was fixed when the state was made, or this slot's ``generation``."""
        blob = self.get(database, b"set/" + name.encode())
        return bytes(blob) if blob is not None else None

    def item(self, key: int) -> ItemRecord | None:
        """The live item with this key."""
        blob = self.get("items", key.to_bytes(8, "little"))
        return ItemRecord.unpack(blob) if blob is not None else None

    def tombstones_after(self, catalogue_version: int) -> NDArray[np.int32]:
        """Rows ``int32 [n]`` that died after that version."""
        start = (catalogue_version + 1).to_bytes(8, "big")
        dead = [np.frombuffer(v, np.int32) for _, v in self.items_from("tombstones", start)]
        return np.concatenate(dead) if dead else np.empty(0, np.int32)


class Txn(View):
    """The one write transaction."""

    def put(self, database: str, key: bytes, value: bytes | memoryview) -> None:
        """Writes one entry."""
        self._txn.put(key, value, db=self._dbs[database])

    def delete(self, database: str, key: bytes) -> None:
        """Removes one entry, if it is there."""
        self._txn.delete(key, db=self._dbs[database])

    def clear(self, database: str, most: int) -> int:
        """Removes at most so many entries, the first ones; how many there were."""
        cursor = self._txn.cursor(db=self._dbs[database])
        done = 0
        while done < most and cursor.first():
            cursor.delete()
            done += 1
        return done

    def set_head(self, head: Head) -> None:
        """Sets the catalogue's counts."""
        packed = _HEAD.pack(head.generation, head.rows, head.catalogue_version, head.items)
        self.put("generation", b"head", packed)

    def advance(self, positions: Sequence[Position]) -> None:
        """Replaces the positions of the partitions named, keeps the others."""
        merged = {(p.lane, p.topic_id, p.partition): p for p in self.positions()}
        merged.update({(p.lane, p.topic_id, p.partition): p for p in positions})
        self.replace_positions(list(merged.values()))

    def replace_positions(self, positions: Sequence[Position]) -> None:
        """Sets all positions of all lanes; of the items lane, this slot's."""
        for database, own in (("generation", True), ("meta", False)):
            packed = (
                _POSITION.pack(_LANES.index(p.lane), p.topic_id, p.partition, p.next_offset)
                for p in positions
                if (p.lane == "items") is own
            )
            self.put(database, b"positions", b"".join(packed))

    def fix_setting(self, name: str, value: bytes, resolve: str, database: str = "meta") -> None:
        """Stores a setting with the first state, refuses another one ever after.

        Args:
            name: of the setting.
            value: it.
            resolve: what to do where it is another.
            database: where it is kept: ``meta``, or ``generation`` for what is this slot's.

        Raises:
            StateRefused: the state was made with another value.
        """
        stored = self.setting(name, database)
        if stored is None:
            self.put(database, b"set/" + name.encode(), value)
        elif stored != value:
            was, now = stored.decode(errors="replace"), value.decode(errors="replace")
            msg = f"the state was made with {name} {was!r}, this server has {now!r}: {resolve}"
            raise StateRefused(msg)


class Store:
    """The environment. Open it once in a process; a reader needs the writer to have been first.

    Attributes:
        slot: what its transactions see, unless asked for the other.
    """

    def __init__(self, folder: Path, *, map_size_gib: int, write: bool, slot: Slot = "a") -> None:
        self.slot = slot
        boot = boot_id()
        if write:
            folder.mkdir(parents=True, exist_ok=True)
            recover(folder, boot)
        self._env = lmdb.open(
            os.fspath(folder),
            map_size=map_size_gib << 30,
            max_dbs=len(_SHARED) + len(SLOTS) * len(OF_A_SLOT),
            max_readers=_MAX_READERS,
            # Where the system tells boots apart, checkpoints take the place of a sync a commit.
            sync=not boot,
            metasync=False,
            meminit=False,
            readahead=False,
            readonly=not write,
            max_spare_txns=4,
        )
        # A reader must not open named databases inside its transactions: handles are made once.
        shared = {name: self._env.open_db(name.encode(), create=write) for name in _SHARED}
        self._slots: dict[Slot, Databases] = {
            slot: shared
            | {n: self._env.open_db(f"{n}.{slot}".encode(), create=write) for n in OF_A_SLOT}
            for slot in SLOTS
        }
        self._checkpoints = Checkpoints(self._env, folder, boot) if write and boot else None
        self.checkpoint()

    def of(self, slot: Slot) -> Store:
        """The same environment, as another slot sees it; only one of them is closed."""
        other = copy.copy(self)
        other.slot = slot
        return other

    @contextmanager
    def read(self) -> Iterator[View]:
        """One read transaction. Never hold it across an await, nor for long: it pins pages."""
        with self._env.begin(buffers=True) as txn:
            yield View(txn, self._slots, self.slot)

    @contextmanager
    def write(self) -> Iterator[Txn]:
        """The write transaction: commits on leaving, aborts on an exception."""
        with self._env.begin(write=True, buffers=True) as txn:
            yield Txn(txn, self._slots, self.slot)

    def reap_readers(self) -> int:
        """Frees the slots of readers whose process died; they pin pages until then."""
        return int(self._env.reader_check())

    def last_txn(self) -> int:
        """The number of the newest commit."""
        return int(self._env.info()["last_txnid"])

    def readers(self) -> list[tuple[int, str, int]]:
        """``(process id, thread, transaction)`` of every open read transaction."""
        lines = [line.split() for line in self._env.readers().splitlines()[1:]]
        return [(int(pid), thread, int(txn)) for pid, thread, txn in lines if txn != "-"]

    def checkpoint(self) -> None:
        """Makes what is committed so far safe from a power loss."""
        if self._checkpoints is not None:
            self._checkpoints.take()

    def close(self) -> None:
        """Ends it; no transaction may be open."""
        if self._checkpoints is not None:
            self._checkpoints.close()
        self._env.close()


def item_ids(view: View, keys: NDArray[np.uint64]) -> list[str]:
    """The external ids of live items by their keys."""
    names = keys.astype("<u8").tobytes()
    found = view.get_many("items", (names[i : i + 8] for i in range(0, len(names), 8)))
    return [item_id_of(memoryview(blob)) if len(blob) else "" for blob in found]
