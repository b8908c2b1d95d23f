"""Items to rows: which texts are new, their vectors, the fused rows on disk, and the commit."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rankstream.server.catalog.blocks import Layout, hash_attributes
from rankstream.server.catalog.segments import SegmentWriter
from rankstream.server.encoder.text import text_hash
from rankstream.server.generation import Slot
from rankstream.server.item_record import ItemRecord
from rankstream.server.store import Store, Txn, View
from rankstream.server.stream.checks import BadRecord, BadRecords
from rankstream.server.stream.item_codec import DecodedItem
from rankstream.server.stream.item_texts import Encode, Unencodable
from rankstream.server.types import Head, Position


@dataclass(frozen=True, slots=True)
class ItemRecordIn:
    """One record of the items topic: ``item`` is None where it deletes; ``offset`` is its place."""

    key: int
    item: DecodedItem | None
    payload: bytes
    timestamp_ms: int
    offset: int = -1


@dataclass(slots=True)
class ItemCommit:
    """The writer's work: what a batch of item records changes.

    Attributes:
        put: the records to store, by key.
        deleted: keys that are gone.
        dead: rows that are replaced or deleted, ``int32 [n]``.
        appended: ``(first, rows, crc32c)`` of the rows that are on disk already, or None.
        position: the items lane's position after it.
        slot: of the generation that the rows are of.
    """

    put: dict[int, ItemRecord]
    deleted: list[int]
    dead: NDArray[np.int32]
    appended: tuple[int, int, int] | None
    position: Position
    slot: Slot
    _done: threading.Event = field(default_factory=threading.Event)

    def apply(self, txn: Txn) -> None:
        """Writes the effects and the position."""
        txn = txn.of(self.slot)
        head = txn.head()
        before = txn.count("items")
        for key, record in self.put.items():
            txn.put("items", key.to_bytes(8, "little"), record.pack())
        for key in self.deleted:
            txn.delete("items", key.to_bytes(8, "little"))
        rows = head.rows
        if self.appended is not None:
            first, count, checksum = self.appended
            rows = first + count
            packed = np.array([count, checksum], "<i8").tobytes()
            txn.put("checksums", first.to_bytes(8, "big"), packed)
        changed = self.put or self.deleted
        version = head.catalogue_version + (1 if changed else 0)
        if len(self.dead):
            txn.put("tombstones", version.to_bytes(8, "big"), self.dead.tobytes())
        items = head.items + txn.count("items") - before
        txn.set_head(Head(head.generation, rows, version, items))
        txn.advance([self.position])

    def committed(self) -> None:
        """The state has it: the lane may go on."""
        self._done.set()

    def wait(self) -> None:
        """Until ``committed``."""
        self._done.wait()


class ItemIndexer:
    """Makes rows. One thread.

    Args:
        store: read for what is known of an item; commits are of its slot.
        segments: where rows go.
        layout: how a row is made.
        encode: texts to vectors ``float32 [B, D]``; raises ``Unencodable`` where some have none.
    """

    def __init__(
        self, store: Store, segments: SegmentWriter, layout: Layout, encode: Encode
    ) -> None:
        self._store = store
        self._segments = segments
        self._layout = layout
        self._encode = encode

    def check_collision(
        self, key: int, item: DecodedItem | None, earlier: ItemRecordIn | None
    ) -> None:
        """Refuses an item whose 64-bit key another item has already.

        Raises:
            BadRecord: the key is taken.
        """
        if item is None:
            return
        holder = earlier.item.item_id if earlier is not None and earlier.item is not None else None
        if holder is None:
            with self._store.read() as view:
                stored = view.item(key)
            holder = stored.item_id if stored is not None else None
        if holder is not None and holder != item.item_id:
            msg = (
                f"item_id: {item.item_id!r} has the 64-bit key of {holder!r}, which the catalogue "
                "holds: rename one of them"
            )
            raise BadRecord(msg)

    def index(self, records: list[ItemRecordIn], position: Position) -> ItemCommit:
        """Prepares a commit: encodes, and puts the new rows on disk.

        Raises:
            OSError: the disk refuses the rows; nothing has changed.
            BadRecords: the texts of some items cannot be encoded; nothing has changed.
        """
        with self._store.read() as view:
            head = view.head()
            stored = {r.key: view.item(r.key) for r in records}
        upserts = [r for r in records if r.item is not None]
        rows, hashes = self._rows(upserts, stored)
        put, dead, fresh = self._assign(upserts, rows, hashes, stored, head.rows)
        gone = [r for r in records if r.item is None and stored[r.key] is not None]
        dead += [old.row for r in gone if (old := stored[r.key]) is not None]
        appended = None
        if fresh:
            keys = np.array([upserts[i].key for i in fresh], np.uint64)
            ids = [put[upserts[i].key].item_id for i in fresh]
            facts = [item.facts for i in fresh if (item := upserts[i].item) is not None]
            added = self._segments.append(head.rows, rows[fresh], keys, ids, facts)
            appended = (head.rows, *added)
        deleted, slot = [r.key for r in gone], self._store.slot
        return ItemCommit(put, deleted, np.array(dead, np.int32), appended, position, slot)

    def _rows(
        self, upserts: list[ItemRecordIn], stored: dict[int, ItemRecord | None]
    ) -> tuple[NDArray[np.float32], list[bytes]]:
        """Fused rows ``float32 [n, stride]`` and the hashes of their texts."""
        if not upserts:
            return np.zeros((0, self._layout.stride), np.float32), []
        items = [r.item for r in upserts if r.item is not None]
        hashes = [text_hash(item.text) for item in items]
        text = self._layout.blocks[0]
        vectors = np.zeros((len(items), text.dimensions), np.float32)
        unknown = []
        for i, record in enumerate(upserts):
            old = stored[record.key]
            if old is not None and old.text_hash == hashes[i]:
                vectors[i] = self._segments.segments.rows[old.row, text.start : text.stop]
            else:
                unknown.append(i)
        if unknown:
            vectors[unknown] = self._encoded([upserts[i] for i in unknown])
        parts = {text.name: vectors}
        parts["attributes"] = np.array([hash_attributes(item.features) for item in items])
        for block in self._layout.vectors:
            none = np.zeros(block.dimensions, np.float32)
            parts[block.name] = np.array([item.vectors.get(block.name, none) for item in items])
        fused = self._layout.fuse(parts, len(items))
        for i in set(range(len(items))) - set(unknown):
            # Copied, not normalised again: an unchanged text keeps its bytes.
            fused[i, text.start : text.stop] = vectors[i]
        return fused, hashes

    def _encoded(self, upserts: list[ItemRecordIn]) -> NDArray[np.float32]:
        """Vectors ``float32 [n, D]`` of items' texts."""
        try:
            return self._encode([r.item.text for r in upserts if r.item is not None])
        except Unencodable as error:
            problems = error.problems.items()
            why = {upserts[i].offset: f"the text cannot be encoded: {p}" for i, p in problems}
            raise BadRecords(why) from error

    def _assign(
        self,
        upserts: list[ItemRecordIn],
        rows: NDArray[np.float32],
        hashes: list[bytes],
        stored: dict[int, ItemRecord | None],
        first: int,
    ) -> tuple[dict[int, ItemRecord], list[int], list[int]]:
        """Records to store, rows that die, and which of ``rows`` are really new."""
        put: dict[int, ItemRecord] = {}
        dead: list[int] = []
        fresh: list[int] = []
        for i, record in enumerate(upserts):
            old, name = stored[record.key], record.item.item_id if record.item is not None else ""
            made = ItemRecord(-1, hashes[i], record.timestamp_ms, name, record.payload)
            if old is not None and self._is_row(old.row, rows[i], record.item):
                put[record.key] = replace(made, row=old.row)
                continue
            if old is not None:
                dead.append(old.row)
            put[record.key] = replace(made, row=first + len(fresh))
            fresh.append(i)
        return put, dead, fresh

    def _is_row(self, row: int, made: NDArray[np.float32], item: DecodedItem | None) -> bool:
        """Whether a row that is on disk is what an item comes to."""
        known = self._segments.segments
        same = np.array_equal(known.rows[row], made)
        return same and item is not None and np.array_equal(known.facts_of(row), item.facts)


def read_checksums(view: View) -> list[tuple[int, int, int]]:
    """``(first row, rows, crc32c)`` of every append that was committed."""
    found = []
    for key, value in view.items_from("checksums", b""):
        count, checksum = np.frombuffer(value, "<i8").tolist()
        found.append((int.from_bytes(key, "big"), count, checksum))
    return found
