"""Filling the server: the catalogue over gRPC, the ratings through Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from demo_screen import Screen
from demo_server import DemoError

from rankstream.client.client import Client
from rankstream.client.events import EventProducer, Sent
from rankstream.client.records import Event, Item
from rankstream.training.datasets import Interactions, MovieLens

_CHUNK = 200
_APPLY_S = 120.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Loaded:
    """How much was written, and how long it took until the server had all of it."""

    count: int
    seconds: float

    @property
    def per_s(self) -> float:
        """The rate."""
        return self.count / self.seconds


def import_catalogue(client: Client, data: MovieLens, screen: Screen) -> Loaded:
    """Writes every film and waits until all of them can be ranked.

    Raises:
        DemoError: the server refused one.
    """
    items = [Item(film.item_id, title=film.title, tags=film.genres) for film in data.films]
    start = time.monotonic()
    with screen.progress("films can be ranked", len(items)) as advance:
        written = [_upsert(client, items[i : i + _CHUNK]) for i in range(0, len(items), _CHUNK)]
        for done, (last, token) in enumerate(written, start=1):
            # The topic has one partition: whoever sees its last record sees all before it.
            client.get_item(last, min_token=token, max_wait_ms=10_000, timeout_s=60.0)
            advance(min(done * _CHUNK, len(items)))
    return Loaded(len(items), time.monotonic() - start)


def replay(
    client: Client, bootstrap_servers: str, data: MovieLens, log: Interactions, screen: Screen
) -> Loaded:
    """Writes ratings to Kafka itself and waits until the server has folded every one.

    Raises:
        DemoError: it did not in time, or a record became a dead letter.
    """
    before, start = applied(client), time.monotonic()
    with screen.progress("ratings folded", len(log)) as advance:
        show = _seldom(lambda: advance(applied(client) - before))
        with EventProducer(bootstrap_servers) as producer:
            producer.send_many(rating_events(data, log), show)
        while (done := applied(client) - before) < len(log):
            advance(done)
            if time.monotonic() - start > _APPLY_S:
                message = f"{done} of {len(log)} ratings were folded within {_APPLY_S:g} s"
                raise DemoError(message)
            time.sleep(_POLL_S)
    loaded = Loaded(len(log), time.monotonic() - start)
    if dead := client.consumer_lag().dead_letters:
        message = f"{dead} records became dead letters; expected none"
        raise DemoError(message)
    return loaded


def rating_events(data: MovieLens, log: Interactions) -> Iterator[Event]:
    """Each rating as an event at its own time; the same rating always has the same event_id."""
    columns = (log.users, log.items, log.values, log.times_s)
    for user, item, stars, time_s in zip(*(column.tolist() for column in columns), strict=True):
        user_id, item_id = data.user_ids[user], data.films[item].item_id
        yield Event(
            user_id,
            "rate",
            item_id,
            value=stars,
            event_time_ms=time_s * 1000,
            event_id=f"ml-100k/{user_id}/{item_id}",
        )


def ending_at(log: Interactions, newest_s: int) -> Interactions:
    """The same log moved in time: the newest is of ``newest_s``, seconds since the epoch."""
    return replace(log, times_s=log.times_s + (newest_s - log.times_s[-1]))


def applied(client: Client) -> int:
    """Records of the events topic that the state holds."""
    partitions = client.consumer_lag().partitions
    return sum(p.next_offset for p in partitions if p.topic.endswith("events"))


def _upsert(client: Client, items: list[Item]) -> tuple[str, bytes]:
    answer = client.upsert_items(items, timeout_s=30.0)
    for result in answer.results:
        if result.error is not None:
            raise result.error
    return items[-1].item_id, answer.token


def _seldom(act: Callable[[], None], period_s: float = 0.2) -> Callable[[Sent], None]:
    """Calls ``act`` at most every ``period_s`` seconds."""
    due = 0.0

    def maybe(sent: Sent) -> None:
        nonlocal due
        if sent.seconds >= due:
            due = sent.seconds + period_s
            act()

    return maybe
