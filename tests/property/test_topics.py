"""The order between topics and partitions, cuts, crashes and compaction change no final answer."""

import asyncio
import dataclasses
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from small_server import MadeUpEncoder, task
from topics_log import ITEMS, PARTITIONS, ROOMY, TIGHT, USERS, Again, Log, Record, bytes_of, logs
from topics_oracle import Gone, Merge, Said, Tuning, User
from topics_replica import TOPIC_IDS, Replica

from rankstream.proto.v1.profiles_pb2 import MergeProfilesRequest
from rankstream.server.config import Limits
from rankstream.server.filters import (
    AllOf,
    BetweenUser,
    EqualsUser,
    Filter,
    NoneOf,
    between,
    equals,
    exists,
)
from rankstream.server.profiles.users import MAX_CLAIMS
from rankstream.server.services.profiles import ProfilesService
from rankstream.server.stream import publisher
from rankstream.server.types import Asked, Query
from rankstream.server.wire import Names

settings.register_profile("topics", derandomize=True, deadline=None, database=None)
deterministic = settings(settings.get_profile("topics"), max_examples=40)
few = settings(deterministic, max_examples=15)

EVERYONE = (*USERS, "nobody")
QUERY = ("blue", 0.7)
EVENTS = [("events", n) for n in range(PARTITIONS["events"])]
OTHERS = [("items", 0), ("items", 1), ("users", 0), ("users", 1)]

FILTERS = {
    "of a category": (equals("category", "c1"), lambda i, u: i.category == "c1"),
    "by price": (between("price", 4, 30), lambda i, u: i.price is not None and 4 <= i.price <= 30),
    "without a fit": (NoneOf((exists("fit"),)), lambda i, u: not i.fit),
    "as the user likes": (
        EqualsUser("category", "likes"),
        lambda i, u: u.likes == i.category != "",
    ),
    "new, in budget": (
        AllOf((equals("tags", "new"), BetweenUser("price", None, "budget"))),
        lambda i, u: "new" in i.tags and None not in (i.price, u.budget) and i.price <= u.budget,
    ),
}


def tasks_of(user):
    """Every kind of question about a user; k is more than there are items."""
    query = Query(*QUERY)
    asked = Asked(query=query, encoded={QUERY[0]: MadeUpEncoder().encode([QUERY[0]])[0]})
    rest = {"k": 20, "explained": 20, "reasons": 300}
    return {
        "whole": task(user, **rest),
        "given": task(user, item_ids=[*ITEMS, "nothing"], **rest),
        "unseen": task(user, exclude_seen=True, **rest),
        "query": task(user, asked=asked, **rest),
        **{name: task(user, filter=Filter.make(t), **rest) for name, (t, _) in FILTERS.items()},
    }


TASKS = {(user, kind): t for user in EVERYONE for kind, t in tasks_of(user).items()}
NAMES = [name.encode() for name in EVERYONE]


@contextmanager
def replica(log, records=None, **more):
    """A replica over a log, or over what is left of it."""
    with tempfile.TemporaryDirectory() as folder:
        ends = {where: len(entries) for where, entries in log.partitions.items()}
        left = {where: log.records(where) for where in ends} if records is None else records
        made = Replica(Path(folder), left, ends, log.caps, log.oracle.tuning, **more)
        try:
            yield made
        finally:
            made.close()


def outcome(made):
    """What a replica holds and says at the end, to its own worker and to a new one."""
    made.finish()
    answers = made.answers(list(TASKS.values()))
    assert made.answers(list(TASKS.values()), made.new_engine()) == answers
    return made.state(NAMES), dict(zip(TASKS, answers, strict=True))


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("events"), st.sets(st.sampled_from(EVENTS), min_size=1), st.integers(1, 9)
        ),
        st.tuples(st.just("others"), st.sampled_from(OTHERS), st.integers(1, 4)),
        st.tuples(st.sampled_from(["encode", "commit", "rank", "bias", "crash"])),
    ),
    max_size=25,
)


def drive(made, schedule):
    """Goes through the log as a schedule says."""
    for step, *how in schedule:
        if step == "events":
            made.take(sorted(how[0]), how[1])
        elif step == "others":
            made.take([how[0]], how[1])
        elif step == "rank":
            made.rank(TASKS["ann", "new, in budget"])
        elif step == "bias":
            made.bias_file.refresh()
        else:
            {"encode": made.encode, "commit": made.commit, "crash": made.crash}[step]()


def in_order(made, log):
    """Each record alone, as it was produced, committed and encoded at once."""
    for topic, number, _, _ in log.produced:
        made.take([(topic, number)], 1)
        made.commit()
        made.encode()
        made.commit()


def check_state(state, log):
    oracle, ids = log.oracle, {name: number for number, name in enumerate(EVERYONE)}
    assert state["profiles"] == [oracle.profile_bytes(user) for user in EVERYONE]
    assert state["seen"] == [oracle.seen_bytes(user) for user in EVERYONE]
    people = [[i.decode() for i in state["people"][ids[user]].ids] for user in EVERYONE]
    assert people == [oracle.person(user) for user in EVERYONE]
    assert state["counters"] == oracle.counters()
    assert state["items_count"] == len(state["items"]) == len(oracle.items)
    assert all(text.vector for text in state["texts"].values())


