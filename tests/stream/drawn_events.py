"""Strategies for the bytes of events: whole, odd in every field, and damaged."""

from event_chunks import FOLD, NOW, wire
from hypothesis import strategies as st

from rankstream.proto.v1 import common_pb2, events_pb2

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
