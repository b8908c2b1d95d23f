"""Reading events of the log off the wire, many at once, without an object for each.

The wire of an event is ``message Event`` of proto/v1/events.proto, in Protocol Buffers' encoding:
https://protobuf.dev/programming-guides/encoding. A record is read here only where nothing about it
is unusual; all others are left to the caller, who can say what is wrong with one.
"""

from typing import Final, NamedTuple

import numpy as np

from rankstream.kernels.arrays import Float32, Float64, Int64, UInt8
from rankstream.kernels.attribute_wire import is_plain_attribute
from rankstream.kernels.blake2b import hash_into, person_words
from rankstream.kernels.compilation import compiled
from rankstream.kernels.murmur2 import partition_of
from rankstream.kernels.spans import is_same, read_word
from rankstream.kernels.varint import is_ascii, read_span, read_varint

CONSTANT: Final = 0
CENTRED: Final = 1
LINEAR: Final = 2
QUANTITY: Final = 3
"""Curves of a type's weight; ``server/profiles/curves.py`` defines them."""

MAX_POSITION: Final = 0x3FFF
"""A position takes 14 bits of a record's ``ext``; a greater one counts as this."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_ID, _TIME, _USER, _SESSION, _PLATFORM, _TYPE, _ITEM = 1, 2, 3, 4, 5, 6, 7
_VALUE, _WEIGHT, _TEXT, _POSITION, _ATTRIBUTES, _MOVED = 8, 9, 10, 11, 13, 14
_FIELDS: Final = 15
_KINDS = np.array([-1, 2, 0, 2, 2, 2, 2, 2, 1, 1, 2, 0, -1, 2, 2], np.int64)
"""The wire type of each field of an event, by number; -1: no field that is read."""

_NAME_END, _TYPE_ID, _CURVE, _NEEDED = 0, 1, 2, 3

_EVENT_PERSON: Final = person_words(b"event")
_ITEM_PERSON: Final = person_words(b"item")


class Admitted(NamedTuple):
    """What an event must keep to.

    Attributes:
        names: uint8[.], the admitted types end to end.
        types: int64[K, 4]: where each one's name ends, its id, its curve, and 1 where it must have
            a value. Columns of one array: each array of a tuple is counted whenever it is passed.
        parameters: float64[K, 2], of the curves.
        max_id: bytes of an id at most.
        max_record: bytes of a record at most.
        max_attributes: attributes of an event at most.
        max_name: bytes of an attribute's name at most.
        max_text: characters of an attribute's text at most.
        max_texts: texts of an attribute at most.
        max_weight: magnitude of a weight at most.
        skew_ms: how far an event's time may be ahead of the broker's.
        n_partitions: partitions of the topic.
    """

    names: UInt8
    types: Int64
    parameters: Float64
    max_id: int
    max_record: int
    max_attributes: int
    max_name: int
    max_text: int
    max_texts: int
    max_weight: float
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
        if good[i] and found[_ATTRIBUTES]:
            good[i] = _are_plain_attributes(text, start, ends[i], admitted)
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
def _read_fields(text: UInt8, at: int, stop: int, spans: Int64, found: UInt8) -> bool:
    """Finds the fields of a message: a span each, or a number's bits in the first place.

    Returns:
        Whether the message is well-formed, with no field twice, or of another wire type than the
        schema says, and no groups.
    """
    found[:] = 0
    while at < stop:
        before = at
        tag, at = read_varint(text, before, stop)
        number, kind = np.int64(tag >> np.uint64(3)), np.int64(tag & np.uint64(7))
        if at < 0 or not 0 < number < 1 << 29 or at - before > (1 if number < 16 else 5):
            return False
        length, value = np.int64(0), np.uint64(0)
        if kind == _VARINT:
            value, at = read_varint(text, at, stop)
        elif kind == _LENGTH:
            before = at
            size, at = read_varint(text, before, stop)
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
            if _KINDS[number] != kind or (found[number] and number != _ATTRIBUTES):
                return False
            found[number] = 1
            spans[number, 0] = np.int64(value) if kind == _VARINT else at
            spans[number, 1] = at + length
        at += int(length)
    return True


@compiled
def _are_plain_attributes(text: UInt8, at: int, stop: int, admitted: Admitted) -> bool:
    """Whether all attributes of a well-formed message are plainly valid, and not too many."""
    count = 0
    while at < stop:
        tag, at = read_varint(text, at, stop)
        kind = np.int64(tag & np.uint64(7))
        if kind == _VARINT:
            _, at = read_varint(text, at, stop)
        elif kind != _LENGTH:
            at += 8 if kind == _FIXED64 else 4
        else:
            start, at = read_span(text, at, stop)
            if tag >> np.uint64(3) == _ATTRIBUTES:
                count += 1
                if count > admitted.max_attributes or not is_plain_attribute(
                    text, start, at, admitted.max_name, admitted.max_text, admitted.max_texts
                ):
                    return False
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
        and not (found[_TEXT] or found[_MOVED])
        and _is_note(text, spans, found, _SESSION, admitted.max_id)
        and _is_note(text, spans, found, _PLATFORM, admitted.max_id)
    ):
        return False
    position = spans[_POSITION, 0] if found[_POSITION] else 0
    if not 0 <= position < 1 << 32:
        return False
    at = spans[_TIME, 0] if found[_TIME] else broker_ms
    kind = _find_type(text, spans[_TYPE, 0], spans[_TYPE, 1], admitted)
    if kind < 0 or not 0 <= at <= broker_ms + admitted.skew_ms:
        return False
    value = _read_double(text, spans[_VALUE, 0]) if found[_VALUE] else 1.0
    carried = _read_double(text, spans[_WEIGHT, 0]) if found[_WEIGHT] else 1.0
    if not (abs(carried) <= admitted.max_weight and np.isfinite(value)):
        return False
    if admitted.types[kind, _NEEDED] and not found[_VALUE]:
        return False
    factor = _weigh(
        admitted.types[kind, _CURVE], admitted.parameters, kind, found[_VALUE] != 0, value
    )
    weights[i] = np.float32(carried * factor + 0.0)
    ext = min(position, MAX_POSITION)
    event[0], event[3], event[4] = at, admitted.types[kind, _TYPE_ID] << 32 | ext << 48, broker_ms
    return True


@compiled
def _is_id(text: UInt8, spans: Int64, found: UInt8, field: int, most: int) -> bool:
    """Whether a field is there and is 1 to ``most`` ASCII characters, none of them NUL."""
    start, stop = spans[field, 0], spans[field, 1]
    return found[field] and stop > start and is_ascii(text, start, stop, most)


@compiled
def _is_note(text: UInt8, spans: Int64, found: UInt8, field: int, most: int) -> bool:
    """Whether a field is not there, or is at most ``most`` ASCII characters, none of them NUL."""
    return not found[field] or is_ascii(text, spans[field, 0], spans[field, 1], most)


@compiled
def _find_type(text: UInt8, start: int, stop: int, admitted: Admitted) -> int:
    """The place of a type among the admitted ones, or -1."""
    first = 0
    for kind in range(admitted.types.shape[0]):
        last = admitted.types[kind, _NAME_END]
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
def _weigh(curve: int, parameters: Float64, kind: int, given: bool, value: float) -> float:
    """A type's curve: the same operations, in the same order, as where it is defined."""
    a, b = float(parameters[kind, 0]), float(parameters[kind, 1])
    if curve == CONSTANT:
        return a
    if not given:
        return 1.0
    if curve == CENTRED:
        return min(max((value - a) / b, -1.0), 1.0)
    if curve == LINEAR:
        return min(max(a * value, -b), b)
    return (1.0 + a) * (value / (a + abs(value)))
