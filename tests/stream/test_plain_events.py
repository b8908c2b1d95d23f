"""Whole chunks: the kernel reads what ``EventCodec.decode`` reads, and guesses nothing."""

import math
import random
import struct
from dataclasses import dataclass

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2

from rankstream.proto.v1 import events_pb2
from rankstream.server.config import Limits
from rankstream.server.errors import RankstreamError
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.stream.consumer import Chunk
from rankstream.server.stream.event_codec import EventCodec
from rankstream.server.stream.event_columns import EventColumns

LIMITS = Limits(max_id_bytes=16, max_record_bytes=120)
FOLD = FoldSettings(custom_types=("gift", "click on a picture"))
NOW = 1_000_000


@dataclass
class Record:
    """One record of the log."""

    offset: int
    value: bytes | None
    timestamp: int = NOW
    key: bytes | None = None
    headers: tuple = ()


def wire(**fields):
    return events_pb2.Event(**fields).SerializeToString()


def plain(number=0, **fields):
    defaults = {
        "event_id": f"e{number}",
        "event_time_ms": NOW - number,
        "user_id": f"user-{number}",
        "type": "click",
        "item_id": f"item-{number}",
    }
    return wire(**{**defaults, **fields})


def chunk_of(values, partition=0):
    records = [Record(7 + i, value) for i, value in enumerate(values)]
    return Chunk(partition, records, 7 + len(values))


def assert_read_as_one_by_one(values, partition=0):
    """What ``decode_chunks`` makes of a chunk is what ``decode`` makes of each record."""
    codec = EventCodec(FOLD, LIMITS, "events", 4)
    chunk = chunk_of(values, partition)
    good, refused, owned = [], [], []
    for record in chunk.records:
        try:
            where = record.timestamp, partition, record.offset
            good += (found := codec.decode(record.value, *where, record.headers))
            owned.append(found[0].user)
        except (RankstreamError, DecodeError) as error:
            refused.append((record, str(error)))
    expected = EventColumns.of(good)

    (decoded,) = codec.decode_chunks([chunk])

    assert decoded.chunks == [chunk]
    assert decoded.refused == refused
    assert decoded.events.users == expected.users
    assert decoded.events.rows.tobytes() == expected.rows.tobytes()
    assert decoded.events.texts == expected.texts
    owners = [(murmur2(user) & 0x7FFFFFFF) % 4 for user in owned]
    assert decoded.misplaced == sum(owner != partition for owner in owners)
    return decoded


def unread(values):
    """Which of the values the kernel leaves to ``decode``."""
    codec = EventCodec(FOLD, LIMITS, "events", 4)
    left = []
    decode = codec.decode
    codec.decode = lambda value, *rest: (left.append(value), decode(value, *rest))[1]
    codec.decode_chunks([chunk_of(values)])
    return left


numbers = st.one_of(
    st.none(),
    st.floats(),
    st.sampled_from([0.0, -0.0, 1.0, 3.0, 5.0, -2.0, 1000.0, -1000.0, 1000.5, 5e-324, 1e308]),
)
ids = st.one_of(
    st.text("abcdefgh-0123456789", min_size=1, max_size=17),
    st.text(max_size=9),
    st.sampled_from(["", "a" * 16, "a" * 17, "ü" * 8, "\0", "a\0"]),
)
messages = st.builds(
    lambda **fields: wire(**{k: v for k, v in fields.items() if v is not None}),
    event_id=ids,
    event_time_ms=st.one_of(
        st.none(),
        st.integers(NOW - 5, NOW + 5),
        st.sampled_from([0, -1, NOW + 300_000, NOW + 300_001, -(2**63), 2**63 - 1]),
    ),
    user_id=ids,
    type=st.one_of(st.sampled_from([*FOLD.type_ids, "$reset", "other", "", "clicks", "clic"])),
    item_id=ids,
    value=numbers,
    weight=numbers,
)


