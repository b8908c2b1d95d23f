"""StreamEvents and ImportEvents over real state and a log in memory."""

import asyncio
import os

import pytest
from google.rpc import code_pb2
from service_calls import Call
from small_server import EVENTS_ID

from rankstream.proto.v1 import events_pb2
from rankstream.server.config import Limits
from rankstream.server.errors import InvalidArgument, Unavailable
from rankstream.server.freshness import Freshness
from rankstream.server.services.event_intake import EventIntake
from rankstream.server.services.events import EventsService
from rankstream.server.stream.publisher import Written
from rankstream.server.stream.token import unpack_token
from rankstream.server.types import Position

LIMITS = Limits(
    max_id_bytes=32, max_record_bytes=300, max_stream_events=8, max_stream_remembered=3,
    max_import_failures=2, max_events=3, max_wait_ms=50, default_wait_ms=1,
)  # fmt: skip
ACCEPTED, DUPLICATE, LATE, REJECTED = 1, 2, 3, 4


class Log:
    """Takes records, counts calls in flight, and fails when told to."""

    def __init__(self):
        self.written = []
        self.calls = []
        self.in_flight = self.most = 0
        self.fail = []

    async def publish(self, topic, records, *, patient=False):
        self.calls.append(len(records))
        self.in_flight += len(records)
        self.most = max(self.most, self.in_flight)
        for _ in range(20):
            await asyncio.sleep(0)
        self.in_flight -= len(records)
        if self.fail:
            raise self.fail.pop()
        first = len(self.written)
        self.written += records
        return [Written(record.key[-1] % 2, first + n) for n, record in enumerate(records)]


class Case:
    def __init__(self, server):
        self.log = Log()
        self.bell, self._rung = os.pipe()
        freshness = Freshness(server.store, self.bell, LIMITS.default_wait_ms / 1000)
        intake = EventIntake(self.log, "e", server.fold, LIMITS)
        self.service = EventsService(intake, freshness, server.store)

    def stream(self, *messages):
        async def run():
            return [ack async for ack in self.service.StreamEvents(Sent(messages), Call())]

        return asyncio.run(run())

    def load(self, *messages):
        requests = [events_pb2.ImportEventsRequest(events=part) for part in messages]
        return asyncio.run(self.service.ImportEvents(Sent(requests), Call()))

    def close(self):
        os.close(self.bell)
        os.close(self._rung)


class Sent:
    """A stream of messages; an error is raised in its place, and does not end it."""

    def __init__(self, messages):
        self.messages = list(messages)

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)
        if not self.messages:
            raise StopAsyncIteration
        found = self.messages.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def case(server):
    server.events(("ann", "sea", 5, "click", 1.0))
    made = Case(server)
    yield made
    made.close()


def event(name="e", **fields):
    defaults = {"event_id": name, "user_id": "ann", "type": "click", "item_id": "sea"}
    return events_pb2.Event(**{**defaults, "event_time_ms": 9, **fields})


def outcomes(acks):
    return [ack.outcome for ack in acks]


def test_each_event_is_acknowledged_in_its_turn(case):
    bad = InvalidArgument("request", "not this method's message")

    acks = case.stream(event("a"), event("b", type="?"), bad, event("c", event_id=""), event("d"))

    assert outcomes(acks) == [ACCEPTED, REJECTED, REJECTED, ACCEPTED, ACCEPTED]
    assert [ack.event_id for ack in acks[:3]] == ["a", "b", ""]
    assert [ack.event_id_assigned for ack in acks] == [False, False, False, True, False]
    assert len(acks[3].event_id) == 32
    assert acks[1].status.message.startswith("type: '?' is not a known type")
    assert acks[1].status.code == acks[2].status.code == code_pb2.INVALID_ARGUMENT
    assert len(case.log.written) == 3
    places = [unpack_token(ack.token) for ack in acks if ack.outcome == ACCEPTED]
    assert places == [[Position("events", EVENTS_ID, 0, n)] for n in (1, 2, 3)]


def test_many_go_in_few_writes_and_few_are_in_flight(case):
    acks = case.stream(*[event(f"e{n}") for n in range(200)])

    assert [ack.event_id for ack in acks] == [f"e{n}" for n in range(200)]
    assert outcomes(acks) == [ACCEPTED] * 200
    assert len(case.log.calls) < 200
    assert case.log.most <= LIMITS.max_stream_events


def test_what_was_acknowledged_on_the_stream_is_not_written_again(case):
    acks = case.stream(event("a"), event("a"), event("a", item_id="sky"), event("a"), event("a"))

    assert outcomes(acks) == [ACCEPTED, DUPLICATE, ACCEPTED, DUPLICATE, DUPLICATE]
    assert len(case.log.written) == 2
    assert acks[1].token == acks[0].token == acks[4].token != acks[2].token


