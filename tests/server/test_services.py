"""Servicers over real state and a log in memory: each entry has its own fate."""

import asyncio
import functools
import os
import threading
import time

import numpy as np
import pytest
from google.rpc import code_pb2
from small_server import EVENTS_ID, ITEMS_ID, TEMPLATE, item

from rankstream.proto.v1 import (
    catalog_pb2,
    common_pb2,
    encoder_pb2,
    events_pb2,
    profiles_pb2,
    ranking_pb2,
)
from rankstream.server.asked_wire import RequestForm
from rankstream.server.batcher import Batcher
from rankstream.server.config import Limits, Settings
from rankstream.server.encoder.base import Encoded
from rankstream.server.errors import InvalidArgument, NotFound, StaleState, Unavailable
from rankstream.server.freshness import Freshness
from rankstream.server.past_bias import PastBias
from rankstream.server.profiles.interaction import event_key
from rankstream.server.services.catalog import CatalogService
from rankstream.server.services.encoder import EncoderService, encode_batch
from rankstream.server.services.event_intake import EventIntake
from rankstream.server.services.events import EventsService
from rankstream.server.services.outcomes import token_of
from rankstream.server.services.preparation import Preparation
from rankstream.server.services.profiles import ProfilesService
from rankstream.server.services.ranking import RankingService
from rankstream.server.stream.event_codec import EventCodec
from rankstream.server.stream.publisher import Written
from rankstream.server.stream.token import pack_token, unpack_token
from rankstream.server.types import Position, item_key
from rankstream.server.wire import Names

LIMITS = Limits(
    max_id_bytes=32,
    max_events=4,
    max_items=4,
    max_texts=3,
    max_text_chars=50,
    max_batch_rank_entries=4,
    max_record_bytes=150,
    default_wait_ms=1,
)


class Log:
    """Takes records, or refuses those it is told to; what ``Publisher`` is to a service."""

    def __init__(self):
        self.written = []
        self.refused = set()

    async def publish(self, topic, records, *, patient=False):
        outcomes = []
        for record in records:
            if record.key in self.refused:
                outcomes.append(Unavailable("the log refused"))
            else:
                self.written.append((topic, record))
                outcomes.append(Written(0, len(self.written) - 1))
        return outcomes


class Call:
    """A call with or without a deadline."""

    def __init__(self, left=None):
        self.left = left

    def time_remaining(self):
        return self.left


class Counted:
    """A made-up encoder, as an embedder calls it."""

    def __init__(self, encoder):
        self.encoder = encoder

    def encode_counted(self, texts):
        count = len(texts)
        vectors = self.encoder.encode(texts)
        return Encoded(vectors, np.ones(count, np.int64), np.zeros(count, bool))


class Services:
    """All servicers of one worker."""

    def __init__(self, server):
        self.server, self.log = server, Log()
        self.bell, self._rung = os.pipe()
        self.names = Names(
            "1", "w", "space", {"events": "e", "items": "i", "users": "u"}, server.fold.type_names
        )
        freshness = Freshness(server.store, self.bell, LIMITS.default_wait_ms / 1000)
        self.ranker = Batcher(server.engine.rank, max_batch=8, max_queued=64, name="engine")
        intake = EventIntake(self.log, "e", server.fold, LIMITS)
        self.events = EventsService(intake, freshness, server.store)
        self.catalog = CatalogService(
            self.log, freshness, server.store, server.engine, server.layout, TEMPLATE, "i", LIMITS
        )
        self.embedder = Batcher(
            functools.partial(encode_batch, Counted(server.encoder)),
            max_batch=8,
            max_queued=64,
            name="encoder",
        )
        past = PastBias(server.store, server.new_catalogue(), Settings())
        form = RequestForm(LIMITS, server.layout, server.fold)
        self.ranking = RankingService(
            self.ranker, Preparation(self.embedder, past), freshness, server.page, form, self.names
        )
        self.profiles = ProfilesService(
            self.log, server.store, server.profiles, freshness, server.page, self.names, LIMITS
        )

    def close(self):
        self.ranker.close()
        self.embedder.close()
        os.close(self.bell)
        os.close(self._rung)


@pytest.fixture
def services(server):
    server.put(item("sea", "the sea"), item("sky", "the sky"), item("sun", "the sun"))
    server.events(("ann", "sea", 5, "click", 1.0), ("ann", "gone", 6, "view", 0.5))
    made = Services(server)
    yield made
    made.close()


ENCODED = {
    ranking_pb2.RankRequest: ranking_pb2.RankResponse,
    ranking_pb2.BatchRankRequest: ranking_pb2.BatchRankResponse,
}


def ask(call, request, left=None):
    answer = asyncio.run(call(request, Call(left)))
    kind = ENCODED.get(type(request))
    return answer if kind is None else kind.FromString(answer)


def event(**fields):
    defaults = {"user_id": "ann", "type": "click", "item_id": "sea"}
    return events_pb2.Event(**{**defaults, **fields})


def codes(entries):
    return [entry.status.code for entry in entries]


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


def whole(user="ann", **fields):
    return ranking_pb2.RankRequest(user_id=user, whole_catalogue={}, **fields)


def after(offset, **fields):
    token = pack_token([Position("events", EVENTS_ID, 0, offset)])
    return common_pb2.ReadAfter(min_token=token, **fields)