def check_answers(answers, log):
    for user in EVERYONE:
        plain, asked = log.oracle.rank(user), log.oracle.rank(user, QUERY)
        about, seen = log.oracle.attributes(user), log.oracle.seen_items(user)
        items = log.oracle.items
        check_answer(answers[user, "whole"], plain, set(items))
        check_answer(answers[user, "given"], plain, set(items))
        check_answer(answers[user, "unseen"], plain, set(items) - seen)
        check_answer(answers[user, "query"], asked, set(items))
        for name, (_, passes) in FILTERS.items():
            wanted = {i for i, item in items.items() if passes(item, about)}
            check_answer(answers[user, name], plain, wanted)
        missing = [n for n, i in enumerate([*ITEMS, "nothing"]) if i not in items]
        assert answers[user, "given"][1] == missing


def check_answer(answer, expected, wanted):
    shown, _, fallback, _ = answer
    assert set(shown) == wanted
    if expected.shaky:
        # What cancels out but for rounding is no direction to agree upon.
        event("shaky")
        return
    known = "no_usable_history" if expected.known else "unknown_user"
    assert fallback == ("" if expected.personal else known)
    for name, (score, blocks, bias, reasons) in shown.items():
        total, parts, popular, why = expected.items[name]
        assert score == pytest.approx(total, abs=1e-6)
        assert blocks == pytest.approx(parts, abs=1e-6)
        assert bias == pytest.approx(popular, abs=1e-6)
        found = sorted(((i, text), kind, at, part) for i, text, kind, at, part in reasons)
        assert [r[:3] for r in found] == [r[:3] for r in why]
        for r, w in zip(found, why, strict=True):
            assert r[3] == pytest.approx(w[3], abs=1e-6)


@deterministic
@given(logs(), steps, steps)
def test_any_interleaving_answers_as_the_log_read_in_order(log, one, other):
    outcomes = []
    for schedule in (one, other):
        with replica(log) as made:
            drive(made, schedule)
            outcomes.append(outcome(made))
    with replica(log) as made:
        in_order(made, log)
        outcomes.append(outcome(made))

    state, answers = outcomes[-1]
    check_state(state, log)
    check_answers(answers, log)
    for found in outcomes[:-1]:
        assert found == outcomes[-1]


@few
@given(st.data(), logs(), steps)
def test_what_compaction_drops_changes_nothing(data, log, schedule):
    superseded = {
        (where, record.offset)
        for where, entries in log.partitions.items()
        for n, (_, record) in enumerate(entries)
        if where[0] != "events" and any(r.key == record.key for _, r in entries[n + 1 :])
    }
    dropped = data.draw(
        st.sets(st.sampled_from(sorted(superseded))) if superseded else st.just(set())
    )
    dropped |= data.draw(st.sampled_from([set(), tombstones_of(log, superseded)]))
    with replica(log) as whole, replica(log, log.without(dropped)) as compacted:
        in_order(whole, log)
        drive(compacted, schedule)
        (state, answers), (left, found) = outcome(whole), outcome(compacted)

    # Behind a record that is gone there may be none to say so.
    assert left.pop("positions").keys() <= state.pop("positions").keys()
    # A text that nothing names any more is remembered by one of them.
    assert left.pop("texts").items() <= state.pop("texts").items()
    assert left == state
    assert found == answers


def tombstones_of(log, superseded):
    """Deletions and all that they delete: after a time Kafka drops those, too."""
    gone = {
        (where, record.key): record.offset
        for where, entries in log.partitions.items()
        if where[0] != "events"
        for plain, record in entries
        if isinstance(plain, Gone) and (where, record.offset) not in superseded
    }
    return {
        (where, record.offset)
        for where, entries in log.partitions.items()
        for _, record in entries
        if (where, record.key) in gone
    }


@few
@given(st.data(), logs(), steps)
def test_an_event_that_comes_again_changes_nothing_while_it_is_retained(data, log, schedule):
    """Here everything is retained: the sets have room, and resets are left out."""
    once, twice = Log(ROOMY), Log(ROOMY)
    for topic, _, record, made in log.produced:
        kept = topic != "events" or (isinstance(record, Said) and record.event_id)
        for target, times in ((once, 1), (twice, data.draw(st.integers(1, 2)))) if kept else ():
            target.now = made.timestamp
            for _ in range(times if topic == "events" else 1):
                target.write(topic, record)
    with replica(once) as one, replica(twice) as other:
        in_order(one, once)
        drive(other, schedule)
        (state, answers), (again, found) = outcome(one), outcome(other)

    assert again | {"positions": {}} == state | {"positions": {}}
    assert found == answers


def final(operations, caps=ROOMY, schedule=(), **more):
    """State and answers after operations."""
    log = Log(caps)
    for operation in operations:
        log.apply(operation)
    with replica(log, **more) as made:
        drive(made, schedule)
        return outcome(made)


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

    assert {t.text for t in state["texts"].values()} == {f"text {n}" for n in range(2, 6)}
    assert state["profiles"] == final(said)[0]["profiles"]


@pytest.mark.parametrize(("claims", "owner"), [(MAX_CLAIMS, "user-00"), (MAX_CLAIMS + 1, "web-1")])
def test_more_claims_of_one_identity_than_are_remembered(tmp_path, claims, owner):
    """When all that came later are given up, the first one holds, if it was remembered."""
    names = [f"user-{n:02d}" for n in range(claims)]
    claim = [Record(n, n, b"", User(name, identities=("web-1",))) for n, name in enumerate(names)]
    leave = [Record(claims + n, 99, b"", User(name)) for n, name in enumerate(names) if n]
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
    assert written.records[::2] == merges
    assert [key.decode() for _, key, _ in written.records[1::2]] == [
        guest for guest, m in zip(USERS, moved, strict=True) if m
    ]
