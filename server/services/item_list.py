"""Lists items page by page, in the order of their keys. No page outlives its transaction."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from rankstream.proto.v1 import catalog_pb2
from rankstream.server.errors import InvalidArgument
from rankstream.server.item_record import ItemRecord
from rankstream.server.store import Store
from rankstream.server.wire import encode_field

# What one transaction reads at most: a fraction of a millisecond, and what a slow reader holds.
_PAGE_ITEMS = 64
_PAGE_BYTES = 256 << 10

_MAGIC = b"L1"
_KEY_BYTES = 8
_ITEM = catalog_pb2.ListedItem.ITEM_FIELD_NUMBER
_TOKEN = catalog_pb2.ListedItem.RESUME_TOKEN_FIELD_NUMBER


@dataclass(frozen=True, slots=True)
class ListedRecord:
    """One item of a page.

    Attributes:
        key: where the next page begins, behind it.
        payload: the item, encoded.
    """

    key: bytes
    payload: bytes

    def to_pb(self) -> bytes:
        """A ``ListedItem``, encoded: the log's bytes pass as they are."""
        parts = *encode_field(_ITEM, self.payload), *encode_field(_TOKEN, pack_resume(self.key))
        return b"".join(parts)


def read_page(store: Store, behind: bytes, most: int | None) -> list[ListedRecord]:
    """The items behind a key.

    Args:
        store: the state.
        behind: the last key that was seen; empty: from the start.
        most: how many are wanted, None: all; a page has fewer where they are large or many.

    Returns:
        At least one, unless there is none or none is wanted.
    """
    most = _PAGE_ITEMS if most is None else min(most, _PAGE_ITEMS)
    page: list[ListedRecord] = []
    size = 0
    with store.read() as view:
        entries = view.items_from("items", behind)
        for key, blob in itertools.islice(_behind(entries, behind), most):
            record = ListedRecord(key, ItemRecord.unpack(blob).payload)
            page.append(record)
            size += len(record.payload)
            if size >= _PAGE_BYTES:
                break
    return page


def pack_resume(key: bytes) -> bytes:
    """The token that goes on behind ``key``."""
    body = _MAGIC + key
    return body + zlib.crc32(body).to_bytes(4, "little")


def unpack_resume(token: bytes) -> bytes:
    """The key that a token goes on behind; empty where it is empty.

    Raises:
        InvalidArgument: it is not one of ours.
    """
    key = token[len(_MAGIC) : len(_MAGIC) + _KEY_BYTES]
    if token and (len(key) != _KEY_BYTES or token != pack_resume(key)):
        problem = "not a token that ListItems answered; pass it on unchanged"
        raise InvalidArgument(field="resume_token", problem=problem)
    return key


def _behind(
    entries: Iterator[tuple[bytes, memoryview]], key: bytes
) -> Iterator[tuple[bytes, memoryview]]:
    return (entry for entry in entries if entry[0] != key)
