"""Records of events: what interactions they become, and what is refused."""

import json
import math

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from rankstream.proto.v1 import common_pb2, events_pb2
from rankstream.server.config import Limits
from rankstream.server.errors import InvalidArgument, RankstreamError
from rankstream.server.profiles.interaction import MOVED, TEXT, event_key, text_event_key
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.stream.checks import BadRecord
from rankstream.server.stream.codec import validate_event
from rankstream.server.stream.event_codec import EventCodec
from rankstream.server.types import item_key, text_key

LIMITS = Limits(
    max_id_bytes=16,
    max_event_text_chars=20,
    max_attributes=2,
    max_attribute_name_bytes=16,
    max_attribute_bytes=20,
    max_attribute_texts=2,
)
FOLD = FoldSettings(history_cap=3, seen_cap=2)
NOW = 1_000_000
JSON = [("content-type", b"application/json")]


@pytest.fixture
def codec():
    return EventCodec(FOLD, LIMITS, "events", 4)


def event(**fields):
    defaults = {"user_id": "ann", "type": "review", "item_id": "sea", "event_time_ms": NOW}
    return events_pb2.Event(**{**defaults, **fields})


def decode(codec, message):
    return codec.decode(message.SerializeToString(), NOW, 2, 7)


def test_an_event_with_item_and_text_is_an_interaction_with_each(codec):
    both = event(event_id="e1", text="  blue \n shoes ", value=5.0, weight=2.0, position=3)

    item, text = decode(codec, both)

    assert (item.event_key, item.target_key, item.ext, item.text) == (
        event_key("e1"), item_key("sea"), 3, ""
    )  # fmt: skip
    assert (text.event_key, text.target_key, text.ext) == (
        text_event_key("e1"), text_key("blue shoes"), TEXT
    )  # fmt: skip
    assert text.text == "blue shoes"
    assert item.weight == text.weight == 2.0
    assert item[:2] == text[:2]
    assert (item.type_id, item.broker_ms) == (text.type_id, text.broker_ms)


def test_a_search_needs_no_item(codec):
    (alone,) = decode(codec, event(type="search", item_id="", text="red"))
    item, text = decode(codec, event(type="search", text="red"))

    assert (alone.ext, alone.target_key) == (TEXT, text_key("red"))
    assert alone.event_key == text_event_key("events/2/7")
    assert (item.ext, text.ext) == (0, TEXT)


def test_a_text_of_white_space_is_none(codec):
    (found,) = decode(codec, event(text=" \t"))

    assert found.target_key == item_key("sea")


@pytest.mark.parametrize(("position", "ext"), [(0, 0), (1, 1), (16_383, 16_383), (70_000, 16_383)])
def test_a_position_is_kept_up_to_14_bits(codec, position, ext):
    (found,) = decode(codec, event(type="impression", position=position))

    assert found.ext == ext


def value(**kind):
    return {"a": common_pb2.AttributeValue(**kind)}


BAD = [
    ("text: empty, expected what was searched for", event(type="search", text="")),
    ("text: empty, expected what was searched for", event(type="search", text=" ")),
    ("item_id: empty", event(item_id="")),
    ("item_id: empty", event(item_id="", text=" ")),
    ("item_id: empty", event(item_id="", text="red", type="click")),
    ("item_id: empty", event(item_id="", text="red", type="impression")),
    ("item_id: longer than 16 bytes", event(item_id="i" * 17, text="red")),
    ("text: 21 characters, the limit is 20", event(text="a" * 21)),
    ("text: holds a NUL", event(text="a\0")),
    ("event_id: holds a NUL", event(event_id="a\0text")),
    ("session_id: longer than 16 bytes", event(session_id="s" * 17)),
    ("session_id: holds a NUL", event(session_id="\0")),
    ("platform: longer than 16 bytes", event(platform="p" * 17)),
    ("attributes: 3, the limit is 2", event(attributes={n: value(flag=True)["a"] for n in "abc"})),
    ("attributes['']: empty", event(attributes={"": value(flag=True)["a"]})),
    ("attributes['a']: not set", event(attributes={"a": common_pb2.AttributeValue()})),
    ("attributes['a'].number: nan, expected a finite", event(attributes=value(number=math.nan))),
    ("attributes['a'].text: longer than 20", event(attributes=value(text="a" * 21))),
    ("attributes['a'].text: holds a NUL", event(attributes=value(text="\0"))),
    ("attributes['a'].texts: 3, the limit is 2",
     event(attributes=value(texts=common_pb2.Texts(values="abc")))),
    ("attributes['a'].texts.values[0]: longer than 20",
     event(attributes=value(texts=common_pb2.Texts(values=["a" * 21])))),
    ("moved: only $merge has it", event(moved=events_pb2.MovedInteractions())),
]  # fmt: skip


@pytest.mark.parametrize(("problem", "bad"), BAD)
def test_a_bad_event_says_what_is_wrong(codec, problem, bad):
    with pytest.raises(InvalidArgument) as refused:
        decode(codec, bad)
    with pytest.raises(InvalidArgument) as refused_too:
        validate_event(bad, FOLD, LIMITS, "events[3].")

    assert str(refused.value).startswith(problem)
    assert str(refused_too.value).startswith("events[3]." + problem)


