"""The log as a starting ingest finds it: its topics, and where each lane stands in them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rankstream.server.announce import Announcements
from rankstream.server.config import Kafka
from rankstream.server.errors import Unavailable
from rankstream.server.generation import Slot
from rankstream.server.generations import held_slots
from rankstream.server.store import Store
from rankstream.server.stream.incarnations import Incarnation, carry_positions, load_state
from rankstream.server.stream.positions import verify_positions
from rankstream.server.stream.topics import (
    TopicDescription,
    TopicSettings,
    describe,
    ensure_topics,
    log_bounds,
)
from rankstream.server.types import Lane, Position

log = logging.getLogger(__name__)

_RETRY_S = 0.5


@dataclass(frozen=True, slots=True)
class Log:
    """The topics as they are, and where each lane stands in them."""

    topics: TopicSettings
    described: Mapping[str, TopicDescription]
    incarnation: Incarnation | None
    events: dict[int, int]
    items: dict[int, int]
    users: dict[int, int]


def wait_for_log(
    kafka: Kafka,
    topics: TopicSettings,
    broker_folder: Path,
    store: Store,
    page: Announcements,
    stopping: threading.Event,
) -> Log | None:
    """Waits for the broker; None when told to stop before it answered.

    Raises:
        StateRefused: the state's positions are not of this log.
    """
    while not stopping.is_set():
        page.beat()
        try:
            found = find_log(kafka, topics, broker_folder, store)
        except Unavailable as error:
            log.warning("%s", error)
            stopping.wait(_RETRY_S)
            continue
        page.ring()
        return found
    return None


def find_log(kafka: Kafka, topics: TopicSettings, broker_folder: Path, store: Store) -> Log:
    """Creates the topics that are missing, and stores where each lane starts.

    Args:
        kafka: the broker, and how it is read.
        topics: what the topics are to be.
        broker_folder: of the embedded broker, where that is used.
        store: holds the positions so far.

    Raises:
        Unavailable: no broker answered.
        StateRefused: the state's positions are not of this log.
    """
    lives: tuple[Incarnation, ...] = ()
    if kafka.embedded:
        broker = load_state(broker_folder)
        lives = broker.incarnations if broker is not None else ()
    ensure_topics(kafka.bootstrap_servers, topics)
    counts = {
        topics.events: kafka.events_partitions,
        topics.items: 1,
        topics.users: kafka.events_partitions,
    }
    now = lives[-1] if lives else None
    described = describe(kafka.bootstrap_servers, counts, now)
    with store.read() as view:
        slots = held_slots(view) or [store.slot]
    by_slot = {s: _stored_positions(store.of(s), described, topics, lives) for s in slots}
    # What is not served stands where it was left: behind what is.
    stored = by_slot[slots[0]]
    verify_positions(
        kafka.bootstrap_servers,
        stored,
        counts,
        now,
        accept_partial_history=kafka.accept_partial_history,
    )
    if kafka.accept_partial_history:
        for positions in by_slot.values():
            _skip_what_is_gone(kafka.bootstrap_servers, described, positions)
    _store_positions(store, described, topics, by_slot)
    starts = [
        {p: stored[described[topic].topic_id, p] for p in range(described[topic].partitions)}
        for topic in (topics.events, topics.items, topics.users)
    ]
    return Log(topics, described, now, *starts)


def _stored_positions(
    store: Store,
    described: Mapping[str, TopicDescription],
    topics: TopicSettings,
    lives: tuple[Incarnation, ...],
) -> dict[tuple[bytes, int], int]:
    """The state's positions under the topics' present ids; 0 for what was never read."""
    with store.read() as view:
        stored = {(p.topic_id, p.partition): p.next_offset for p in view.positions()}
    if lives:
        stored = carry_positions(stored, (topics.events, topics.items, topics.users), lives)
    for description in described.values():
        for partition in range(description.partitions):
            stored.setdefault((description.topic_id, partition), 0)
    return stored


def _skip_what_is_gone(
    bootstrap: str,
    described: Mapping[str, TopicDescription],
    stored: dict[tuple[bytes, int], int],
) -> None:
    """Raises positions that lie before the log's first record, in place."""
    pairs = [(topic, p) for topic, d in described.items() for p in range(d.partitions)]
    for (topic, partition), bounds in log_bounds(bootstrap, pairs).items():
        name = (described[topic].topic_id, partition)
        stored[name] = max(stored[name], bounds.beginning)


def _store_positions(
    store: Store,
    described: Mapping[str, TopicDescription],
    topics: TopicSettings,
    by_slot: Mapping[Slot, Mapping[tuple[bytes, int], int]],
) -> None:
    lanes: dict[bytes, Lane] = {
        described[topics.events].topic_id: "events",
        described[topics.items].topic_id: "items",
        described[topics.users].topic_id: "users",
    }
    with store.write() as txn:
        for slot, stored in by_slot.items():
            positions = [Position(lanes[i], i, p, at) for (i, p), at in stored.items()]
            txn.of(slot).replace_positions(positions)
