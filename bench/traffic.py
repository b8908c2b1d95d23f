"""Events into Kafka, from a process of its own: at a steady rate, or as fast as it takes them.

Users and items are drawn uniformly: every event meets another profile, and no cache helps. The
producer is confluent-kafka's where it is installed (a third of the CPU of kafka-python's), with
Kafka's own partitioner; it is load, not what is measured.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from companion import Companion, await_word, read_spec, report
from sizes import ITEMS, USERS, item_id, user_id

from rankstream.proto.v1 import events_pb2

_TICK_S = 0.002
_LINGER_MS = 5
_IN_FLIGHT = 1_000_000

Send = Callable[[bytes, bytes], object]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What to produce.

    Attributes:
        bootstrap: host:port of the broker.
        topic: where to.
        events: how many.
        rate: a second; 0: as fast as the broker takes them.
        seed: of users and items; it also names the events.
    """

    bootstrap: str
    topic: str
    events: int
    rate: float = 0.0
    seed: int = 0

    def start(self) -> Companion:
        """Starts the producer's process. Its result: {"events", "seconds", "late_p99_ms"}."""
        return Companion.start("traffic.py", asdict(self))


def producer_name() -> str:
    """The library that produces, for the environment of a result."""
    found = importlib.util.find_spec("confluent_kafka") is not None
    return "confluent-kafka" if found else "kafka-python"


def _records(traffic: Traffic) -> list[tuple[bytes, bytes]]:
    """(key, value) of every event."""
    rng = np.random.default_rng(traffic.seed)
    users = rng.integers(0, USERS, traffic.events).tolist()
    items = rng.integers(0, ITEMS, traffic.events).tolist()
    now = int(time.time() * 1000)
    step_ms = 1000 / traffic.rate if traffic.rate else 0.01
    found = []
    for number, (user, item) in enumerate(zip(users, items, strict=True)):
        event = events_pb2.Event(
            event_id=f"{traffic.seed}-{now}-{number}",
            event_time_ms=now + int(number * step_ms),
            user_id=user_id(user),
            type="click",
            item_id=item_id(item),
        )
        found.append((event.user_id.encode(), event.SerializeToString()))
    return found


class _Producer:
    """Either library, as much of it as is needed."""

    def __init__(self, traffic: Traffic) -> None:
        if producer_name() == "confluent-kafka":
            self.send, self.tick, self.flush = _confluent(traffic)
        else:
            self.send, self.tick, self.flush = _kafka_python(traffic)


def _confluent(traffic: Traffic) -> tuple[Send, Callable[[], object], Callable[[], object]]:
    from confluent_kafka import Producer

    producer = Producer(
        {
            "bootstrap.servers": traffic.bootstrap,
            "linger.ms": _LINGER_MS,
            "acks": "all",
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": _IN_FLIGHT,
        }
    )
    topic, produce = traffic.topic, producer.produce
    producer.list_topics(topic, timeout=10.0)
    return lambda key, value: produce(topic, value, key), lambda: producer.poll(0), producer.flush


def _kafka_python(traffic: Traffic) -> tuple[Send, Callable[[], object], Callable[[], object]]:
    from kafka import KafkaProducer

    producer = KafkaProducer(
        bootstrap_servers=traffic.bootstrap,
        linger_ms=_LINGER_MS,
        acks="all",
        enable_idempotence=True,
        batch_size=1 << 18,
    )
    topic = traffic.topic
    producer.partitions_for(topic)
    return lambda key, value: producer.send(topic, value, key), lambda: None, producer.flush


def _produce(traffic: Traffic) -> None:
    records, producer, late = _records(traffic), _Producer(traffic), [0.0]
    send = producer.send
    await_word()
    started, sent = time.perf_counter(), 0
    while sent < len(records):
        elapsed = time.perf_counter() - started
        due = int(elapsed * traffic.rate) if traffic.rate else sent + 10_000
        if traffic.rate:
            late.append(1e3 * max(0.0, elapsed - sent / traffic.rate))
        for key, value in records[sent:due]:
            send(key, value)
        sent = min(max(due, sent), len(records))
        producer.tick()
        if traffic.rate:
            time.sleep(_TICK_S)
    producer.flush()
    seconds = time.perf_counter() - started
    found = {"events": sent, "seconds": seconds, "late_p99_ms": float(np.percentile(late, 99))}
    report(found)


def _main(spec: dict[str, Any]) -> None:
    _produce(Traffic(**spec))


if __name__ == "__main__":
    _main(read_spec())