def test_an_event_without_an_id_repeats_none(case):
    assert outcomes(case.stream(event(event_id=""), event(event_id=""))) == [ACCEPTED, ACCEPTED]


def test_a_stream_remembers_so_many_events(case):
    acks = case.stream(*[event(name) for name in "abcdda"])

    assert outcomes(acks) == [ACCEPTED] * 4 + [DUPLICATE, ACCEPTED]


def test_what_failed_is_rejected_and_so_is_what_repeats_it_at_the_time(case):
    case.log.fail = [Unavailable("no broker")]
    acks = case.stream(event("a"), event("a"), *[event(f"e{n}") for n in range(30)], event("a"))

    assert outcomes(acks[:2]) == [REJECTED, REJECTED]
    assert acks[0].status.code == code_pb2.UNAVAILABLE
    assert acks[1].status == acks[0].status
    assert acks[-1].outcome == ACCEPTED


def test_what_a_profile_holds_is_a_duplicate(case, server):
    # As ``server.events`` names it.
    held = event("ann/sea/5/click", event_time_ms=5)
    untimed = event("ann/sea/5/click")
    untimed.ClearField("event_time_ms")
    acks = case.stream(held, untimed, event("ann/sea/5/click", event_time_ms=5, weight=2.0))

    assert outcomes(acks) == [DUPLICATE, DUPLICATE, ACCEPTED]
    assert acks[0].token == b""
    assert len(case.log.written) == 1


def test_both_interactions_of_an_event_must_be_held(case):
    both = event("ann/sea/5/click", event_time_ms=5, text="blue")

    assert outcomes(case.stream(both)) == [ACCEPTED]


def test_what_comes_too_late_is_written_and_said(case, server):
    server.events(*[("ann", "sea", 10 + n, "click", 1.0) for n in range(server.fold.history_cap)])

    acks = case.stream(event("a", event_time_ms=9), event("b", event_time_ms=10), event("c"))

    assert outcomes(acks) == [LATE, ACCEPTED, LATE]
    assert len(case.log.written) == 3


def test_an_import_counts_and_names_the_first_failures(case):
    response = case.load(
        [event("a"), event("b", type="?"), event("c", user_id="bob")],
        [],
        [event("d", user_id=""), event("e"), event("f", item_id=""), event("g")],
    )

    assert (response.accepted, response.rejected) == (4, 3)
    assert [failure.index for failure in response.failures] == [1, 3]
    assert response.failures[0].status.message.startswith("events[1].type: ")
    assert response.failures[1].status.message.startswith("events[3].user_id: ")
    assert unpack_token(response.token) == [Position("events", EVENTS_ID, 0, 4)]


def test_an_import_is_bounded_in_flight_whatever_its_messages_hold(case):
    response = case.load([event(f"a{n}") for n in range(100)], [event("b")], [event("c")])

    assert response.accepted == 102
    assert case.log.most < 2 * LIMITS.max_stream_events
    assert [record.value for record in case.log.written] == [
        event(name).SerializeToString(deterministic=True)
        for name in [*[f"a{n}" for n in range(100)], "b", "c"]
    ]


def test_an_import_of_nothing_is_one(case):
    assert case.load() == events_pb2.ImportEventsResponse()


def test_an_import_goes_on_where_the_log_refused(case):
    case.log.fail = [Unavailable("no broker")]

    response = case.load([event("a")], [event("b")])

    assert (response.accepted, response.rejected) == (1, 1)
    assert response.failures[0].status.code == code_pb2.UNAVAILABLE


def test_a_write_waits_until_it_is_applied_and_no_longer_than_asked(case):
    def ask(**fields):
        request = events_pb2.RecordEventsRequest(events=[event()], **fields)
        return asyncio.run(case.service.RecordEvents(request, Call()))

    # ``server.events`` has moved the state behind the first record; nobody moves it further.
    assert ask(wait_applied=True).applied
    assert not ask(wait_applied=True, max_wait_ms=5).applied
    assert not ask().applied
    assert len(case.log.written) == 3
    with pytest.raises(InvalidArgument, match="max_wait_ms: 51, the limit is 50"):
        ask(wait_applied=True, max_wait_ms=51)
    assert len(case.log.written) == 3


def test_nothing_written_is_nothing_applied(case):
    request = events_pb2.RecordEventsRequest(events=[event(type="?")], wait_applied=True)

    assert not asyncio.run(case.service.RecordEvents(request, Call())).applied
