"""The Kafka producer against a fake of kafka-python's, which answers when the test says so."""

from __future__ import annotations

import pytest
from kafka.errors import KafkaTimeoutError, MessageSizeTooLargeError, NotLeaderForPartitionError
from kafka.future import Future

from rankstream.client import (
    DeliveryFailed,
    Event,
    EventProducer,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
    events,
)
from rankstream.proto.v1 import events_pb2


class FakeKafka:
    """Keeps records; acknowledges them at once unless ``silent``."""

    def __init__(self, **settings):
        self.settings = settings
        self.records = []
        self.pending = []
        self.outcome = None
        self.silent = False
        self.closed = False

    def send(self, topic, key, value):
        if isinstance(self.outcome, KafkaTimeoutError | MessageSizeTooLargeError):
            raise self.outcome
        self.records.append((topic, key, events_pb2.Event.FromString(value)))
        delivery = Future()
        self.pending.append(delivery)
        if not self.silent:
            self.settle()
        return delivery

    def settle(self):
        while self.pending:
            delivery = self.pending.pop()
            if self.outcome is None:
                delivery.success(None)
            else:
                delivery.failure(self.outcome)

    def flush(self, timeout):
        if self.pending:
            message = f"not within {timeout} s"
            raise KafkaTimeoutError(message)

    def close(self, timeout):
        self.closed = True


@pytest.fixture
def kafkas(monkeypatch):
    made = []

    def make(**settings):
        made.append(FakeKafka(**settings))
        return made[-1]

    monkeypatch.setattr(events, "KafkaProducer", make)
    return made


@pytest.fixture
def producer(kafkas):
    return EventProducer("a:1,b:2", timeout_s=0.05, max_buffered=3, security_protocol="SSL")


@pytest.fixture
def kafka(producer, kafkas):
    return kafkas[0]


def test_what_kafka_is_told(kafka):
    settings = kafka.settings
    assert settings["bootstrap_servers"] == ["a:1", "b:2"]
    assert (settings["acks"], settings["enable_idempotence"], settings["linger_ms"]) == (
        "all",
        False,
        1,
    )
    assert settings["allow_auto_create_topics"] is False
    assert "partitioner" not in settings
    assert settings["security_protocol"] == "SSL"
    spent = settings["linger_ms"] + settings["request_timeout_ms"]
    assert spent <= settings["delivery_timeout_ms"] == 50


def test_a_longer_linger_fits_into_the_time_for_delivery(kafkas):
    EventProducer("a:1", timeout_s=0.05, linger_ms=20)

    settings = kafkas[0].settings
    assert settings["linger_ms"] == 20
    assert settings["request_timeout_ms"] + 20 <= settings["delivery_timeout_ms"]


def test_a_record_is_keyed_by_its_user_and_gets_an_id(producer, kafka):
    made = producer.send(Event("ü", "click", "i"))
    kept = producer.send(Event("u", "click", "i", event_id="mine"))

    topic, key, event = kafka.records[0]
    assert (topic, key, event.event_id) == ("rankstream.events", "ü".encode(), made)
    assert len(made) == 32
    assert kept == kafka.records[1][2].event_id == "mine"


def test_send_many_tells_how_far_it_is(producer, kafka):
    seen = []

    sent = producer.send_many((Event("u", "click", str(n)) for n in range(2500)), seen.append)

    assert sent.events == len(kafka.records) == 2500
    assert [progress.events for progress in seen] == [1000, 2000]
    assert sent.events_per_s > 0


def test_failures_are_raised_once_by_the_next_call(producer, kafka):
    kafka.outcome = NotLeaderForPartitionError()
    producer.send(Event("u", "click", "1"))
    kafka.outcome = None

    with pytest.raises(DeliveryFailed, match="1 events were not acknowledged") as caught:
        producer.send(Event("u", "click", "2"))
    assert caught.value.failed == 1
    producer.send(Event("u", "click", "3"))
    producer.flush()


def test_flush_raises_what_failed(producer, kafka):
    kafka.silent = True
    producer.send(Event("u", "click", "1"))
    producer.send(Event("u", "click", "2"))
    kafka.outcome = NotLeaderForPartitionError()
    kafka.settle()

    with pytest.raises(DeliveryFailed, match="2 events"):
        producer.flush()


def test_the_buffer_is_bounded(producer, kafka):
    kafka.silent = True
    for n in range(3):
        producer.send(Event("u", "click", str(n)))

    with pytest.raises(ResourceExhausted, match="buffer is full"):
        producer.send(Event("u", "click", "one too many"))
    with pytest.raises(Unavailable, match="flush again"):
        producer.flush()
    kafka.settle()
    producer.send(Event("u", "click", "fits"))


@pytest.mark.parametrize(
    ("event", "field"), [(Event("", "click", "i"), "user_id"), (Event("u", 5, "i"), "type")]
)
def test_a_wrong_event_takes_no_room(producer, kafka, event, field):
    for _ in range(5):
        with pytest.raises(InvalidArgument, match=f"^{field}: "):
            producer.send(event)
    producer.send(Event("u", "click", "i"))


def test_what_kafka_refuses_takes_no_room(producer, kafka):
    for outcome, expected in [
        (MessageSizeTooLargeError("2 MB"), InvalidArgument),
        (KafkaTimeoutError("no metadata"), Unavailable),
    ]:
        kafka.outcome = outcome
        for _ in range(4):
            with pytest.raises(expected):
                producer.send(Event("u", "click", "i"))
    kafka.outcome = None
    producer.send(Event("u", "click", "i"))


def test_leaving_the_block_flushes_and_closes(producer, kafka):
    with producer:
        producer.send(Event("u", "click", "i"))

    assert kafka.closed
    with pytest.raises(FailedPrecondition, match="closed"):
        producer.send(Event("u", "click", "i"))
    producer.close()


def test_an_error_in_the_block_is_not_hidden_by_failed_deliveries(producer, kafka):
    kafka.outcome = NotLeaderForPartitionError()

    def broken():
        with producer:
            producer.send(Event("u", "click", "i"))
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert kafka.closed


def test_failed_deliveries_are_raised_when_the_block_ends(producer, kafka):
    kafka.outcome = NotLeaderForPartitionError()

    def sending():
        with producer:
            producer.send(Event("u", "click", "i"))

    with pytest.raises(DeliveryFailed):
        sending()
    assert kafka.closed


def test_no_broker(monkeypatch):
    def refuse(**settings):
        message = "Unable to bootstrap"
        raise KafkaTimeoutError(message)

    monkeypatch.setattr(events, "KafkaProducer", refuse)

    with pytest.raises(Unavailable, match="no broker of a:1 within 2 s"):
        EventProducer("a:1", timeout_s=2)


def test_no_room_at_all_is_refused():
    with pytest.raises(InvalidArgument, match="^max_buffered: "):
        EventProducer("a:1", max_buffered=0)
