"""The server that ``cold_start.py`` asks: its items, its events, and rankings as numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from demo_screen import Screen
from demo_server import DemoError
from numpy.typing import NDArray

from rankstream.client.client import Client
from rankstream.client.errors import RankstreamError
from rankstream.client.imports import Imported, ImportProgress
from rankstream.client.queries import RankQuery
from rankstream.client.rankings import Ranking
from rankstream.client.records import Event, Item, User
from rankstream.server.catalog.popularity import MAX_BUCKETS
from rankstream.server.config import Scoring, State
from rankstream.training.datasets import Interactions
from rankstream.training.titled_log import TitledLog

NOBODY: Final = "nobody"
"""A user of whom the server never hears."""

_WAIT_S = 120.0
_CALL_S = 60.0
_PAUSE_S = 0.1
_SHOWN = 1_000
_STEP = 1_000


class ColdServer:
    """A running server that knows a data set up to some moment.

    Args:
        client: of a server whose state is empty.
        data: the data set.
        screen: shows how far it is.
    """

    def __init__(self, client: Client, data: TitledLog, screen: Screen) -> None:
        self._client = client
        self._data = data
        self._screen = screen
        self._numbers = {item_id: number for number, item_id in enumerate(data.item_ids)}
        self._known = 0

    def import_items(self) -> None:
        """Writes all items, and waits until each is encoded.

        Raises:
            DemoError: one was refused, or it took too long.
        """
        data = self._data
        rows = zip(data.item_ids, data.titles, data.tags, strict=True)
        items = [Item(item_id, title=title, tags=tags) for item_id, title, tags in rows]
        with self._screen.progress("items in the log", len(items)) as advance:
            imported = self._client.import_items(items, on_progress=_shown_by(advance))
        self._wait(imported)

    def learn(self, known: Interactions) -> None:
        """Writes what has been added to the interactions known, and waits until it all counts.

        Raises:
            DemoError: one was refused, or it took too long.
        """
        added = known.take(slice(self._known, None))
        with self._screen.progress("events in the log", len(added)) as advance:
            events = self._events(added, advance)
            self._wait(self._client.import_events(events))
        self._known = len(known)
        self._wait_for_popularity(known)

    def introduce(self, user_ids: Sequence[str], texts: Sequence[str]) -> None:
        """Writes a user each, of whom one sentence is known.

        Raises:
            DemoError: it took too long until all have a personal answer.
        """
        for user_id, text in zip(user_ids, texts, strict=True):
            token = self._client.upsert_user(User(user_id, interests=(text,)))
        deadline = time.monotonic() + _WAIT_S
        queries = [RankQuery(user_id, k=1, min_token=token) for user_id in user_ids]
        while any(ranking.served_by.fallback for ranking in self._rankings(queries)):
            _pause(deadline, "not every interest has its vector")

    def rank(self, queries: Sequence[RankQuery]) -> NDArray[np.int32]:
        """Rankings as numbers of items: ``int32 [B, K]``, -1 for empty places.

        Args:
            queries: all with the same k.
        """
        assert queries[0].k is not None
        ranked = np.full((len(queries), queries[0].k), -1, np.int32)
        for row, ranking in enumerate(self._rankings(queries)):
            ranked[row, : len(ranking.items)] = [self._numbers[i] for i in ranking.item_ids]
        return ranked

    def _rankings(self, queries: Sequence[RankQuery]) -> list[Ranking]:
        rankings = []
        for answer in self._client.batch_rank(queries, timeout_s=_CALL_S):
            if isinstance(answer, RankstreamError):
                raise answer
            rankings.append(answer)
        return rankings

    def _events(self, log: Interactions, advance: Callable[[int], None]) -> Iterator[Event]:
        data = self._data
        columns = (log.users, log.items, log.values, log.times_s)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for number, (user, item, value, time_s) in enumerate(rows):
            if number % _STEP == 0:
                advance(number)
            yield Event(
                user_id_of(user),
                data.event_type,
                data.item_ids[item],
                value=value,
                event_time_ms=time_s * 1000,
                event_id=f"{data.name}/{self._known + number}",
            )

    def _wait(self, imported: Imported) -> None:
        """Until the state holds what was imported."""
        if imported.rejected:
            message = f"{imported.rejected} entries were refused: {imported.failures[0].error}"
            raise DemoError(message)
        query = RankQuery(
            NOBODY, k=0, min_token=imported.token, max_wait_ms=1_000, allow_stale=True
        )
        deadline = time.monotonic() + _WAIT_S
        while self._rankings([query])[0].freshness.stale:
            _pause(deadline, "the import is not folded")

    def _wait_for_popularity(self, known: Interactions) -> None:
        """Until the scores hold the popularity that the interactions known make: by the formula."""
        expected = bias_of(known, self._data.n_items)
        query = RankQuery(NOBODY, k=min(_SHOWN, self._data.n_items))
        deadline = time.monotonic() + _WAIT_S
        while True:
            items = self._rankings([query])[0].items
            shown = [expected[self._numbers[item.item_id]] for item in items]
            if np.allclose([item.bias for item in items], shown, rtol=1e-4, atol=1e-6):
                return
            _pause(deadline, "popularity is not what the interactions make")


def user_id_of(user: int) -> str:
    """The user_id of a number."""
    return f"user-{user}"


def scaled(query: RankQuery, factor: float) -> RankQuery:
    """The same query with similarity counting ``factor`` times.

    The order is the one that popularity's weight divided by the factor makes.
    """
    scoring = Scoring()
    weights = {"text": scoring.text_weight, "attributes": scoring.attributes_weight}
    return replace(query, block_weights={name: factor * w for name, w in weights.items()})


def bias_of(log: Interactions, n_items: int) -> NDArray[np.float64]:
    """What ``server/catalog/popularity.py`` says popularity adds to a score: ``float64 [N]``."""
    scoring, bucket_s = Scoring(), State().bucket_s
    buckets = log.times_s // bucket_s
    cells, counts = np.unique(np.stack([log.items, buckets]), axis=1, return_counts=True)
    # Of an item, only its newest buckets count: cells rise by item, then by bucket.
    behind = np.searchsorted(cells[0], cells[0], side="right") - np.arange(len(counts))
    ages = (buckets.max() - cells[1]) * bucket_s / scoring.popularity_half_life_s
    counted = np.where(behind <= MAX_BUCKETS, counts * np.exp2(-ages), 0.0)
    popularity = np.log1p(np.bincount(cells[0], counted, minlength=n_items))
    shares: NDArray[np.float64] = np.maximum(popularity / popularity.max(), scoring.bias_floor)
    return scoring.bias_weight * shares


def _shown_by(advance: Callable[[int], None]) -> Callable[[ImportProgress], None]:
    def show(progress: ImportProgress) -> None:
        advance(progress.accepted)

    return show


def _pause(deadline: float, problem: str) -> None:
    if time.monotonic() > deadline:
        message = f"{problem} after {_WAIT_S:g} s"
        raise DemoError(message)
    time.sleep(_PAUSE_S)
