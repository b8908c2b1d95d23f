"""What a starting ingest makes of the log: topics, positions, and waiting for the broker."""

import threading
from dataclasses import replace

import pytest
from kafka import KafkaProducer

from rankstream.server.announce import Announcements
from rankstream.server.config import Kafka
from rankstream.server.stream.embedded_broker import EmbeddedBroker
from rankstream.server.stream.log import find_log, wait_for_log
from rankstream.server.stream.positions import OffsetOutsideLog
from rankstream.server.stream.topics import TopicSettings
from rankstream.server.types import Position

NOBODY = "127.0.0.1:1"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broker")
    with EmbeddedBroker(folder) as broker:
        yield broker, folder


@pytest.fixture
def place(running, topic_prefix):
    """The arguments of ``find_log`` but for the store."""
    broker, folder = running
    kafka = Kafka(broker.bootstrap, embedded=True, topic_prefix=topic_prefix, events_partitions=2)
    return kafka, TopicSettings(topic_prefix, 2), folder


def stored(store):
    with store.read() as view:
        return list(view.positions())


def test_a_new_state_starts_at_the_beginning_of_new_topics(place, running, store):
    _, topics, _ = place

    found = find_log(*place, store)

    assert found.incarnation == running[0].incarnations[-1]
    names = topics.events, topics.items, topics.users
    events, items, users = (found.incarnation.topic_id(name) for name in names)
    assert {name: d.topic_id for name, d in found.described.items()} == {
        topics.events: events,
        topics.items: items,
        topics.users: users,
    }
    assert (found.events, found.items, found.users) == ({0: 0, 1: 0}, {0: 0}, {0: 0, 1: 0})
    assert stored(store) == [
        Position("events", events, 0, 0),
        Position("events", events, 1, 0),
        Position("items", items, 0, 0),
        Position("users", users, 0, 0),
        Position("users", users, 1, 0),
    ]


def test_a_state_goes_on_where_it_was(place, store):
    kafka, topics, _ = place
    first = find_log(*place, store)
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    for _ in range(3):
        producer.send(topics.events, b"value", partition=1)
    producer.close()
    with store.write() as txn:
        txn.advance([Position("events", first.described[topics.events].topic_id, 1, 3)])

    found = find_log(*place, store)

    assert (found.events, found.items) == ({0: 0, 1: 3}, {0: 0})
    with store.write() as txn:
        txn.advance([Position("events", first.described[topics.events].topic_id, 1, 4)])
    with pytest.raises(OffsetOutsideLog, match="/1 ends at offset 3"):
        find_log(*place, store)


def test_what_came_before_the_log_is_skipped_where_that_is_accepted(place, store, monkeypatch):
    kafka, topics, folder = place
    first = find_log(*place, store)
    module = "rankstream.server.stream.log"
    real = find_log.__globals__["log_bounds"]
    monkeypatch.setattr(
        f"{module}.log_bounds",
        lambda bootstrap, pairs: {
            where: replace(bounds, beginning=9 if where == (topics.events, 1) else 0)
            for where, bounds in real(bootstrap, pairs).items()
        },
    )

    found = find_log(replace(kafka, accept_partial_history=True), topics, folder, store)

    assert (found.events, found.items) == ({0: 0, 1: 9}, {0: 0})
    events = first.described[topics.events].topic_id
    assert Position("events", events, 1, 9) in stored(store)


def test_waiting_ends_when_told_to_stop(tmp_path, store):
    page = Announcements(tmp_path / "page", write=True)
    stopping = threading.Event()
    stopping.set()

    assert wait_for_log(Kafka(NOBODY), TopicSettings(), tmp_path, store, page, stopping) is None
    assert page.sequence == 0


def test_the_broker_is_asked_again_until_it_answers(place, tmp_path, store, monkeypatch, caplog):
    kafka, topics, folder = place
    page = Announcements(tmp_path / "page", write=True)
    real, asked = find_log.__globals__["ensure_topics"], []

    def ensure(bootstrap, settings):
        asked.append(bootstrap)
        # The first look finds nobody at all.
        real(NOBODY if len(asked) == 1 else bootstrap, settings, 0.2 if len(asked) == 1 else 15.0)

    monkeypatch.setattr("rankstream.server.stream.log.ensure_topics", ensure)

    found = wait_for_log(kafka, topics, folder, store, page, threading.Event())

    assert found is not None
    assert len(asked) == 2
    assert NOBODY in caplog.text
    assert (page.sequence, page.beat_age_ms >= 0) == (1, True)
