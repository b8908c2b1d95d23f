"""All services of one worker over real state and a log in memory."""

import asyncio
import os

import numpy as np
import pytest
from service_calls import Call
from small_server import EVENTS_ID, TEMPLATE, item

from rankstream.proto.v1 import common_pb2, events_pb2, ranking_pb2
from rankstream.server.asked_wire import RequestForm
from rankstream.server.batcher import Batcher
from rankstream.server.config import Limits, Settings
from rankstream.server.embedder import Embedder
from rankstream.server.encoder.base import Tokens
from rankstream.server.encoder.prompts import Prompts
from rankstream.server.errors import Unavailable
from rankstream.server.freshness import Freshness
from rankstream.server.past_bias import PastBias
from rankstream.server.services.catalog import CatalogService
from rankstream.server.services.event_intake import EventIntake
from rankstream.server.services.events import EventsService
from rankstream.server.services.preparation import Preparation
from rankstream.server.services.profiles import ProfilesService
from rankstream.server.services.ranking import RankingService
from rankstream.server.stream.publisher import Written
from rankstream.server.stream.token import pack_token
from rankstream.server.types import Position
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


class Halves:
    """A made-up encoder in two halves, as an embedder calls it: a text's tokens are its letters."""

    prompts = Prompts()
    max_tokens = 512

    def __init__(self, encoder):
        self.encoder = encoder

    def read(self, texts, prompt=None):
        ids = [list(map(ord, text)) or [0] for text in texts]
        return Tokens(ids, np.array([len(one) for one in ids]), np.zeros(len(ids), bool))

    def encode_tokens(self, ids):
        return self.encoder.encode(["".join(map(chr, one)).strip("\0") for one in ids])


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
        self.embedder = Embedder(
            Halves(server.encoder),
            cache_bytes=1 << 16,
            max_queued=64,
            max_batch_tokens=4096,
            readers=1,
        )
        past = PastBias(server.store, server.new_catalogue(), Settings())
        form = RequestForm(LIMITS, server.layout, server.fold, "space")
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
    """All services over three items and one user."""
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


def whole(user="ann", **fields):
    return ranking_pb2.RankRequest(user_id=user, whole_catalogue={}, **fields)


def after(offset, **fields):
    token = pack_token([Position("events", EVENTS_ID, 0, offset)])
    return common_pb2.ReadAfter(min_token=token, **fields)
