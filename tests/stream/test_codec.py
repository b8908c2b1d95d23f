"""Records to values: what is bad is told apart from what is good, by the same rules as gRPC's."""

import math

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2

from rankstream.kernels.murmur2 import partitions_of
from rankstream.proto.v1 import catalog_pb2, common_pb2, events_pb2
from rankstream.server.catalog.blocks import make_layout
from rankstream.server.config import Limits, Scoring
from rankstream.server.encoder.text import ItemTemplate
from rankstream.server.errors import InvalidArgument, RankstreamError
from rankstream.server.facts import item_facts
from rankstream.server.profiles.interaction import RESET_TYPE, event_key
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.stream.checks import BadRecord, check_id, check_size
from rankstream.server.stream.codec import validate_event
from rankstream.server.stream.event_codec import EventCodec
from rankstream.server.stream.item_codec import decode_item, validate_item
from rankstream.server.types import item_key

LIMITS = Limits(
    max_id_bytes=16,
    max_text_chars=20,
    max_tags=2,
    max_record_bytes=400,
    max_attributes=3,
    max_attribute_name_bytes=8,
    max_attribute_texts=4,
    max_attribute_bytes=16,
    max_facts=6,
)
FOLD = FoldSettings(custom_types=("gift",))
BLOCKS = make_layout(3, Scoring(vectors="image:2")).vectors
TEMPLATE = ItemTemplate.parse("{title} | {tags}")
NOW = 1_000_000


@pytest.fixture
def codec():
    return EventCodec(FOLD, LIMITS, "events", 4)


def event(**fields):
    defaults = {"user_id": "ann", "type": "click", "item_id": "sea", "event_time_ms": NOW}
    return events_pb2.Event(**{**defaults, **fields})


def decode(codec, message, partition=2, offset=7, at=NOW):
    """The one interaction of an event."""
    (found,) = decode_all(codec, message, partition, offset, at)
    return found


def decode_all(codec, message, partition=2, offset=7, at=NOW):
    value = message.SerializeToString() if message is not None else None
    return codec.decode(value, at, partition, offset)


def test_an_event_reads_whole(codec):
    found = decode(codec, event(event_id="e1", type="purchase", value=3.0, weight=2.0), at=NOW + 9)

    assert found.user == b"ann"
    assert (found.event_time_ms, found.broker_ms) == (NOW, NOW + 9)
    assert (found.event_key, found.target_key) == (event_key("e1"), item_key("sea"))
    assert found.weight == 4.0
    assert found.type_id == FOLD.type_ids["purchase"]


def test_an_event_without_id_or_time_gets_the_logs(codec):
    message = event()
    message.ClearField("event_time_ms")

    found = decode(codec, message, partition=3, offset=42, at=NOW)

    assert found.event_key == event_key("events/3/42")
    assert found.event_time_ms == NOW


def test_a_custom_type_is_admitted(codec):
    assert decode(codec, event(type="gift")).type_id == FOLD.type_ids["gift"]


def test_a_reset_needs_a_user_alone(codec):
    found = decode(codec, events_pb2.Event(user_id="ann", type="$reset", event_time_ms=5))

    assert (found.type_id, found.event_time_ms, found.user) == (RESET_TYPE, 5, b"ann")


BAD_EVENTS = [
    ("user_id: empty", event(user_id="")),
    ("user_id: longer than 16 bytes", event(user_id="ü" * 9)),
    ("user_id: holds a NUL", event(user_id="a\0")),
    ("item_id: empty", event(item_id="")),
    ("item_id: longer than 16 bytes", event(item_id="a" * 17)),
    ("item_id: holds a NUL", event(item_id="\0")),
    ("event_id: longer than 16 bytes", event(event_id="a" * 17)),
    ("type: 'nothing' is not a known type", event(type="nothing")),
    ("type: '' is not a known type", event(type="")),
    ("event_time_ms: is -1", event(event_time_ms=-1)),
    (f"event_time_ms: is {NOW + 300_001}", event(event_time_ms=NOW + 300_001)),
    ("event_time_ms: is -1", event(event_time_ms=-1, type="$reset")),
    ("weight: is nan", event(weight=math.nan)),
    ("weight: is inf", event(weight=math.inf)),
    ("weight: is 1000.5", event(weight=1000.5)),
    ("value: is -inf", event(value=-math.inf)),
    ("value: is missing", event(type="rate")),
    ("value: 424 bytes, the limit is 400", event(event_id="a" * 400)),
    ("user_id: empty", event(type="$reset", user_id="")),
    ("user_id: longer than 16 bytes", event(type="$reset", user_id="a" * 17)),
]