@st.composite
def mutated(draw):
    """A message whose bytes were changed, cut, repeated or followed by others."""
    value = bytearray(draw(messages))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(value)))
        kind = draw(st.sampled_from(["set", "cut", "insert", "repeat"]))
        if kind == "set" and at < len(value):
            value[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del value[at:]
        elif kind == "insert":
            value[at:at] = draw(st.binary(max_size=4))
        else:
            value += value[at:]
    return bytes(value)


@settings(max_examples=300, deadline=None)
@given(
    values=st.lists(st.one_of(messages, mutated(), st.binary(max_size=30), st.none()), max_size=12),
    partition=st.integers(0, 3),
)
def test_any_records_are_read_as_one_by_one(values, partition):
    assert_read_as_one_by_one(values, partition)


def test_every_change_of_one_byte_is_read_as_one_by_one():
    value = plain(3, type="rate", value=4.0, weight=2.0)
    changed = []
    for at in range(len(value)):
        for byte in {0, 1, 8, 127, 128, 255, value[at] ^ 1, value[at] ^ 128, value[at] + 1 & 255}:
            changed.append(value[:at] + bytes([byte]) + value[at + 1 :])

    assert_read_as_one_by_one(changed)


@pytest.mark.parametrize("seed", range(3))
def test_many_random_records_are_read_as_one_by_one(seed):
    draw = random.Random(seed)
    values = []
    for number in range(2000):
        value = bytearray(
            plain(
                number,
                type=draw.choice([*FOLD.type_ids]),
                **draw.choice([{}, {"value": draw.gauss(2, 3)}, {"weight": draw.gauss(0, 500)}]),
            )
        )
        if draw.random() < 0.3:
            value[draw.randrange(len(value))] = draw.randrange(256)
        values.append(bytes(value))

    assert_read_as_one_by_one(values)


ORDINARY = {
    "a click": plain(),
    "every field": plain(1, value=2.0, weight=-3.0),
    "no time": wire(event_id="e", user_id="u", type="view", item_id="i"),
    "a rate": plain(type="rate", value=1.5),
    "a review without stars": plain(type="review"),
    "a purchase of three": plain(type="purchase", value=3.0),
    "a return": plain(type="cart", value=-2.0),
    "a dislike": plain(type="dislike", weight=2.0),
    "minus zero": plain(weight=-0.0),
    "a custom type": plain(type="click on a picture"),
    "ids at their limit": plain(user_id="u" * 16, item_id="i" * 16, event_id="e" * 16),
    "other fields": plain() + b"\x22\x03old" + b"\xa0\x06\x05" + b"\xa9\x06" + bytes(8)
    + b"\xad\x06" + bytes(4),
}  # fmt: skip


@pytest.mark.parametrize("value", ORDINARY.values(), ids=ORDINARY)
def test_what_is_ordinary_is_read_by_the_kernel(value):
    assert unread([value]) == []
    assert assert_read_as_one_by_one([value]).refused == []


UNUSUAL = {
    "null": None,
    "nothing": b"",
    "a reset": plain(type="$reset"),
    "an unknown type": plain(type="clack"),
    "no event_id": wire(user_id="u", type="view", item_id="i"),
    "no user": wire(event_id="e", type="view", item_id="i"),
    "an id that is not ASCII": plain(item_id="ü"),
    "an id that is not UTF-8": plain().replace(b"item-0", b"item-\xff"),
    "a NUL": plain(user_id="a\0"),
    "a long id": plain(item_id="i" * 17),
    "a long record": plain() + b"\x22\x64" + bytes(100),
    "a time ahead": plain(event_time_ms=NOW + 300_001),
    "a negative time": plain(event_time_ms=-1),
    "a rate without stars": plain(type="rate"),
    "a weight that is no number": plain(weight=math.nan),
    "too great a weight": plain(weight=1000.5),
    "an infinite value": plain(value=math.inf),
    "a field twice": plain() + b"\x3a\x01z",
    "a field of another wire type": plain() + b"\x38\x01",
    "a group": plain() + b"\x53\x54",
    "field number 0": plain() + b"\x02\x00",
    "a length that ends outside": plain() + b"\x22\x05ab",
    "a length of 2**64 - 1": plain() + b"\x22" + b"\xff" * 9 + b"\x01",
    "a varint that does not end": plain() + b"\x50" + b"\xff" * 11,
    "a tag in more bytes than it takes": plain() + b"\xa2\x00\x00",
    "a cut double": plain() + struct.pack("<Bf", 0x49, 1.0),
}


@pytest.mark.parametrize("value", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_unusual_is_left_to_decode(value):
    assert unread([plain(1), value, plain(2)]) == [value]
    assert_read_as_one_by_one([plain(1), value, plain(2)])


def test_chunks_keep_their_own_records():
    codec = EventCodec(FOLD, LIMITS, "events", 4)
    chunks = [
        chunk_of([plain(1), b"\xff", plain(2)], 0),
        chunk_of([plain(3), plain(4, event_id="")], 2),
    ]

    first, second = codec.decode_chunks(chunks)

    assert [first.chunks, second.chunks] == [[chunk] for chunk in chunks]
    assert first.events.users == [b"user-1", b"user-2"]
    assert [record.offset for record, _ in first.refused] == [8]
    assert second.events.users == [b"user-3", b"user-4"]
    assert second.events.rows["event_time_ms"].tolist() == [NOW - 3, NOW - 4]
    assert second.refused == []


def test_the_misplaced_are_counted():
    codec = EventCodec(FOLD, LIMITS, "events", 4)
    users = [f"u{n}" for n in range(40)]
    owners = [(murmur2(user.encode()) & 0x7FFFFFFF) % 4 for user in users]
    values = [plain(user_id=user, event_id="" if n % 3 else "e") for n, user in enumerate(users)]

    whole = codec.decode_chunks([chunk_of(values, 1), chunk_of(values, 2)])
    apart = codec.decode_chunks([chunk_of([*values, b""], 1), chunk_of([*values, None], 2)])

    expected = [sum(owner != partition for owner in owners) for partition in (1, 2)]
    assert [decoded.misplaced for decoded in whole] == [sum(expected)]
    assert len(whole[0].events.users) == 80
    assert [decoded.misplaced for decoded in apart] == expected
