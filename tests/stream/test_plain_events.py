"""Whole chunks: the kernel reads what ``EventCodec.decode`` reads, and guesses nothing."""

import math
import random
import struct

import pytest
from drawn_events import messages, mutated
from event_chunks import FOLD, NOW, assert_read_as_one_by_one, plain, text, unread, wire
from hypothesis import given, settings
from hypothesis import strategies as st

from rankstream.proto.v1 import common_pb2, events_pb2


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
