"""What is written, event by event and item by item, and what a request that is wrong names."""

import time

import pytest
from google.rpc import code_pb2
from service_calls import codes
from small_server import EVENTS_ID, ITEMS_ID, item
from worker_services import LIMITS, ask, event

from rankstream.proto.v1 import catalog_pb2, events_pb2, profiles_pb2, ranking_pb2
from rankstream.server.errors import InvalidArgument, Unavailable
from rankstream.server.profiles.interaction import event_key
from rankstream.server.services.outcomes import token_of
from rankstream.server.stream.event_codec import EventCodec
from rankstream.server.stream.token import unpack_token
from rankstream.server.types import Position


def test_each_event_is_written_or_has_its_own_error(services):
    services.log.refused.add(b"bob")
    request = events_pb2.RecordEventsRequest(
        events=[event(event_id="e1"), event(type="?"), event(user_id="bob"), event()]
    )

    response = ask(services.events.RecordEvents, request)

    first, second, third, fourth = response.results
    assert codes(response.results) == [
        code_pb2.OK, code_pb2.INVALID_ARGUMENT, code_pb2.UNAVAILABLE, code_pb2.OK
    ]  # fmt: skip
    assert second.status.message.startswith("events[1].type: ")
    assert [r.event_id_assigned for r in response.results] == [False, False, True, True]
    assert (first.event_id, len(fourth.event_id)) == ("e1", 32)
    assert third.event_id != fourth.event_id
    assert [(t, r.key) for t, r in services.log.written] == [("e", b"ann"), ("e", b"ann")]
    assert unpack_token(response.token) == [Position("events", EVENTS_ID, 0, 2)]


def test_what_is_written_is_what_the_fold_reads(services):
    response = ask(
        services.events.RecordEvents, events_pb2.RecordEventsRequest(events=[event(value=2.0)])
    )

    codec = EventCodec(services.server.fold, LIMITS, "e", 1)
    (found,) = codec.decode(services.log.written[0][1].value, 1000, 0, 0)
    assert found.user == b"ann"
    assert found.event_key == event_key(response.results[0].event_id)


@pytest.mark.parametrize("ahead_ms", [-(10**15), 10**9])
def test_a_time_before_the_epoch_or_in_the_future_is_refused(services, ahead_ms):
    at = int(time.time() * 1000) + ahead_ms
    request = events_pb2.RecordEventsRequest(events=[event(event_time_ms=at)])

    (result,) = ask(services.events.RecordEvents, request).results

    assert result.status.message.startswith("events[0].event_time_ms: ")
    assert services.log.written == []


def test_a_record_that_would_be_dead_lettered_is_refused(services):
    big = events_pb2.RecordEventsRequest(events=[event(type="click", event_id="e" * 33)])
    items = catalog_pb2.UpsertItemsRequest(
        items=[item("ok"), item("big", "ü" * 50, category="ü" * 50)]
    )

    assert codes(ask(services.events.RecordEvents, big).results) == [code_pb2.INVALID_ARGUMENT]
    response = ask(services.catalog.UpsertItems, items)

    assert codes(response.results) == [code_pb2.OK, code_pb2.INVALID_ARGUMENT]
    assert response.results[1].status.message.startswith("items[1]: 2")
    assert len(services.log.written) == 1


def test_items_are_written_with_their_id_as_key(services):
    request = catalog_pb2.UpsertItemsRequest(
        items=[item("a", "t"), item("", "t"), item("b", price=-1.0), item("c")]
    )

    response = ask(services.catalog.UpsertItems, request)

    assert [r.item_id for r in response.results] == ["a", "", "b", "c"]
    assert [r.status.message.split(":")[0] for r in response.results] == [
        "", "items[1].item_id", "items[2].price", ""
    ]  # fmt: skip
    assert [r.key for _, r in services.log.written] == [b"a", b"c"]
    assert unpack_token(response.token) == [Position("items", ITEMS_ID, 0, 2)]


@pytest.mark.parametrize(
    ("call", "sent", "field"),
    [
        ("events.RecordEvents", events_pb2.RecordEventsRequest(events=[event()] * 5), "events"),
        ("catalog.UpsertItems", catalog_pb2.UpsertItemsRequest(items=[item("a")] * 5), "items"),
        ("ranking.BatchRank", ranking_pb2.BatchRankRequest(requests=[{}] * 5), "requests"),
        ("ranking.Rank", ranking_pb2.RankRequest(), "subject"),
        ("catalog.GetItem", catalog_pb2.GetItemRequest(), "item_id"),
        ("profiles.GetProfile", profiles_pb2.GetProfileRequest(), "user_id"),
    ],
)
def test_a_whole_request_that_is_wrong_names_its_field(services, call, sent, field):
    service, method = call.split(".")

    with pytest.raises(InvalidArgument) as refused:
        ask(getattr(getattr(services, service), method), sent)

    assert refused.value.field == field
    assert services.log.written == []


def test_nothing_written_has_no_token():
    assert token_of("events", EVENTS_ID, [Unavailable("no")]) == b""
