"""Entries of batches, as bytes: put together and taken apart without reading what is in them.

A batch is a message whose field 1 repeats an entry: BatchRankRequest, BatchRankResponse,
RecordEventsResponse. An answered entry begins with its google.rpc.Status where it has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

CODES = {code.value[0]: code.name for code in grpc.StatusCode}
"""The names of status codes by their numbers."""
_FIRST = 1 << 3 | 2


def batch_of(entries: Iterable[bytes]) -> bytes:
    """The batch of some entries."""
    return b"".join(_prefix(len(entry)) + entry for entry in entries)


def entries_of(batch: bytes) -> Iterator[bytes]:
    """The entries of a batch."""
    at = 0
    while at < len(batch) and batch[at] == _FIRST:
        size, start = _varint(batch, at + 1)
        at = start + size
        yield batch[start:at]


def failed_entries(answer: bytes) -> Iterator[str]:
    """The codes of an answer's entries that failed."""
    for entry in entries_of(answer):
        if code := failure_of(entry):
            yield code


def failure_of(entry: bytes) -> str:
    """The code of an answered entry that failed; "" of one that is well."""
    if not entry.startswith(bytes([_FIRST])):
        return ""
    length, begin = _varint(entry, 1)
    try:
        code = status_pb2.Status.FromString(entry[begin : begin + length]).code
    except DecodeError:
        return grpc.StatusCode.DATA_LOSS.name
    return CODES.get(code, "UNKNOWN") if code else ""


def _prefix(size: int) -> bytes:
    """What stands before an entry."""
    header = bytearray([_FIRST])
    while size > 0x7F:
        header.append(size & 0x7F | 0x80)
        size >>= 7
    header.append(size)
    return bytes(header)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A length that stands there, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