@pytest.mark.parametrize(("problem", "bad"), BAD_EVENTS)
def test_a_bad_event_says_what_is_wrong(codec, problem, bad):
    with pytest.raises(InvalidArgument) as refused:
        decode(codec, bad)

    assert str(refused.value).startswith(problem)


def test_the_time_may_be_ahead_of_the_broker_by_the_allowed_skew(codec):
    assert decode(codec, event(event_time_ms=NOW + 300_000)).event_time_ms == NOW + 300_000
    assert decode(codec, event(event_time_ms=0)).event_time_ms == 0


def test_a_null_is_no_event(codec):
    with pytest.raises(BadRecord, match="value: null, expected an Event"):
        decode(codec, None)


def test_bytes_that_are_no_event_are_refused(codec):
    with pytest.raises(DecodeError):
        codec.decode(b"\xff\xff", NOW, 0, 0)


@given(value=st.binary(max_size=60))
def test_any_bytes_are_an_event_or_refused(value):
    codec = EventCodec(FOLD, LIMITS, "events", 4)
    try:
        found = codec.decode(value, NOW, 0, 0)
    except (RankstreamError, DecodeError):
        return
    assert found[0].user
    assert abs(np.float32(found[0].weight)) <= 4000


@given(
    user=st.text(max_size=20),
    item=st.text(max_size=20),
    kind=st.sampled_from([*FOLD.type_ids, "other"]),
    value=st.one_of(st.none(), st.floats()),
    weight=st.one_of(st.none(), st.floats()),
)
def test_what_grpc_accepts_is_never_a_dead_letter(user, item, kind, value, weight):
    try:
        message = events_pb2.Event(
            user_id=user, item_id=item, type=kind, value=value, weight=weight
        )
        validate_event(message, FOLD, LIMITS)
        check_size(message.SerializeToString(), LIMITS)
    except (InvalidArgument, UnicodeEncodeError):
        return

    found, *_ = EventCodec(FOLD, LIMITS, "events", 4).decode(message.SerializeToString(), NOW, 0, 0)

    assert found.user == user.encode()
    assert np.isfinite(np.float32(found.weight))


def test_a_field_is_named_where_it_stands_in_a_request():
    with pytest.raises(InvalidArgument) as refused:
        validate_event(event(type="rate"), FOLD, LIMITS, "events[3].")

    assert refused.value.field == "events[3].value"


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 1000))
def test_partitions_are_those_of_kafkas_partitioner(keys, count):
    expected = [(murmur2(key) & 0x7FFFFFFF) % count for key in keys]

    assert partitions_of(keys, count).tolist() == expected


def test_ids_at_their_limit_are_taken():
    check_id("ü" * 8, "item_id", 16)
    check_id("a" * 16, "item_id", 16)


def item(**fields):
    return catalog_pb2.Item(**{"item_id": "sea", "title": "The Sea", **fields})


def vector(values, **changed):
    data = np.array(values, "<f4")
    fields = {"data": data.tobytes(), "dtype": common_pb2.Vector.FLOAT32, "shape": data.shape}
    return common_pb2.Vector(**{**fields, **changed})


def read(message, key=b"sea"):
    return decode_item(key, message.SerializeToString(), LIMITS, BLOCKS, TEMPLATE)


def test_an_item_reads_whole():
    found = read(item(brand="B", tags=["x", "y"], price=4.0, vectors={"image": vector([1, 2])}))

    assert (found.item_id, found.key) == ("sea", item_key("sea"))
    assert found.text == "The Sea. x, y"
    assert found.features == ["tag=x", "tag=y", "brand=b", "price=4"]
    assert found.vectors["image"].tolist() == [1, 2]


def value(*texts, **kind):
    if texts:
        kind["texts"] = common_pb2.Texts(values=texts)
    return common_pb2.AttributeValue(**kind)


