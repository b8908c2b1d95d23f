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

from rankstream.proto.v1 import common_pb2, events_pb2
from rankstream.server.config import Limits
from rankstream.server.errors import RankstreamError
from rankstream.server.profiles.interaction import event_key
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.stream.consumer import Chunk
from rankstream.server.stream.event_codec import EventCodec
from rankstream.server.stream.event_columns import EventColumns
from rankstream.server.types import text_key

LIMITS = Limits(
    max_id_bytes=16,
    max_record_bytes=200,
    max_event_text_chars=20,
    max_event_attributes=2,
    max_tags=2,
)
FOLD = FoldSettings(
    custom_types=("gift", "click on a picture", "read", "watch", "again"),
    curves=("read:centred(30,30)", "watch:linear(0.5,2)", "again:constant(-2.5)"),
)
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


def text(value):
    return common_pb2.AttributeValue(text=value)


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
names = st.one_of(st.text("abc", max_size=3), ids)
texts = st.one_of(st.text("abc ", max_size=5), st.text(max_size=22), ids)
attribute_values = st.one_of(
    st.builds(lambda text: common_pb2.AttributeValue(text=text), texts),
    st.builds(lambda number: common_pb2.AttributeValue(number=number), st.floats()),
    st.builds(lambda flag: common_pb2.AttributeValue(flag=flag), st.booleans()),
    st.builds(
        lambda values: common_pb2.AttributeValue(texts=common_pb2.Texts(values=values)),
        st.lists(texts, max_size=3),
    ),
    st.just(common_pb2.AttributeValue()),
)
moved_interactions = st.builds(
    lambda rows, cut: events_pb2.MovedInteractions(
        event_keys=[row[0] for row in rows],
        target_keys=[row[0] for row in rows],
        event_times_ms=[row[1] for row in rows],
        weights=[row[2] for row in rows[cut:]],
        kinds=[row[3] for row in rows],
    ),
    st.lists(
        st.tuples(
            st.integers(0, 2**64 - 1),
            st.one_of(st.integers(0, NOW), st.integers(-(2**63), 2**63 - 1)),
            st.floats(width=32),
            st.sampled_from([2, 3, 2 | 7 << 16, 7 | 0x8000 << 16, 0, 99]),
        ),
        max_size=3,
    ),
    st.sampled_from([0, 0, 0, 1]),
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
    type=st.sampled_from([*FOLD.type_ids, "$reset", "$merge", "other", "", "clicks", "clic"]),
    item_id=ids,
    value=numbers,
    weight=numbers,
    session_id=st.one_of(st.none(), ids),
    platform=st.one_of(st.none(), ids),
    position=st.one_of(st.none(), st.sampled_from([0, 1, 16_383, 16_384, 2**32 - 1])),
    text=st.one_of(st.none(), st.none(), texts),
    attributes=st.one_of(
        st.none(), st.dictionaries(names, attribute_values, min_size=1, max_size=3)
    ),
    moved=st.one_of(st.none(), st.none(), moved_interactions),
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
    value = plain(
        3,
        type="rate",
        value=4.0,
        weight=2.0,
        session_id="s",
        position=300,
        attributes={
            "a": common_pb2.AttributeValue(number=2.0),
            "b": common_pb2.AttributeValue(texts=common_pb2.Texts(values=["x", "y"])),
        },
    )
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
    "its session and platform": plain(session_id="s" * 16, platform="web"),
    "a position": plain(position=300),
    "attributes": plain(
        attributes={
            "page": text("home"),
            "flag": common_pb2.AttributeValue(flag=True),
        }
    ),
    "a number and texts": plain(
        attributes={
            "hour": common_pb2.AttributeValue(number=-1.5),
            "tags": common_pb2.AttributeValue(texts=common_pb2.Texts(values=["a", ""])),
        }
    ),
    "a curve of its own": plain(type="read", value=45.0),
    "a share": plain(type="watch", value=9.0),
    "a constant": plain(type="again", value=9.0),
    "ids at their limit": plain(user_id="u" * 16, item_id="i" * 16, event_id="e" * 16),
    "other fields": plain() + b"\x62\x03old" + b"\xa0\x06\x05" + b"\xa9\x06" + bytes(8)
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
    "a long record": plain() + b"\xa2\x06\xc8\x01" + bytes(200),
    "a text": plain(text="blue shoes"),
    "an empty text": plain() + b"\x52\x00",
    "a search": plain(type="search", text="blue shoes"),
    "a session that is not UTF-8": plain(session_id="s").replace(b"\x22\x01s", b"\x22\x01\xff"),
    "a long platform": plain(platform="p" * 17),
    "too many attributes": plain(attributes={name: text("") for name in "abc"}),
    "an attribute without a name": plain(attributes={"": text("a")}),
    "an attribute without a value": plain(attributes={"a": common_pb2.AttributeValue()}),
    "an attribute that is no number": plain(
        attributes={"a": common_pb2.AttributeValue(number=math.nan)}
    ),
    "a long attribute": plain(attributes={"a": text("a" * 21)}),
    "too many texts": plain(
        attributes={"a": common_pb2.AttributeValue(texts=common_pb2.Texts(values="abc"))}
    ),
    "an attribute twice": plain() + 3 * b"\x6a\x07\x0a\x01a\x12\x02\x18\x01",
    "a position of 33 bits": plain() + b"\x58\x81\x80\x80\x80\x10",
    "a merge": plain(type="$merge", moved=events_pb2.MovedInteractions(event_keys=[1])),
    "another's merge": plain(moved=events_pb2.MovedInteractions()),
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


def test_several_interactions_of_an_event_stay_at_its_place():
    both = plain(2, type="review", text=" blue\tshoes ")
    values = [plain(1), both, plain(3), plain(4, type="search", text="red"), both]

    decoded = assert_read_as_one_by_one(values)

    users = [b"user-1", b"user-2", b"user-2", b"user-3", b"user-4", b"user-4", b"user-2", b"user-2"]
    assert decoded.events.users == users
    assert decoded.events.texts == {text_key("blue shoes"): "blue shoes", text_key("red"): "red"}
    texts = [0x8000 & ext for ext in decoded.events.rows["ext"]]
    assert texts == [0, 0, 0x8000, 0, 0, 0x8000, 0, 0x8000]


def test_texts_stay_with_their_chunk_where_another_has_a_bad_record():
    codec = EventCodec(FOLD, LIMITS, "events", 4)
    chunks = [
        chunk_of([plain(1, type="search", text="one"), b"\xff"], 0),
        chunk_of([plain(2), plain(3, type="search", text="two")], 1),
    ]

    first, second = codec.decode_chunks(chunks)

    assert list(first.events.texts.values()) == ["one"]
    assert list(second.events.texts.values()) == ["two"]
    assert second.events.users == [b"user-2", b"user-3", b"user-3"]


def test_json_is_read_where_the_header_says_so():
    codec = EventCodec(FOLD, LIMITS, "events", 4)
    json = b'{"eventId":"e","userId":"u","type":"click","itemId":"i"}'
    binary = wire(event_id="e", user_id="u", type="click", item_id="i")
    labels = [
        ("content-type", b"application/json"),
        ("Content-Type", b"Application/JSON; charset=utf-8"),
        ("other", None),
        ("content-type", b"text/plain"),
        ("content-type", None),
    ]
    records = [Record(n, json, headers=[label]) for n, label in enumerate(labels)]
    records += [Record(5, binary, headers=[("x", b"y")]), Record(6, binary, headers=labels[:1])]

    (decoded,) = codec.decode_chunks([Chunk(0, records, 7)])

    assert [record.offset for record, _ in decoded.refused] == [2, 3, 4, 6]
    assert decoded.events.rows["event_key"].tolist() == 3 * [event_key("e")]


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