def test_a_ranking_is_answered_with_its_freshness(services):
    response = ask(services.ranking.Rank, whole(request_id="r", read_after=after(2)))

    assert [i.item_id for i in response.items][0] == "sea"
    assert response.request_id == "r"
    assert response.freshness.profile_updated_at_ms == 6
    assert not response.freshness.stale
    assert [(a.topic, a.next_offset, a.lag) for a in response.freshness.applied] == [
        ("e", 2, -1), ("i", 1, -1)
    ]  # fmt: skip
    assert response.timing.batch_size == 1


def test_a_ranking_that_is_too_early_is_refused_or_stale(services):
    with pytest.raises(StaleState):
        ask(services.ranking.Rank, whole(read_after=after(3)))

    stale = ask(services.ranking.Rank, whole(read_after=after(3, allow_stale=True)))

    assert stale.freshness.stale
    assert len(stale.items) == 3


def test_one_bad_entry_of_a_batch_spoils_no_other(services):
    request = ranking_pb2.BatchRankRequest(
        requests=[
            whole(request_id="a"),
            whole(user=""),
            whole(request_id="c", read_after=after(99)),
            whole(user="nobody", request_id="d", k=1),
        ]
    )

    response = ask(services.ranking.BatchRank, request)

    first, second, third, fourth = response.entries
    assert codes(response.entries) == [
        code_pb2.OK, code_pb2.INVALID_ARGUMENT, code_pb2.DEADLINE_EXCEEDED, code_pb2.OK
    ]  # fmt: skip
    assert second.status.message.startswith("requests[1].user_id: ")
    assert (first.response.request_id, fourth.response.request_id) == ("a", "d")
    assert not second.HasField("response")
    assert third.status.message
    assert len(fourth.response.items) == 1
    assert first.response.timing.batch_size == 2


def test_an_empty_batch_is_an_empty_answer(services):
    assert len(ask(services.ranking.BatchRank, ranking_pb2.BatchRankRequest()).entries) == 0


def test_an_item_is_shown_as_it_is_ranked(services):
    found = ask(services.catalog.GetItem, catalog_pb2.GetItemRequest(item_id="sky"))

    assert found.item.title == "the sky"
    assert (found.text, found.item_row, found.generation) == ("the sky", 1, 1)
    assert found.catalogue_version == 1
    with pytest.raises(NotFound, match="does not hold 'never'"):
        ask(services.catalog.GetItem, catalog_pb2.GetItemRequest(item_id="never"))


def test_a_profile_is_shown_newest_first(services):
    found = ask(services.profiles.GetProfile, profiles_pb2.GetProfileRequest(user_id="ann"))

    shown = [(i.item_id, i.item_key, i.type, i.event_time_ms, i.weight) for i in found.interactions]
    assert shown == [
        ("", item_key("gone"), "view", 6, 0.5),
        ("sea", item_key("sea"), "click", 5, 1.0),
    ]
    assert (found.known, found.history_size, found.seen_size) == (True, 2, 2)
    assert not found.HasField("watermark_ms")


@pytest.mark.parametrize(("most", "shown"), [(0, 0), (1, 1), (99, 2)])
def test_a_profile_shows_no_more_than_asked(services, most, shown):
    request = profiles_pb2.GetProfileRequest(user_id="ann", max_interactions=most)

    found = ask(services.profiles.GetProfile, request)

    assert (len(found.interactions), found.history_size) == (shown, 2)


def test_a_user_that_nobody_knows_has_an_empty_profile(services):
    found = ask(services.profiles.GetProfile, profiles_pb2.GetProfileRequest(user_id="nobody"))

    assert (found.known, found.history_size) == (False, 0)


class CountingEncoder:
    """Vectors of the texts' lengths."""

    def __init__(self):
        self.threads = set()

    def encode_counted(self, texts):
        self.threads.add(threading.current_thread().name)
        lengths = np.array([len(t) for t in texts])
        vectors = np.repeat(lengths[:, None], 2, axis=1).astype(np.float32)
        return Encoded(vectors, lengths.astype(np.int32), lengths > 5)


def test_each_text_is_embedded_or_has_its_own_error(services):
    encoder = CountingEncoder()
    batcher = Batcher(
        lambda batch: encode_batch(encoder, batch), max_batch=8, max_queued=8, name="encoder"
    )
    service = EncoderService(batcher, batcher, 2, services.names, LIMITS)

    response = ask(service.Embed, encoder_pb2.EmbedRequest(texts=["ab", "x" * 51, "abcdef"]))
    with pytest.raises(InvalidArgument, match="texts: 4 texts, the limit is 3"):
        ask(service.Embed, encoder_pb2.EmbedRequest(texts=["a"] * 4))
    batcher.close()

    rows = np.frombuffer(response.embeddings.data, "<f4").reshape(response.embeddings.shape)
    assert rows.tolist() == [[2, 2], [0, 0], [6, 6]]
    assert codes(response.results) == [code_pb2.OK, code_pb2.INVALID_ARGUMENT, code_pb2.OK]
    assert response.results[1].status.message == "texts[1]: 51 characters, the limit is 50"
    assert [(r.tokens, r.truncated) for r in response.results] == [
        (2, False),
        (0, False),
        (6, True),
    ]
    assert all(name.startswith("encoder") for name in encoder.threads)
