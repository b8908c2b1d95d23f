"""Writes to the log: acknowledged with their place, refused one by one, given up in time."""

import asyncio
import threading

import kafka
import pytest

from rankstream.server.errors import InvalidArgument, Overloaded, Unavailable
from rankstream.server.stream.publisher import Outgoing, Publisher, Written
from rankstream.server.stream.topics import TopicSettings, ensure_topics


@pytest.fixture
def topic(embedded_broker, topic_prefix):
    settings = TopicSettings(topic_prefix, 2)
    ensure_topics(embedded_broker.bootstrap, settings)
    return settings.events


def publisher_of(bootstrap, **changed):
    settings = {"linger_ms": 1, "timeout_s": 10.0, "max_record_bytes": 1000, **changed}
    return Publisher(bootstrap, **settings)


@pytest.fixture
def publisher(embedded_broker):
    made = publisher_of(embedded_broker.bootstrap)
    made.connect_soon()
    yield made
    made.close()


def test_each_record_is_acknowledged_with_its_place(publisher, topic):
    records = [Outgoing(f"user-{n}".encode(), b"v") for n in range(20)]

    first = asyncio.run(publisher.publish(topic, records))
    again = asyncio.run(publisher.publish(topic, records[:1]))

    assert len(first) == 20
    places = {(w.partition, w.offset) for w in first}
    assert len(places) == 20
    assert {p for p, _ in places} == {0, 1}
    assert again[0].partition == first[0].partition
    assert again[0].offset > max(w.offset for w in first if w.partition == again[0].partition)


def test_records_of_one_key_keep_their_order(publisher, topic):
    outcomes = asyncio.run(
        publisher.publish(topic, [Outgoing(b"ann", b"%d" % n) for n in range(9)])
    )

    offsets = [w.offset for w in outcomes]
    assert offsets == list(range(offsets[0], offsets[0] + 9))


def test_a_record_that_is_too_large_fails_alone(publisher, topic):
    records = [Outgoing(b"a", b"v"), Outgoing(b"b", b"v" * 9000), Outgoing(b"c", None)]

    first, second, third = asyncio.run(publisher.publish(topic, records))

    assert isinstance(first, Written)
    assert isinstance(second, InvalidArgument)
    assert isinstance(third, Written)


def test_nothing_is_written_without_a_word_to_the_broker():
    publisher = publisher_of("127.0.0.1:1")

    assert asyncio.run(publisher.publish("topic", [])) == []
    publisher.close()


def test_what_waits_for_the_broker_is_bounded(embedded_broker, topic):
    publisher = publisher_of(embedded_broker.bootstrap, max_queued_bytes=10)

    with pytest.raises(Overloaded) as full:
        asyncio.run(publisher.publish(topic, [Outgoing(b"ann", b"12345678")]))
    assert full.value.retry_after_s > 0

    assert len(asyncio.run(publisher.publish(topic, [Outgoing(b"ann", b"1234567")]))) == 1
    publisher.close()


class Unreachable(Publisher):
    """Counts how often it is asked to connect to a broker that is away."""

    asked = 0

    def _connected(self):
        self.asked += 1
        raise kafka.errors.KafkaConnectionError


def test_without_a_broker_each_record_says_so():
    publisher = Unreachable("127.0.0.1:1", linger_ms=1, timeout_s=5.0, max_record_bytes=10)

    outcomes = asyncio.run(publisher.publish("topic", [Outgoing(b"a", b"v")] * 2))

    assert [type(o) for o in outcomes] == [Unavailable, Unavailable]
    publisher.close()


class Blocking(Publisher):
    """A broker whose every answer takes longer than the caller waits."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.sent = 0
        self.caller_gave_up = threading.Event()

    def _connected(self):
        return self

    def send(self, topic, value, key):
        self.sent += 1
        self.caller_gave_up.wait(30)
        raise kafka.errors.KafkaTimeoutError


def test_records_whose_caller_gave_up_are_not_sent_one_by_one():
    publisher = Blocking("127.0.0.1:1", linger_ms=1, timeout_s=0.05, max_record_bytes=10)

    with pytest.raises(Unavailable, match="acknowledged within 0.05 s"):
        asyncio.run(give_up(publisher))
    publisher.close()

    assert publisher.sent == 1


async def give_up(publisher):
    try:
        await publisher.publish("topic", [Outgoing(b"a", b"v")] * 1000)
    finally:
        publisher.caller_gave_up.set()


def test_a_patient_caller_waits_for_room_and_keeps_its_order(embedded_broker, topic):
    async def scenario():
        publisher = publisher_of(embedded_broker.bootstrap, max_queued_bytes=40)
        writes = [
            publisher.publish(topic, [Outgoing(b"ann", b"%d" % n)] * 2, patient=True)
            for n in range(30)
        ]
        written = await asyncio.gather(*writes)
        publisher.close()
        return [w.offset for outcomes in written for w in outcomes]

    offsets = asyncio.run(scenario())

    assert offsets == list(range(offsets[0], offsets[0] + 60))
