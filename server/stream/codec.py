"""Records of the events topic to values the fold takes; what all records must be.

The same rules validate what comes over gRPC (``validate_event``), so that what is accepted there is
never dead-lettered here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from rankstream.kernels.murmur2 import partitions_of
from rankstream.proto.v1 import events_pb2
from rankstream.server.config import Limits
from rankstream.server.errors import InvalidArgument, RankstreamError
from rankstream.server.profiles.interaction import (
    RESET_TYPE,
    check_event_time,
    event_key,
    signed_weight,
)
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.stream.consumer import Chunk, Record
from rankstream.server.stream.event_columns import Decoded, DecodedEvent, row_of
from rankstream.server.stream.plain_events import PlainEvents, PlainReader
from rankstream.server.types import item_key

RESET = "$reset"
MERGE = "$merge"


class BadRecord(RankstreamError):
    """A log record that no replica can fold; it goes to the dead-letter topic."""

    status = "INVALID_ARGUMENT"


class EventCodec:
    """Decodes records of the events topic. Remembers the keys of items it has met lately."""

    def __init__(self, fold: FoldSettings, limits: Limits, topic: str, n_partitions: int) -> None:
        self._fold = fold
        self._limits = limits
        self._topic = topic
        self._n_partitions = n_partitions
        self._item_keys: dict[str, int] = {}
        self._reader = PlainReader(fold, limits, n_partitions)

    def decode(
        self, value: bytes | None, timestamp_ms: int, partition: int, offset: int
    ) -> DecodedEvent:
        """Reads one record.

        Args:
            value: the record's value, an ``Event``.
            timestamp_ms: the broker's timestamp.
            partition: where the record is; names an event that has no id.
            offset: likewise.

        Raises:
            BadRecord: it has no value.
            DecodeError: it is no ``Event``.
            InvalidArgument: it cannot be folded; the message names the field.
        """
        if value is None:
            msg = "value: null, expected an Event (only the items topic has deletions)"
            raise BadRecord(msg)
        check_size(value, self._limits)
        event = events_pb2.Event()
        event.ParseFromString(value)
        user = event.user_id.encode()
        at = event.event_time_ms if event.HasField("event_time_ms") else timestamp_ms
        check_event_time(at, timestamp_ms, self._fold.allowed_skew_ms)
        if event.type == RESET:
            check_id(event.user_id, "user_id", self._limits.max_id_bytes)
            return DecodedEvent(user, at, 0, 0, 0.0, RESET_TYPE, timestamp_ms)
        type_id, weight = validate_event(event, self._fold, self._limits)
        name = event.event_id or f"{self._topic}/{partition}/{offset}"
        return DecodedEvent(
            user,
            at,
            event_key(name),
            self._item_key(event.item_id),
            weight,
            type_id,
            timestamp_ms,
        )

    def decode_chunks(self, chunks: Sequence[Chunk]) -> list[Decoded]:
        """Reads all records of at least one chunk; each is read, or refused, as by ``decode``."""
        records = [record for chunk in chunks for record in chunk.records]
        counts = [len(chunk.records) for chunk in chunks]
        partitions = np.repeat(np.array([c.partition for c in chunks], np.int64), counts)
        values = [record.value or b"" for record in records]
        plain = self._reader.read(values, [record.timestamp for record in records], partitions)
        refused = self._decode_unread(records, partitions, plain)
        if not refused:
            return [Decoded(chunks, plain.columns, [], int(plain.misplaced.sum()))]
        decoded, first = [], 0
        for chunk, count in zip(chunks, counts, strict=True):
            decoded.append(plain.cut_out(chunk, refused, range(first, first + count)))
            first += count
        return decoded

    def _decode_unread(
        self, records: Sequence[Record], partitions: NDArray[np.int64], plain: PlainEvents
    ) -> dict[int, str]:
        """Reads one by one what the kernel left out; returns why those that are refused are."""
        refused = {}
        users, rows = plain.columns.users, plain.columns.rows
        for i in plain.unread:
            record, partition = records[i], int(partitions[i])
            try:
                event = self.decode(record.value, record.timestamp, partition, record.offset)
            except (RankstreamError, DecodeError) as error:
                refused[i] = str(error)
            else:
                users[i], rows[i] = event.user, row_of(event)
                owner = partitions_of([event.user], self._n_partitions)[0]
                plain.misplaced[i] = owner != partition
        return refused

    def _item_key(self, item_id: str) -> int:
        key = self._item_keys.get(item_id)
        if key is None:
            if len(self._item_keys) >= 65_536:
                self._item_keys.clear()
            key = self._item_keys[item_id] = item_key(item_id)
        return key


def validate_event(
    event: events_pb2.Event, fold: FoldSettings, limits: Limits, field: str = ""
) -> tuple[int, float]:
    """Checks an event's own fields; its time is checked against a clock by the caller.

    Args:
        event: the message.
        fold: admitted types and curves.
        limits: lengths.
        field: where the event stands in a request, as ``events[3].``.

    Returns:
        ``(type_id, signed weight)``.

    Raises:
        InvalidArgument: names the field.
    """
    check_id(event.user_id, field + "user_id", limits.max_id_bytes)
    return validate_interaction(event, fold, limits, field)[:2]


def validate_interaction(
    event: events_pb2.Event, fold: FoldSettings, limits: Limits, field: str = ""
) -> tuple[int, float, str]:
    """As ``validate_event``, of an event that is nobody's."""
    check_id(event.item_id, field + "item_id", limits.max_id_bytes)
    if len(event.event_id.encode()) > limits.max_id_bytes:
        raise InvalidArgument(field + "event_id", f"longer than {limits.max_id_bytes} bytes")
    type_id = fold.type_id(event.type)
    if type_id is None:
        names = ", ".join(fold.type_ids)
        problem = f"{event.type!r} is not a known type; there are {names}"
        raise InvalidArgument(field + "type", problem)
    value = event.value if event.HasField("value") else None
    weight = event.weight if event.HasField("weight") else None
    try:
        return type_id, signed_weight(event.type, value, weight), ""
    except InvalidArgument as error:
        raise InvalidArgument(field + error.field, error.problem) from None


def check_size(value: bytes, limits: Limits, field: str = "value") -> None:
    """A record's value is bounded, whoever wrote it.

    Raises:
        InvalidArgument: names the field.
    """
    if len(value) > limits.max_record_bytes:
        raise InvalidArgument(field, f"{len(value)} bytes, the limit is {limits.max_record_bytes}")


def check_id(name: str, field: str, max_bytes: int) -> None:
    """An external id: not empty, bounded, no NUL.

    Raises:
        InvalidArgument: names the field.
    """
    if not name:
        raise InvalidArgument(field, "empty, expected an id")
    if len(name) > max_bytes or len(name.encode()) > max_bytes:
        raise InvalidArgument(field, f"longer than {max_bytes} bytes")
    if "\0" in name:
        raise InvalidArgument(field, "holds a NUL character")
