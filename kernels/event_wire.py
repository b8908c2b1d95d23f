"""Reading events of the log off the wire, many at once, without an object for each.

The wire of an event is ``message Event`` of proto/v1/events.proto, in Protocol Buffers' encoding:
https://protobuf.dev/programming-guides/encoding. A record is read here only where nothing about it
is unusual; all others are left to the caller, who can say what is wrong with one.
"""

from typing import Final, NamedTuple

import numpy as np

from rankstream.kernels.arrays import Float32, Int64, UInt8
from rankstream.kernels.blake2b import hash_into, person_words
from rankstream.kernels.compilation import compiled
from rankstream.kernels.murmur2 import partition_of
from rankstream.kernels.spans import is_same, read_word

ANY: Final = 0
DISLIKE: Final = 1
STARS: Final = 2
STARS_NEEDED: Final = 3
QUANTITY: Final = 4
"""Curves of a type's weight; ``server/profiles/interaction.py`` defines them."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_ID, _TIME, _USER, _TYPE, _ITEM, _VALUE, _WEIGHT = 1, 2, 3, 6, 7, 8, 9
_FIELDS: Final = 10
_KINDS = np.array([-1, 2, 0, 2, -1, -1, 2, 2, 1, 1], np.int64)
"""The wire type of each field of an event, by number; -1: no field that is read."""

_EVENT_PERSON: Final = person_words(b"event")
_ITEM_PERSON: Final = person_words(b"item")


class Admitted(NamedTuple):
    """What an event must keep to.

    Attributes:
        names: uint8[.], the admitted types end to end.
        ends: int64[K]; type i is named ``names[ends[i - 1]:ends[i]]``.
        type_ids: int64[K].
        curves: int64[K], how each makes a weight of a value.
        max_id: bytes of an id at most.
        max_record: bytes of a record at most.
        max_weight: magnitude of a weight at most.
        saturation: of the curve QUANTITY.
        skew_ms: how far an event's time may be ahead of the broker's.
        n_partitions: partitions of the topic.
    """

    names: UInt8
    ends: Int64
    type_ids: Int64
    curves: Int64
    max_id: int
    max_record: int
    max_weight: float
    saturation: float
    skew_ms: int
    n_partitions: int


class Plain(NamedTuple):
    """N records after ``read_events``.

    Attributes:
        events: int64[N, 5], as the fold takes them.
        users: int64[N, 2]: where each user_id starts and stops.
        good: uint8[N]: 1 where the record was read; the others' rows mean nothing.
        misplaced: uint8[N]: whether Kafka's partitioner puts the user elsewhere.
    """

    events: Int64
    users: Int64
    good: UInt8
    misplaced: UInt8


@compiled
def read_events(text: UInt8, ends: Int64, origins: Int64, admitted: Admitted) -> Plain:
    """Reads N records.

    Args:
        text: uint8[T], the values end to end.
        ends: int64[N]; value i is ``text[ends[i - 1]:ends[i]]``.
        origins: int64[2, N]: the broker's timestamp and the partition of each.
        admitted: types and limits.
    """
    count = ends.shape[0]
    events, users = np.zeros((count, 5), np.int64), np.zeros((count, 2), np.int64)
    good, misplaced = np.zeros(count, np.uint8), np.zeros(count, np.uint8)
    ids, items = np.zeros((2, count), np.int64), np.zeros((2, count), np.int64)
    weights = np.zeros(count, np.float32)
    spans, found = np.zeros((_FIELDS, 2), np.int64), np.zeros(_FIELDS, np.uint8)
    start = 0
    for i in range(count):
        small = ends[i] - start <= admitted.max_record
        if small and _read_fields(text, start, ends[i], spans, found):
            good[i] = _read_event(
                text, spans, found, origins[0, i], admitted, events[i], weights, i
            )
        if good[i]:
            users[i, 0], users[i, 1] = spans[_USER, 0], spans[_USER, 1]
            ids[0, i], ids[1, i] = spans[_ID, 0], spans[_ID, 1]
            items[0, i], items[1, i] = spans[_ITEM, 0], spans[_ITEM, 1]
            owner = partition_of(text, users[i, 0], users[i, 1], admitted.n_partitions)
            misplaced[i] = owner != origins[1, i]
        start = ends[i]
    keys = np.empty((2, count), np.uint64)
    hash_into(text, ids[0], ids[1], _EVENT_PERSON, keys[0])
    hash_into(text, items[0], items[1], _ITEM_PERSON, keys[1])
    bits = weights.view(np.uint32)
    for i in range(count):
        events[i, 1], events[i, 2] = np.int64(keys[0, i]), np.int64(keys[1, i])
        events[i, 3] |= np.int64(bits[i])
    return Plain(events, users, good, misplaced)


@compiled
def _read_varint(text: UInt8, at: int, stop: int) -> tuple[np.uint64, int]:
    """The varint at ``at``, and where it ends; -1: it does not, or takes more than 64 bits."""
    value, shift = np.uint64(0), 0
    while at < stop and shift < 70:
        byte = np.uint64(text[at])
        at += 1
        value |= (byte & np.uint64(0x7F)) << np.uint64(shift)
        if byte < 0x80:
            return value, at if shift < 63 or byte < 2 else -1
        shift += 7
    return value, -1


@compiled
def _read_fields(text: UInt8, at: int, stop: int, spans: Int64, found: UInt8) -> bool:
    """Finds the fields of a message: a span each, or a number's bits in the first place.

    Returns:
        Whether the message is well-formed, with no field twice, or of another wire type than the
        schema says, and no groups.
    """
    found[:] = 0
    while at < stop:
        before = at
        tag, at = _read_varint(text, before, stop)
        number, kind = np.int64(tag >> np.uint64(3)), np.int64(tag & np.uint64(7))
        if at < 0 or not 0 < number < 1 << 29 or at - before > (1 if number < 16 else 5):
            return False
        length, value = np.int64(0), np.uint64(0)
        if kind == _VARINT:
            value, at = _read_varint(text, at, stop)
        elif kind == _LENGTH:
            before = at
            size, at = _read_varint(text, before, stop)
            length = np.int64(min(size, np.uint64(1 << 62)))
            if at - before > 5:
                return False
        elif kind == _FIXED64 or kind == _FIXED32:
            length = np.int64(8 if kind == _FIXED64 else 4)
        else:
            return False
        if at < 0 or length > stop - at:
            return False
        if number < _FIELDS and _KINDS[number] >= 0:
            if _KINDS[number] != kind or found[number]:
                return False
            found[number] = 1
            spans[number, 0] = np.int64(value) if kind == _VARINT else at
            spans[number, 1] = at + length
        at += int(length)
    return True


@compiled
def _read_event(
    text: UInt8,
    spans: Int64,
    found: UInt8,
    broker_ms: int,
    admitted: Admitted,
    event: Int64,
    weights: Float32,
    i: int,
) -> bool:
    """Fills what needs no hash of an event and its weight; returns whether all is as it must be."""
    if not (
        _is_id(text, spans, found, _ID, admitted.max_id)
        and _is_id(text, spans, found, _USER, admitted.max_id)
        and _is_id(text, spans, found, _ITEM, admitted.max_id)
        and found[_TYPE]
    ):
        return False
    at = spans[_TIME, 0] if found[_TIME] else broker_ms
    kind = _find_type(text, spans[_TYPE, 0], spans[_TYPE, 1], admitted)
    if kind < 0 or not 0 <= at <= broker_ms + admitted.skew_ms:
        return False
    value = _read_double(text, spans[_VALUE, 0]) if found[_VALUE] else 1.0
    carried = _read_double(text, spans[_WEIGHT, 0]) if found[_WEIGHT] else 1.0
    curve = admitted.curves[kind]
    if not (abs(carried) <= admitted.max_weight and np.isfinite(value)):
        return False
    if curve == STARS_NEEDED and not found[_VALUE]:
        return False
    factor = _weigh(curve, value, admitted.saturation) if found[_VALUE] or curve == DISLIKE else 1.0
    weights[i] = np.float32(carried * factor + 0.0)
    event[0], event[3], event[4] = at, admitted.type_ids[kind] << 32, broker_ms
    return True


@compiled
def _is_id(text: UInt8, spans: Int64, found: UInt8, field: int, most: int) -> bool:
    """Whether a field is there and is 1 to ``most`` ASCII characters, none of them NUL."""
    start, stop = spans[field, 0], spans[field, 1]
    if not found[field] or not 0 < stop - start <= most:
        return False
    for at in range(start, stop):
        if text[at] == 0 or text[at] >= 0x80:
            return False
    return True


@compiled
def _find_type(text: UInt8, start: int, stop: int, admitted: Admitted) -> int:
    """The place of a type among the admitted ones, or -1."""
    first = 0
    for kind in range(admitted.ends.shape[0]):
        last = admitted.ends[kind]
        if last - first == stop - start and is_same(
            text, start, admitted.names, first, stop - start
        ):
            return kind
        first = last
    return -1


@compiled
def _read_double(text: UInt8, at: int) -> float:
    """The little-endian IEEE 754 number at ``at``."""
    word = np.empty(1, np.uint64)
    word[0] = read_word(text, at, at + 8)
    return float(word.view(np.float64)[0])


@compiled
def _weigh(curve: int, value: float, saturation: float) -> float:
    """A type's curve: the same operations, in the same order, as where it is defined."""
    if curve == DISLIKE:
        return -1.0
    if curve == STARS or curve == STARS_NEEDED:
        return min(max((value - 3.0) / 2.0, -1.0), 1.0)
    if curve == QUANTITY:
        return (1.0 + saturation) * (value / (saturation + abs(value)))
    return 1.0
