"""The kinds of calls that ``load.py`` mixes, and their requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from connections import STREAM_RANK
from google.protobuf.message import Message
from rankings import BATCH_RANK, RANK

from rankstream.proto.v1 import events_pb2, ranking_pb2

RECORD_EVENTS = "/rankstream.v1.Events/RecordEvents"
MADE_UP = "load.no-such-item-"
"""Begins the ids of candidates that no catalogue holds: the answers must report them missing."""
_WITH_MADE_UP = 4
_EVENT_TYPES = ("view", "view", "click")


@dataclass(frozen=True, slots=True)
class Population:
    """Whom and what requests are about.

    Attributes:
        users: user_ids.
        items: item_ids of the catalogue.
        candidates: of a ranking; at most as many as there are items.
        k: how many are answered; None: all candidates.
        batch_entries: of a BatchRank.
        events: of a RecordEvents.
    """

    users: Sequence[str]
    items: Sequence[str]
    candidates: int
    k: int | None
    batch_entries: int
    events: int


class Requests:
    """Draws requests at random, the same for the same seed."""

    def __init__(self, population: Population, seed: int) -> None:
        self._population = population
        self._rng = np.random.default_rng(seed)
        self._made = 0

    def rank(self) -> ranking_pb2.RankRequest:
        """One user, given candidates; one request in four has one that does not exist."""
        population = self._population
        chosen = self._rng.choice(len(population.items), self._candidates, replace=False)
        ids = [population.items[i] for i in chosen.tolist()]
        self._made += 1
        if self._made % _WITH_MADE_UP == 0:
            ids.append(f"{MADE_UP}{self._made}")
        return ranking_pb2.RankRequest(
            request_id=f"load-{self._made}",
            user_id=self._user(),
            item_ids=ranking_pb2.ItemIds(item_ids=ids),
            k=population.k,
        )

    def whole(self) -> ranking_pb2.RankRequest:
        """One user, the best ten of the whole catalogue."""
        whole = ranking_pb2.WholeCatalogue()
        return ranking_pb2.RankRequest(user_id=self._user(), whole_catalogue=whole, k=10)

    def batch(self) -> ranking_pb2.BatchRankRequest:
        """Several users, each with candidates of their own."""
        entries = [self.rank() for _ in range(self._population.batch_entries)]
        return ranking_pb2.BatchRankRequest(requests=entries)

    def record_events(self) -> events_pb2.RecordEventsRequest:
        """Views and clicks, without ids: each sending is new events."""
        kinds = self._rng.choice(len(_EVENT_TYPES), self._population.events).tolist()
        return events_pb2.RecordEventsRequest(
            events=[
                events_pb2.Event(user_id=self._user(), item_id=self._item(), type=_EVENT_TYPES[i])
                for i in kinds
            ]
        )

    @property
    def _candidates(self) -> int:
        return min(self._population.candidates, len(self._population.items))

    def _user(self) -> str:
        return self._population.users[int(self._rng.integers(len(self._population.users)))]

    def _item(self) -> str:
        return self._population.items[int(self._rng.integers(len(self._population.items)))]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of call.

    Attributes:
        method: the RPC's full name.
        make: draws a request.
        answer: the message that answers it.
        streams: whether the requests share a stream, entries of its messages as the answers are.
        has_entries: whether the answer's field 1 is entries with a status each.
        distinct: how many different requests are sent in turn.
    """

    method: str
    make: Callable[[Requests], Message]
    answer: type[Message]
    streams: bool = False
    has_entries: bool = False
    distinct: int = 500


KINDS: Mapping[str, Kind] = {
    "rank": Kind(RANK, Requests.rank, ranking_pb2.RankResponse),
    "whole": Kind(RANK, Requests.whole, ranking_pb2.RankResponse),
    "batch": Kind(
        BATCH_RANK,
        Requests.batch,
        ranking_pb2.BatchRankResponse,
        has_entries=True,
        distinct=50,
    ),
    "stream": Kind(STREAM_RANK, Requests.rank, ranking_pb2.BatchRankEntry, streams=True),
    "events": Kind(
        RECORD_EVENTS,
        Requests.record_events,
        events_pb2.RecordEventsResponse,
        has_entries=True,
    ),
}
