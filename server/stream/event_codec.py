"""Records of the events topic to interactions, whole chunks at a time.

What is plain is read by a kernel (``plain_events.py``), what is not by ``EventCodec.decode``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from rankstream.kernels.murmur2 import partitions_of
from rankstream.proto.v1 import events_pb2
from rankstream.server.config import Limits
from rankstream.server.errors import RankstreamError
from rankstream.server.profiles.interaction import (
    EVENT,
    POSITION,
    RESET_TYPE,
    TEXT,
    check_event_time,
    event_key,
    text_event_key,
)
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.stream.checks import BadRecord, check_id, check_size
from rankstream.server.stream.codec import MERGE, RESET, Admission, validate_event
from rankstream.server.stream.consumer import Chunk, Record
from rankstream.server.stream.event_columns import (
    Decoded,
    DecodedEvent,
    EventColumns,
    row_of,
    texts_of,
)
from rankstream.server.stream.event_json import event_from_json, is_json
from rankstream.server.stream.moved import moved_events
from rankstream.server.stream.plain_events import PlainEvents, PlainReader
from rankstream.server.types import item_key, text_key

_HEADERS = attrgetter("headers")


@dataclass(frozen=True, slots=True, eq=False)
class _Unplain:
    """What was made of the records that are not plain, by their indices.

    Attributes:
        refused: why a record cannot be folded.
        more: the interactions behind the first one, of those that have several.
        texts: of those that have any, by their keys.
    """

    refused: dict[int, str] = field(default_factory=dict)
    more: dict[int, list[DecodedEvent]] = field(default_factory=dict)
    texts: dict[int, Mapping[int, str]] = field(default_factory=dict)


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
        self,
        value: bytes | None,
        timestamp_ms: int,
        partition: int,
        offset: int,
        headers: Sequence[tuple[str, bytes | None]] = (),
    ) -> list[DecodedEvent]:
        """Reads one record: its interactions, at least one, all of one user.

        Args:
            value: the record's value, an ``Event``.
            timestamp_ms: the broker's timestamp.
            partition: where the record is; names an event that has no id.
            offset: likewise.
            headers: the record's; they say where the value is JSON.

        Raises:
            BadRecord: it has no value, or one that is no JSON though its header says so.
            DecodeError: it is no ``Event``.
            InvalidArgument: it cannot be folded; the message names the field.
        """
        if value is None:
            msg = "value: null, expected an Event (only the items topic has deletions)"
            raise BadRecord(msg)
        check_size(value, self._limits)
        event = _parse(value, headers)
        at = event.event_time_ms if event.HasField("event_time_ms") else timestamp_ms
        check_event_time(at, timestamp_ms, self._fold.allowed_skew_ms)
        if event.type in (RESET, MERGE):
            check_id(event.user_id, "user_id", self._limits.max_id_bytes)
            user = event.user_id.encode()
            if event.type == MERGE:
                return moved_events(event, user, timestamp_ms, self._fold)
            return [DecodedEvent(user, at, 0, 0, 0.0, RESET_TYPE, timestamp_ms)]
        name = event.event_id or f"{self._topic}/{partition}/{offset}"
        admission = validate_event(event, self._fold, self._limits)
        return interactions_of(event, admission, name, at, timestamp_ms, self._item_key)

    def decode_chunks(self, chunks: Sequence[Chunk]) -> list[Decoded]:
        """Reads all records of at least one chunk; each is read, or refused, as by ``decode``."""
        records = [record for chunk in chunks for record in chunk.records]
        counts = [len(chunk.records) for chunk in chunks]
        partitions = np.repeat(np.array([c.partition for c in chunks], np.int64), counts)
        timestamps = [record.timestamp for record in records]
        plain = self._reader.read(_binary_values(records), timestamps, partitions)
        other = self._decode_unread(records, partitions, plain)
        if not other.refused:
            return [_cut_out(chunks, plain, other, range(len(records)))]
        decoded, first = [], 0
        for chunk, count in zip(chunks, counts, strict=True):
            decoded.append(_cut_out([chunk], plain, other, range(first, first + count)))
            first += count
        return decoded

    def _decode_unread(
        self, records: Sequence[Record], partitions: NDArray[np.int64], plain: PlainEvents
    ) -> _Unplain:
        """Reads one by one what the kernel left out, the first interactions into ``plain``."""
        users, rows, other = plain.columns.users, plain.columns.rows, _Unplain()
        for i in plain.unread:
            record = records[i]
            where = int(partitions[i]), record.offset
            try:
                events = self.decode(record.value, record.timestamp, *where, record.headers)
            except (RankstreamError, DecodeError) as error:
                other.refused[i] = str(error)
                continue
            users[i], rows[i] = events[0].user, row_of(events[0])
            if len(events) > 1:
                other.more[i] = events[1:]
            if texts := texts_of(events):
                other.texts[i] = texts
        if plain.unread:
            unread = plain.unread
            owners = partitions_of([users[i] for i in unread], self._n_partitions)
            plain.misplaced[unread] = owners != partitions[unread]
            plain.misplaced[list(other.refused)] = False
        return other

    def _item_key(self, item_id: str) -> int:
        key = self._item_keys.get(item_id)
        if key is None:
            if len(self._item_keys) >= 65_536:
                self._item_keys.clear()
            key = self._item_keys[item_id] = item_key(item_id)
        return key


def interactions_of(
    event: events_pb2.Event,
    admission: Admission,
    name: str,
    at: int,
    broker_ms: int,
    key_of_item: Callable[[str], int] = item_key,
) -> list[DecodedEvent]:
    """The interactions of an event: with its item, with its text, or both.

    Args:
        event: a valid one.
        admission: what ``validate_event`` said of it.
        name: its id, or what takes its place.
        at: its time.
        broker_ms: the log's timestamp.
        key_of_item: ``item_key``, or what remembers it.
    """
    type_id, weight, text = admission
    user, found = event.user_id.encode(), []
    if event.item_id:
        target, place = key_of_item(event.item_id), min(event.position, POSITION)
        key = event_key(name)
        found.append(DecodedEvent(user, at, key, target, weight, type_id, broker_ms, place))
    if text:
        target, key = text_key(text), text_event_key(name)
        found.append(DecodedEvent(user, at, key, target, weight, type_id, broker_ms, TEXT, text))
    return found


def _parse(value: bytes, headers: Sequence[tuple[str, bytes | None]]) -> events_pb2.Event:
    if headers and is_json(headers):
        return event_from_json(value)
    event = events_pb2.Event()
    event.ParseFromString(value)
    return event


def _binary_values(records: Sequence[Record]) -> list[bytes]:
    """The values, without those that are null, or JSON by their header: no kernel reads them."""
    values = [record.value or b"" for record in records]
    if any(map(_HEADERS, records)):
        for i, record in enumerate(records):
            if record.headers and is_json(record.headers):
                values[i] = b""
    return values


def _cut_out(
    chunks: Sequence[Chunk], plain: PlainEvents, other: _Unplain, places: range
) -> Decoded:
    """The part of a read that is some chunks'; ``places`` are their records' indices."""
    part = slice(places.start, places.stop)
    users, rows = plain.columns.users[part], plain.columns.rows[part]
    kept = [i for i in places if i not in other.refused] if other.refused else places
    if len(kept) < len(places):
        users, rows = [plain.columns.users[i] for i in kept], plain.columns.rows[list(kept)]
    if other.more:
        more = [(i, event) for i in kept for event in other.more.get(i, ())]
        users, rows = _with_more(users, rows, kept, more)
    texts: dict[int, str] = {}
    for i, found in other.texts.items():
        if i in places:
            texts.update(found)
    # Where any record is refused, the chunks are cut out one by one.
    records = chunks[0].records
    refused = [(records[i - places.start], why) for i, why in other.refused.items() if i in places]
    misplaced = int(plain.misplaced[part].sum())
    return Decoded(chunks, EventColumns(users, rows, texts), refused, misplaced)


def _with_more(
    users: list[bytes],
    rows: NDArray[np.void],
    places: Sequence[int],
    more: Sequence[tuple[int, DecodedEvent]],
) -> tuple[list[bytes], NDArray[np.void]]:
    """Puts further interactions behind the first one of their record: the log's order counts."""
    users = users + [event.user for _, event in more]
    rows = np.concatenate([rows, np.array([row_of(event) for _, event in more], EVENT)])
    order = np.argsort([*places, *(i for i, _ in more)], kind="stable")
    return [users[i] for i in order.tolist()], rows[order]
