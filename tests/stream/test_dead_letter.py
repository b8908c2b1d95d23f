"""Dead letters reach their topic, whole or cut, and tickets say when."""

import threading

import kafka
import pytest

from rankstream.server.stream.dead_letter import DeadLetter, DeadLetters
from rankstream.server.stream.topics import TopicSettings, ensure_topics

WAIT_S = 30


@pytest.fixture
def topic(embedded_broker, topic_prefix):
    settings = TopicSettings(topic_prefix, 1)
    ensure_topics(embedded_broker.bootstrap, settings)
    return settings.dead_letters


@pytest.fixture
def letters(embedded_broker, topic):
    made = DeadLetters(embedded_broker.bootstrap, topic)
    yield made
    made.close()


def letter(offset, value=b"value", key=b"key", error="wrong"):
    return DeadLetter("events", 2, offset, key, value, error)


def safe(ticket):
    """Waits for a ticket; it is done when its event is set."""
    assert ticket._done.wait(WAIT_S)
    return ticket.done()


def read(broker, topic, count):
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
    )
    consumer.assign([kafka.TopicPartition(topic, 0)])
    found = []
    while len(found) < count:
        for records in consumer.poll(timeout_ms=1000).values():
            found += records
    consumer.close()
    return found


def test_a_letter_says_where_it_was_and_why_it_is_here(embedded_broker, topic, letters):
    ticket = letters.submit([letter(7, error="user_id: ü"), letter(8, value=None, key=None)])

    assert safe(ticket)
    first, second = read(embedded_broker, topic, 2)
    assert (first.key, first.value) == (b"events/2/7", b"value")
    assert dict(first.headers) == {
        "topic": b"events",
        "partition": b"2",
        "offset": b"7",
        "error": "user_id: ü".encode(),
        "key": b"key",
    }
    assert (second.key, second.value) == (b"events/2/8", None)
    assert "key" not in dict(second.headers)


def test_a_letter_that_is_too_large_is_cut(embedded_broker, topic, letters):
    big = letter(1, value=b"v" * (2 << 20), error="e" * 9999)
    big_key = letter(2, value=b"v", key=b"k" * (2 << 20))

    assert safe(letters.submit([big, big_key]))

    first, second = read(embedded_broker, topic, 2)
    assert first.value == b"v" * (64 << 10)
    assert dict(first.headers)["truncated"] == b"1"
    assert len(dict(first.headers)["error"]) == 1024
    assert dict(second.headers)["key"] == b"k" * 1024


def test_tickets_are_delivered_in_their_order(embedded_broker, topic, letters):
    tickets = [letters.submit([letter(n)]) for n in range(5)]

    assert safe(tickets[-1])

    assert all(t.done() for t in tickets)
    assert [r.key for r in read(embedded_broker, topic, 5)] == [
        f"events/2/{n}".encode() for n in range(5)
    ]


class Failing(DeadLetters):
    """Fails as often as it is told before it delivers."""

    def __init__(self, *arguments, failures):
        self.failures = failures
        self.failed = threading.Semaphore(0)
        super().__init__(*arguments)

    def _connected(self):
        if self.failures:
            failure = self.failures.pop(0)
            self.failed.release()
            raise failure
        return super()._connected()


def test_delivery_is_tried_again_until_it_works(embedded_broker, topic):
    failures = [kafka.errors.KafkaTimeoutError("slow"), RuntimeError("a bug somewhere")]
    letters = Failing(embedded_broker.bootstrap, topic, failures=failures)

    assert safe(letters.submit([letter(1)]))

    assert len(read(embedded_broker, topic, 1)) == 1
    letters.close()


def test_a_dropped_ticket_is_given_up_for_the_next_one(embedded_broker, topic):
    forever = [kafka.errors.KafkaTimeoutError("slow")] * 1000
    letters = Failing(embedded_broker.bootstrap, topic, failures=forever)
    first = letters.submit([letter(1)])
    assert letters.failed.acquire(timeout=WAIT_S)

    first.drop()
    second = letters.submit([letter(2)])
    forever.clear()

    assert safe(second)
    letters.close()


def test_closing_does_not_wait_for_what_cannot_be_delivered():
    letters = Failing("127.0.0.1:1", "topic", failures=[kafka.errors.KafkaError("no")] * 1000)
    ticket = letters.submit([letter(1)])
    assert letters.failed.acquire(timeout=WAIT_S)

    letters.close()

    assert not ticket.done()


def test_a_letter_says_what_its_value_is_where_the_record_did(embedded_broker, topic, letters):
    json = DeadLetter("events", 2, 7, b"key", b"{", "wrong", b"application/json")

    assert safe(letters.submit([json, letter(8)]))

    first, second = read(embedded_broker, topic, 2)
    assert dict(first.headers)["content-type"] == b"application/json"
    assert "content-type" not in dict(second.headers)
