"""One item as the state keeps it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from rankstream.server.errors import CorruptState

_ITEM = struct.Struct("<q16sqIH")


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """One live item.

    Attributes:
        row: its row in the current generation.
        text_hash: 16 bytes; the text its vector was made from.
        updated_at_ms: the broker's timestamp of the record that wrote it.
        item_id: the external id.
        payload: the log record's value, as it came.
    """

    row: int
    text_hash: bytes
    updated_at_ms: int
    item_id: str
    payload: bytes

    def pack(self) -> bytes:
        """The stored bytes."""
        name = self.item_id.encode()
        head = _ITEM.pack(
            self.row, self.text_hash, self.updated_at_ms, len(self.payload), len(name)
        )
        return head + name + self.payload

    @classmethod
    def unpack(cls, blob: bytes | memoryview) -> ItemRecord:
        """Reads ``pack``'s bytes.

        Raises:
            CorruptState: the lengths do not add up, or the id is not UTF-8.
        """
        if len(blob) < _ITEM.size:
            msg = f"an item record of {len(blob)} bytes, expected at least {_ITEM.size}"
            raise CorruptState(msg)
        row, text_hash, updated, n_payload, n_id = _ITEM.unpack_from(blob)
        start = _ITEM.size + n_id
        if len(blob) != start + n_payload:
            msg = f"an item record of {len(blob)} bytes, its header says {start + n_payload}"
            raise CorruptState(msg)
        try:
            name = bytes(blob[_ITEM.size : start]).decode()
        except UnicodeDecodeError as error:
            msg = f"an item record whose item_id is not UTF-8: {error}"
            raise CorruptState(msg) from error
        return cls(row, text_hash, updated, name, bytes(blob[start:]))


def item_id_of(blob: memoryview) -> str:
    """The external id inside a packed ``ItemRecord``, without reading the rest."""
    n_id = _ITEM.unpack_from(blob)[4]
    return bytes(blob[_ITEM.size : _ITEM.size + n_id]).decode()
