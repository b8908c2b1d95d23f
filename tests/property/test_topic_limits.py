"""Where the order does count, as documented; and what the service writes for a merge."""

import asyncio
import dataclasses
import itertools

import pytest
from hypothesis import given
from memory_log import Record
from topics_bytes import bytes_of
from topics_log import ITEMS, ROOMY, TIGHT, USERS, Again, Log, logs
from topics_records import Merge, Said, Tuning, User
from topics_replica import TOPIC_IDS, Replica
from topics_runs import EVENTS, drive, few, in_order, outcome, replica

from rankstream.proto.v1.events_pb2 import Event
from rankstream.proto.v1.profiles_pb2 import MergeProfilesRequest
from rankstream.server.config import Limits
from rankstream.server.profiles.users import MAX_CLAIMS
from rankstream.server.services.profiles import ProfilesService
from rankstream.server.stream import publisher
from rankstream.server.wire import Names


def final(operations, caps=ROOMY, schedule=(), **more):
    """State and answers after operations."""
    log = Log(caps)
    for operation in operations:
        log.apply(operation)
    with replica(log, **more) as made:
        drive(made, schedule)
        return outcome(made)


def event_of(record):
    """What was written, as (topic, key, value)."""
    return Event.FromString(record[2])


def clicks(count):
    return [Said("ann", f"e{n}", count - n, "click", ITEMS[n % 4]) for n in range(count)]


def counted(state):
    return sum(state["counters"].values())


def test_beyond_the_retained_set_a_duplicate_counts_again():
    log = clicks(TIGHT.seen + 1)
    (once, _), (within, _), (beyond, _) = (
        final([*log, *again], TIGHT) for again in ([], [Again(len(log) - 1)], [Again(0)])
    )

    assert counted(within) == counted(once)
    assert counted(beyond) == counted(once) + 1
    for other in (within, beyond):
        assert (other["profiles"], other["seen"]) == (once["profiles"], once["seen"])


def test_texts_beyond_the_bound_are_forgotten_oldest_first():
    said = [Said("ann", "", None, "search", text=f"text {n}") for n in range(6)]
    state, _ = final(said, schedule=[("events", {EVENTS[0]}, 1), ("commit",)] * 6, kept_texts=4)

    assert {text for text, _ in state["texts"].values()} == {f"text {n}" for n in range(2, 6)}
    assert state["profiles"] == final(said)[0]["profiles"]


@pytest.mark.parametrize(("claims", "owner"), [(MAX_CLAIMS, "user-00"), (MAX_CLAIMS + 1, "web-1")])
def test_more_claims_of_one_identity_than_are_remembered(tmp_path, claims, owner):
    """When all that came later are given up, the first one holds, if it was remembered."""
    names = [f"user-{n:02d}" for n in range(claims)]
    claim = [Record(n, User(name, identities=("web-1",)), b"", n) for n, name in enumerate(names)]
    leave = [Record(claims + n, User(name), b"", 99) for n, name in enumerate(names) if n]
    records = [dataclasses.replace(r, key=None, value=bytes_of(r.value)) for r in claim + leave]
    where = ("users", 0)
    made = Replica(tmp_path, {where: records}, {where: len(records)}, ROOMY, Tuning())

    for _ in records:
        made.take([where], 1)
        made.commit()

    assert made.state([b"web-1"])["people"][0].user == owner.encode()
    made.close()


class Written:
    """Takes what a service writes to the log."""

    def __init__(self):
        self.records = []

    async def publish(self, topic, records):
        self.records += [(topic, record.key, record.value) for record in records]
        return [publisher.Written(0, 0) for _ in records]


class Fresh:
    """Whatever is asked for has been applied."""

    async def wait(self, after, deadline):
        return False

    def topic_id(self, lane):
        return TOPIC_IDS[lane]


class Context:
    def time_remaining(self):
        return 5.0


@few
@given(logs())
def test_merges_are_those_of_the_service(log):
    """The logs' merges come from the oracle: here it is asked the same as the service."""
    written, names = Written(), Names("", "", "", {lane: lane for lane in TOPIC_IDS}, {})
    with replica(log) as made:
        in_order(made, log)
        parts = made.store, made.profiles, Fresh(), made.page, names, Limits()
        service = ProfilesService(written, *parts)
        for guest in USERS:
            request = MergeProfilesRequest(from_user_id=guest, into_user_id="nobody")
            asyncio.run(service.MergeProfiles(request, Context()))

    moved = [log.oracle.retained(guest) for guest in USERS]
    merges = [("events", b"nobody", bytes_of(Merge("nobody", m))) for m in moved if m]
    assert [r for r in written.records if event_of(r).type == "$merge"] == merges
    # Each merge is followed by a reset of its guest, up to the newest that was moved.
    assert [
        (event_of(after).user_id, event_of(after).event_time_ms)
        for before, after in itertools.pairwise(written.records)
        if event_of(before).type == "$merge"
    ] == [(guest, max(r.time for r in m)) for guest, m in zip(USERS, moved, strict=True) if m]