@pytest.mark.parametrize("kind", ["$reset", "$merge"])
def test_what_only_the_server_writes_is_no_event_to_record(kind):
    with pytest.raises(InvalidArgument, match="type: .* ResetProfile and MergeProfiles write them"):
        validate_event(event(type=kind), FOLD, LIMITS)


def merge(**changed):
    moved = {
        "event_keys": [1, 2**64 - 1],
        "target_keys": [item_key("sea"), text_key("red")],
        "event_times_ms": [5, NOW],
        "weights": [1.0, -0.25],
        "kinds": [3 | 9 << 16, 7 | TEXT << 16],
    }
    moved = events_pb2.MovedInteractions(**{**moved, **changed})
    return events_pb2.Event(user_id="ann", type="$merge", moved=moved)


def test_a_merge_is_the_guests_interactions(codec):
    first, second = decode(codec, merge())

    assert first == (b"ann", 5, 1, item_key("sea"), 1.0, 3, NOW, MOVED | 9, "")
    assert second == (b"ann", NOW, 2**64 - 1, text_key("red"), -0.25, 7, NOW, MOVED | TEXT, "")
    assert decode(codec, merge(kinds=[3 | MOVED << 16] * 2))[0].ext == MOVED


def many(count):
    return merge(
        event_keys=[*range(count)],
        target_keys=[1] * count,
        event_times_ms=[1] * count,
        weights=[1.0] * count,
        kinds=[3] * count,
    )


BAD_MERGES = {
    "moved: its arrays differ in length": merge(kinds=[3]),
    "moved: 0, expected 1 to 5": many(0),
    "moved: 6, expected 1 to 5": many(6),
    "moved.event_times_ms: the oldest is -1": merge(event_times_ms=[-1, 5]),
    "moved.event_times_ms: the newest is 1300001": merge(event_times_ms=[5, NOW + 300_001]),
    "moved.weights: holds NaN": merge(weights=[1.0, math.nan]),
    "moved.weights: holds NaN or inf": merge(weights=[1.0, math.inf]),
    "moved.kinds: the types [0, 99]": merge(kinds=[0, 99]),
}


@pytest.mark.parametrize("problem", BAD_MERGES)
def test_a_bad_merge_is_refused_whole(codec, problem):
    with pytest.raises(InvalidArgument) as refused:
        decode(codec, BAD_MERGES[problem])

    assert str(refused.value).startswith(problem)
    assert len(decode(codec, many(5))) == 5


def test_a_merge_needs_a_user(codec):
    nobody = merge()
    nobody.user_id = ""

    with pytest.raises(InvalidArgument, match="user_id: empty"):
        decode(codec, nobody)


def test_json_reads_as_the_binary_form_does(codec):
    full = event(
        event_id="é",
        text="red",
        value=4.5,
        session_id="s",
        attributes=value(texts=common_pb2.Texts(values=["x"])),
    )

    for options in ({}, {"preserving_proto_field_name": True}):
        text = json_format.MessageToJson(full, **options)
        assert codec.decode(text.encode(), NOW, 2, 7, JSON) == decode(codec, full)


def test_fields_that_json_has_and_the_proto_has_not_are_ignored(codec):
    text = b'{"userId":"ann","type":"view","itemId":"sea","colour":{"r":[1]}}'

    assert codec.decode(text, NOW, 2, 7, JSON)[0].target_key == item_key("sea")


BAD_JSON = {
    "nothing": b"",
    "no JSON": b"{",
    "not UTF-8": b'{"userId":"\xff"}',
    "a list": b"[7]",
    "a number": b"7",
    "null": b"null",
    "a wrong type": b'{"userId":7}',
    "a wrong number": b'{"value":"much"}',
    "a time that is none": b'{"eventTimeMs":1e400}',
    "a number of many digits": b'{"eventTimeMs":' + b"9" * 5000 + b"}",
    "a key twice": b'{"userId":"a","userId":"b"}',
    "half a surrogate pair": b'{"userId":"\\ud800","type":"view","itemId":"i"}',
    "deeply nested lists": b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deeply nested objects": b'{"attributes":' * 10_000 + b"{}" + b"}" * 10_000,
    "binary": event().SerializeToString(),
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_bad_json_is_refused(codec, name):
    with pytest.raises(BadRecord, match="value: not an Event in JSON: ") as refused:
        codec.decode(BAD_JSON[name], NOW, 2, 7, JSON)

    assert len(str(refused.value)) < 300


def test_json_is_bounded_as_the_binary_form_is():
    codec = EventCodec(FOLD, Limits(max_record_bytes=50), "events", 1)

    with pytest.raises(InvalidArgument, match="value: 60 bytes, the limit is 50"):
        codec.decode(b" " * 60, NOW, 0, 0, JSON)


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
names = st.sampled_from([f.json_name for f in events_pb2.Event.DESCRIPTOR.fields])


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.binary(max_size=40), st.dictionaries(names, values).map(json.dumps)))
def test_any_json_is_an_event_or_refused(text):
    codec = EventCodec(FOLD, LIMITS, "events", 4)
    try:
        found = codec.decode(text if isinstance(text, bytes) else text.encode(), NOW, 2, 7, JSON)
    except RankstreamError:
        return
    assert found
