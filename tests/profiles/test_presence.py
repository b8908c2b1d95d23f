"""What profiles hold of events that someone is about to write."""

from rankstream.server.profiles.interaction import RESET_TYPE, event_key, record_bytes
from rankstream.server.profiles.presence import read_presence
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.profiles.texts import Keeping
from rankstream.server.stream.apply import EventFolder
from rankstream.server.stream.event_columns import DecodedEvent
from rankstream.server.types import Position, item_key

FOLD = FoldSettings(history_cap=4, seen_cap=12, recent_cap=2)
CLICK, IMPRESSION = FOLD.type_ids["click"], FOLD.type_ids["impression"]


class NoPopularity:
    """Takes what is counted, and shows it nobody."""

    def update(self, touched):
        pass


def event(at, kind=CLICK, weight=1.0, user=b"ann", item="sea"):
    name = f"e{at}"
    return DecodedEvent(user, at, event_key(name), item_key(item), weight, kind, at + 100)


def fold(store, *events):
    batch = EventFolder(FOLD, NoPopularity(), Keeping(1, int)).batch(
        events, [Position("events", b"t" * 16, 0, 1)]
    )
    with store.write() as txn:
        batch.apply(txn)


def holds(store, one, **how):
    with store.read() as view:
        presence = read_presence(FOLD, view, [b"nobody", one.user])
        return presence.holds(1, record_bytes(*one[1:6], one.ext), **how)


def is_late(store, at, in_history=True):
    with store.read() as view:
        return read_presence(FOLD, view, [b"ann"]).is_late(0, at, in_history=in_history)


def test_nothing_is_held_of_nobody(store):
    assert not holds(store, event(5))
    assert not is_late(store, 0)


def test_the_same_content_is_held_and_no_other(store):
    fold(store, event(5), event(6, IMPRESSION))

    assert holds(store, event(5))
    assert holds(store, event(6, IMPRESSION))
    assert not holds(store, event(5, weight=2.0))
    assert not holds(store, event(5, item="sky"))
    assert not holds(store, event(5)._replace(event_time_ms=4))
    assert not holds(store, event(5, user=b"bob"))
    assert holds(store, event(5)._replace(event_time_ms=4), at_any_time=True)
    assert not holds(store, event(5, weight=2.0), at_any_time=True)


def test_settled_and_archived_records_are_held_too(store):
    events = [event(at, IMPRESSION if at % 2 else CLICK) for at in range(1, 13)]
    for one in events:
        fold(store, one)

    with store.read() as view:
        assert read_presence(FOLD, view, [b"ann"]).archived[0] > 0
    assert all(holds(store, one) for one in events)


def test_what_is_older_than_all_of_a_full_history_is_late(store):
    fold(store, event(10), event(11), event(12))
    assert not is_late(store, 9)

    fold(store, event(13))

    assert is_late(store, 9)
    assert not is_late(store, 9, in_history=False)
    assert not is_late(store, 10)


def test_what_is_at_or_before_a_reset_is_late(store):
    fold(store, DecodedEvent(b"ann", 10, 0, 0, 0.0, RESET_TYPE, 10))

    assert is_late(store, 10, in_history=False)
    assert not is_late(store, 11)
