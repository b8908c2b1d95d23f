"""The one reader of a topic: what it hands out, and that it needs no thread for it."""

import threading

import kafka
import pytest
from memory_log import Record

from rankstream.server.errors import StateRefused, Unavailable
from rankstream.server.stream import consumer as consumer_module
from rankstream.server.stream.consumer import LogConsumer, rest_when
from rankstream.server.stream.topics import TopicSettings, ensure_topics

SETTINGS = TopicSettings(prefix="t.", events_partitions=2)
TOPIC = SETTINGS.events


def produce(bootstrap, values, partition=0):
    producer = kafka.KafkaProducer(bootstrap_servers=bootstrap, bootstrap_timeout_ms=5000)
    for sent in [producer.send(TOPIC, value=value, partition=partition) for value in values]:
        sent.get(10)
    producer.close()


def read(consumer, count):
    """Polls until ``count`` records came; returns (partition, offset, value), and the ends."""
    found, ends = [], {}
    while len(found) < count:
        chunks = consumer.poll(5000, 100)
        assert chunks, f"only {len(found)} of {count} records came"
        for chunk in chunks:
            found += [(chunk.partition, r.offset, r.value) for r in chunk.records]
            ends[chunk.partition] = chunk.next_offset
    return found, ends


def test_records_are_read_from_the_positions_on_in_the_callers_thread(own_broker):
    address = own_broker.start()
    ensure_topics(address, SETTINGS)
    produce(address, [b"%d" % n for n in range(5)])
    produce(address, [b"other"], partition=1)
    threads = threading.active_count()

    consumer = LogConsumer(address, TOPIC, {0: 2, 1: 0}, fetch_max_wait_ms=50)
    found, ends = read(consumer, 4)

    assert sorted(found) == [(0, 2, b"2"), (0, 3, b"3"), (0, 4, b"4"), (1, 0, b"other")]
    assert ends == {0: 5, 1: 1}
    assert (consumer.highwater(0), consumer.highwater(1)) == (5, 1)
    assert threading.active_count() == threads

    consumer.pause(0)
    produce(address, [b"a"], partition=0)
    produce(address, [b"b"], partition=1)
    assert read(consumer, 1)[0] == [(1, 1, b"b")]
    consumer.resume(0)
    assert read(consumer, 1)[0] == [(0, 5, b"a")]
    consumer.close()

    outside = LogConsumer(address, TOPIC, {0: 7, 1: 0}, fetch_max_wait_ms=50)
    with pytest.raises(StateRefused, match="lies outside the log"):
        read(outside, 100)
    outside.close()


def test_rests_grow_while_nothing_comes():
    assert [rest_when(idle_s, 0.004) for idle_s in (0, 0.3, 1, 2.5)] == [0.004, 0.004, 0.01, 0.025]
    assert rest_when(3600, 0.004) == rest_when(0, 0.03) == 0.03


def test_after_a_record_rests_are_short_again(own_broker, monkeypatch):
    rests = []
    monkeypatch.setattr(
        consumer_module, "rest_when", lambda idle_s, rest_s: rests.append(idle_s) or rest_s
    )
    address = own_broker.start()
    ensure_topics(address, SETTINGS)
    consumer = LogConsumer(address, TOPIC, {0: 0, 1: 0}, fetch_max_wait_ms=50, rest_s=0.01)
    assert consumer.poll(300, 100) == []
    assert rests == sorted(rests)
    assert rests[-1] > 0.1

    produce(address, [b"one"])
    assert read(consumer, 1)[0] == [(0, 0, b"one")]
    before = len(rests)
    consumer.poll(50, 100)
    consumer.close()

    assert max(rests[before:]) < 0.1


def test_a_consumer_outlives_its_broker(own_broker):
    address = own_broker.start()
    ensure_topics(address, SETTINGS)
    consumer = LogConsumer(address, TOPIC, {0: 0, 1: 0}, fetch_max_wait_ms=50)
    produce(address, [b"before"])
    assert read(consumer, 1)[0] == [(0, 0, b"before")]

    own_broker.stop()
    assert consumer.poll(50, 100) == []
    own_broker.start()
    produce(address, [b"after"])

    found = []
    for _ in range(300):
        found += [r.value for chunk in consumer.poll(100, 100) for r in chunk.records]
        if found:
            break
    assert found == [b"after"]
    consumer.close()


def test_no_broker_is_said(monkeypatch):
    monkeypatch.setattr(consumer_module, "_BOOTSTRAP_TIMEOUT_MS", 200)
    with pytest.raises(Unavailable, match="no broker answers at 127.0.0.1:1"):
        LogConsumer("127.0.0.1:1", TOPIC, {0: 0}, fetch_max_wait_ms=50)


class Client:
    """A client library that has read two records, of a log that ends at ``end``."""

    def __init__(self, end, position):
        self.end, self.at, self.asked = end, position, 0

    def assign(self, partitions):
        self.partitions = partitions

    def seek(self, partition, offset):
        pass

    def poll(self, timeout_ms, max_records):
        return {self.partitions[0]: [Record(3), Record(4)]}

    def highwater(self, partition):
        return self.end

    def position(self, partition):
        self.asked += 1
        return self.at


@pytest.mark.parametrize(
    ("end", "position", "asked"),
    [(5, 5, 0), (6, 6, 1), (9, 6, 1), (9, 5, 1), (None, 5, 1)],
    ids=["at the end", "a marker at the end", "a marker before more", "more", "end not heard"],
)
def test_a_position_is_asked_for_where_it_may_be_further_on(monkeypatch, end, position, asked):
    client = Client(end, position)
    monkeypatch.setattr(consumer_module.kafka, "KafkaConsumer", lambda **_: client)

    (chunk,) = LogConsumer("localhost:1", TOPIC, {0: 3}, fetch_max_wait_ms=50).poll(0, 10)

    assert chunk.next_offset == position
    assert client.asked == asked
