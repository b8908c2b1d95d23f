"""Events with texts and merges: whatever is done to their log, the fold is the same set."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_log import Record
from profile_memory import MemoryProfiles, Transaction

from rankstream.proto.v1 import events_pb2
from rankstream.server.config import Limits
from rankstream.server.profiles.fold import fold_batch
from rankstream.server.profiles.interaction import MOVED, TEXT, event_key, text_event_key
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.stream.consumer import Chunk
from rankstream.server.stream.event_codec import EventCodec
from rankstream.server.types import item_key, text_key

settings.register_profile("signals", derandomize=True, deadline=None, database=None)
deterministic = settings(settings.get_profile("signals"), max_examples=150)

NOW = 1_000
FOLD = FoldSettings(history_cap=6, seen_cap=8, recent_cap=2)
CODEC = EventCodec(FOLD, Limits(), "events", 4)
NAMES = ("", "red", "blue shoes", "  red ")


@st.composite
def events(draw):
    kind = draw(st.sampled_from(["view", "review", "search", "impression", "click"]))
    event = events_pb2.Event(
        event_id=draw(st.sampled_from("abcdef")),
        user_id=draw(st.sampled_from(["ann", "bob"])),
        event_time_ms=draw(st.integers(0, 20)),
        type=kind,
        item_id=draw(st.sampled_from(["sea", "sky"] + [""] * (kind in ("search", "review")))),
        text=draw(st.sampled_from(NAMES)),
        position=draw(st.sampled_from([0, 3])),
    )
    if kind == "search" and not event.text:
        event.text = "green"
    if not event.item_id and not event.text:
        event.item_id = "sea"
    return event


@st.composite
def merges(draw):
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from([event_key("a"), event_key("b"), text_event_key("a"), 7]),
                st.sampled_from([item_key("sea"), text_key("red")]),
                st.integers(0, 20),
                st.sampled_from([1.0, -0.5]),
                st.sampled_from([2, 3 | 5 << 16, 7 | TEXT << 16, 8 | TEXT << 16]),
            ),
            min_size=1,
            max_size=6,
        )
    )
    columns = [list(column) for column in zip(*rows, strict=True)]
    names = ("event_keys", "target_keys", "event_times_ms", "weights", "kinds")
    moved = events_pb2.MovedInteractions(**dict(zip(names, columns, strict=True)))
    user = draw(st.sampled_from(["ann", "bob"]))
    return events_pb2.Event(user_id=user, type="$merge", event_time_ms=5, moved=moved)


resets = st.builds(
    lambda user, at: events_pb2.Event(user_id=user, type="$reset", event_time_ms=at),
    st.sampled_from(["ann", "bob"]),
    st.integers(0, 15),
)
logs = st.lists(st.one_of(events(), events(), events(), merges(), resets), min_size=1, max_size=25)


@st.composite
def cuts(draw, log):
    at = sorted(draw(st.sets(st.integers(0, len(log)), max_size=6)))
    ends = [0, *at, len(log)]
    return [log[a:b] for a, b in zip(ends, ends[1:], strict=False) if b > a]


def folded(batches):
    """The state and the texts after batches, each decoded as one chunk."""
    store, texts, offset = MemoryProfiles(FOLD), {}, 0
    for batch in batches:
        values = [event.SerializeToString() for event in batch]
        records = [Record(offset + n, value, timestamp=NOW) for n, value in enumerate(values)]
        offset += len(records)
        (decoded,) = CODEC.decode_chunks([Chunk(0, records, offset)])
        assert not decoded.refused
        columns = decoded.events
        users = list(dict.fromkeys(columns.users))
        owners = np.array([users.index(user) for user in columns.users], np.int32)
        reader = Transaction(store, users)
        store._write(users, fold_batch(FOLD, reader, owners, len(users), columns.rows))
        texts.update(columns.texts)
    return store, texts


def states(log, batches):
    store, texts = folded(batches)
    users = sorted({event.user_id.encode() for event in log})
    return [(store.profile_bytes(user), store.seen_bytes(user)) for user in users], texts


@deterministic
@given(st.data(), logs)
def test_order_and_redelivery_change_nothing(data, log):
    again = data.draw(st.lists(st.sampled_from(log), max_size=8))
    shuffled = data.draw(st.permutations(log + again))

    assert states(log, data.draw(cuts(shuffled))) == states(log, [log])


@deterministic
@given(logs)
def test_every_text_target_has_its_text(log):
    store, texts = folded([log])

    mine = [event for event in log if event.type not in ("$merge", "$reset")]
    assert set(texts.values()) == {" ".join(event.text.split()) for event in mine} - {""}
    assert texts == {text_key(text): text for text in texts.values()}
    held = {i.target_key for user in store.recent for i in store.profile(user).interactions}
    moved = {item_key("sea"), text_key("red")}
    assert held <= texts.keys() | {item_key("sea"), item_key("sky")} | moved


def test_moved_interactions_are_marked_and_merge_with_what_the_user_has():
    kept = events_pb2.Event(
        event_id="a", user_id="ann", type="view", item_id="sea", event_time_ms=9, text="red"
    )
    moved = events_pb2.MovedInteractions(
        event_keys=[event_key("guest")],
        target_keys=[item_key("sky")],
        event_times_ms=[10],
        weights=[1.0],
        kinds=[2],
    )
    merge = events_pb2.Event(user_id="ann", type="$merge", event_time_ms=11, moved=moved)

    store, _ = folded([[kept], [merge, merge]])

    records = np.frombuffer(store.profile_bytes(b"ann")[8:], "<i8,<u8,<u8,<f4,<u2,<u2")
    assert records["f5"].tolist() == [0, TEXT, MOVED] or records["f5"].tolist() == [TEXT, 0, MOVED]
    assert records["f2"].tolist()[-1] == item_key("sky")