def test_an_items_fields_and_attributes_are_its_facts():
    attributes = {"year": value(number=1999), "new": value(flag=True), "cast": value("a", "b", "a")}

    found = read(item(category="film", price=0, attributes=attributes))

    as_read = {"year": 1999.0, "new": True, "cast": ("a", "b")}
    wanted = item_facts("film", "", (), 0.0, as_read)
    assert found.facts.tolist() == wanted.tolist()
    assert len(wanted) == 6
    assert read(item()).facts.shape == (0, 2)


def test_attributes_at_their_limits_are_taken():
    longest = value("é" * 8, *"abc")
    assert len(read(item(attributes={"12345678": longest, "é": value(text="")})).facts) == 5


def test_an_item_record_needs_no_key_but_may_have_no_other():
    assert read(item(), key=None).item_id == "sea"
    with pytest.raises(BadRecord, match="item_id: 'sea' differs from the record's key b'sky'"):
        read(item(), key=b"sky")


BAD_ITEMS = {
    "item_id: empty": item(item_id=""),
    "item_id: longer than 16 bytes": item(item_id="a" * 17),
    "title: 21 characters, the limit is 20": item(title="a" * 21),
    "description: 21 characters": item(description="a" * 21),
    "category: 21 characters": item(category="a" * 21),
    "brand: 21 characters": item(brand="a" * 21),
    "tags: 3, the limit is 2": item(tags=["a", "b", "c"]),
    "tags[1]: longer than 16": item(tags=["a", "b" * 17]),
    "price: nan": item(price=math.nan),
    "price: inf": item(price=math.inf),
    "price: -1.0": item(price=-1.0),
    "vectors['photo']: no such block": item(vectors={"photo": vector([1, 2])}),
    "vectors['image'].dtype": item(vectors={"image": vector([1, 2], dtype=0)}),
    "vectors['image'].shape: [3]": item(vectors={"image": vector([1, 2, 3])}),
    "vectors['image'].shape: [1, 2]": item(vectors={"image": vector([[1, 2]])}),
    "vectors['image'].data: 4 bytes": item(vectors={"image": vector([1], shape=[2])}),
    "attributes: 4, the limit is 3": item(attributes={n: value(flag=True) for n in "abcd"}),
    "attributes['']: empty": item(attributes={"": value(flag=True)}),
    "attributes['123456789']: longer than 8": item(attributes={"123456789": value(flag=True)}),
    "attributes['price']: reserved": item(attributes={"price": value(number=1)}),
    "attributes['tags']: reserved": item(attributes={"tags": value("a")}),
    "attributes['a']: not set": item(attributes={"a": value()}),
    "attributes['a'].number: nan": item(attributes={"a": value(number=math.nan)}),
    "attributes['a'].number: -inf": item(attributes={"a": value(number=-math.inf)}),
    "attributes['a'].text: longer than 16": item(attributes={"a": value(text="é" * 9)}),
    "attributes['a'].texts: 5, the limit": item(attributes={"a": value(*"abcde")}),
    "attributes['a'].texts.values[1]: longer": item(attributes={"a": value("a", "b" * 17)}),
    "attributes: 7 values": item(
        price=1, attributes={"a": value(*"abcd"), "b": value(flag=True), "c": value(number=1)}
    ),
    "vectors['image'].data: holds NaN": item(vectors={"image": vector([1, math.nan])}),
}


@pytest.mark.parametrize("problem", BAD_ITEMS)
def test_a_bad_item_says_what_is_wrong(problem):
    with pytest.raises(InvalidArgument) as refused:
        validate_item(BAD_ITEMS[problem], LIMITS, BLOCKS, "items[2].")
    with pytest.raises(RankstreamError):
        read(BAD_ITEMS[problem], key=None)

    assert str(refused.value).startswith("items[2]." + problem)


def test_an_item_that_is_too_large_or_no_item_is_refused():
    with pytest.raises(InvalidArgument, match="value: 401 bytes, the limit is 400"):
        decode_item(b"k", bytes(401), LIMITS, BLOCKS, TEMPLATE)
    with pytest.raises(BadRecord, match="value: not an Item"):
        decode_item(b"k", b"\xff\xff", LIMITS, BLOCKS, TEMPLATE)


@given(value=st.binary(max_size=60))
def test_any_bytes_are_an_item_or_refused(value):
    try:
        found = decode_item(None, value, LIMITS, BLOCKS, TEMPLATE)
    except RankstreamError:
        return
    assert found.item_id
