"""What the items lane does with records: decode, encode new texts, put rows on disk."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from rankstream.server.catalog.blocks import Layout
from rankstream.server.config import Limits
from rankstream.server.encoder.text import ItemTemplate
from rankstream.server.errors import RankstreamError
from rankstream.server.stream.checks import BadRecord
from rankstream.server.stream.consumer import Chunk, Record
from rankstream.server.stream.indexer import ItemCommit, ItemIndexer, ItemRecordIn
from rankstream.server.stream.item_codec import DecodedItem, decode_item
from rankstream.server.types import Position, item_key


@dataclass(frozen=True, slots=True)
class ItemFormat:
    """How a record of the items topic reads."""

    limits: Limits
    layout: Layout
    template: ItemTemplate


@dataclass(frozen=True, slots=True)
class ItemFolder:
    """Reads records of the items topic, and makes rows of them.

    Attributes:
        form: how a record reads.
        indexer: makes rows of items.
    """

    form: ItemFormat
    indexer: ItemIndexer

    def read(self, chunk: Chunk) -> tuple[list[ItemRecordIn], list[tuple[Record, str]]]:
        """What is good of a chunk, and each record that is not, with the reason."""
        good: dict[int, ItemRecordIn] = {}
        refused = []
        for record in chunk.records:
            try:
                item = self._decode(record.key, record.value)
                key = item.key if item is not None else item_key((record.key or b"").decode())
                self.indexer.check_collision(key, item, good.get(key))
            except (RankstreamError, DecodeError, UnicodeDecodeError) as error:
                refused.append((record, str(error)))
                continue
            # Within a batch the last record of an item wins; the ones before never get a row.
            good.pop(key, None)
            payload = record.value or b""
            good[key] = ItemRecordIn(key, item, payload, record.timestamp, record.offset)
        return list(good.values()), refused

    def commit(self, good: list[ItemRecordIn], position: Position) -> ItemCommit:
        """Puts rows on disk.

        Raises:
            OSError: the disk refuses the rows; nothing has changed.
            BadRecords: the texts of some items cannot be encoded; nothing has changed.
        """
        return self.indexer.index(good, position)

    def _decode(self, key: bytes | None, value: bytes | None) -> DecodedItem | None:
        if value is not None:
            form = self.form
            return decode_item(key, value, form.limits, form.layout.vectors, form.template)
        if not key:
            msg = "key: null with a null value, expected the item_id to delete"
            raise BadRecord(msg)
        return None
