"""Whether stored positions still belong to the log that is there.

Clients do not ask: a topic that was deleted and created again, or a seek past the end, is silent
for ever. So the positions are checked at start, on reconnect and on a timer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from kafka import KafkaConsumer, TopicPartition

from rankstream.server.errors import StateRefused
from rankstream.server.stream.incarnations import Incarnation
from rankstream.server.stream.topics import (
    ADMIN_TIMEOUT_S,
    BrokerUnavailable,
    LogBounds,
    TopicDescription,
    describe,
    log_bounds,
)

START_OVER = (
    "restore the log, or start over with an empty --data-dir (the log that is there is read anew)"
)


class TopicRecreated(StateRefused):
    """Positions are stored for a topic id that no topic has."""


class PartitionCountChanged(StateRefused):
    """A topic has another number of partitions than when the state was built."""


class OffsetOutsideLog(StateRefused):
    """A stored position lies before the log's first record or after its last."""


def check_positions(
    stored: Mapping[tuple[bytes, int], int],
    partition_counts: Mapping[str, int],
    described: Mapping[str, TopicDescription],
    bounds: Mapping[tuple[str, int], LogBounds],
    *,
    accept_partial_history: bool = False,
) -> None:
    """Refuse positions that do not fit the log.

    Args:
        stored: next offset by (topic id, partition); may be empty.
        partition_counts: partitions of each topic when the state was built.
        described: the topics as they are.
        bounds: of each (topic, partition) that is to be read.
        accept_partial_history: a position before the log's first record is taken.

    Raises:
        TopicRecreated, PartitionCountChanged, OffsetOutsideLog: what the name says.
    """
    _check_counts(partition_counts, described)
    names = {description.topic_id: topic for topic, description in described.items()}
    for (topic_id, partition), next_offset in sorted(stored.items()):
        if topic_id not in names:
            msg = (
                f"the state holds a position of topic id {topic_id.hex()}, but "
                f"{_listed(described)}: a topic was deleted and created again, or the broker is "
                f"another one; {START_OVER}"
            )
            raise TopicRecreated(msg)
        topic = names[topic_id]
        here = bounds[topic, partition]
        check_highwater(topic, partition, next_offset, here.end)
        if next_offset < here.beginning and not accept_partial_history:
            msg = (
                f"{topic}/{partition} begins at offset {here.beginning}, but the state has applied "
                f"only up to {next_offset}: {here.beginning - next_offset} records were removed by "
                "retention; restore a newer snapshot, or pass --accept-partial-history"
            )
            raise OffsetOutsideLog(msg)


def check_highwater(topic: str, partition: int, position: int, highwater: int) -> None:
    """Refuse a position past the log's end, which is what a truncated or replaced log looks like.

    Raises:
        OffsetOutsideLog: ``position`` is greater than ``highwater``.
    """
    if position > highwater:
        msg = (
            f"{topic}/{partition} ends at offset {highwater}, but the state has applied up to "
            f"{position}: {position - highwater} records that were applied are no longer in the "
            f"log; {START_OVER}"
        )
        raise OffsetOutsideLog(msg)


def verify_positions(
    bootstrap: str,
    stored: Mapping[tuple[bytes, int], int],
    partition_counts: Mapping[str, int],
    incarnation: Incarnation | None = None,
    *,
    accept_partial_history: bool = False,
    timeout_s: float = ADMIN_TIMEOUT_S,
) -> dict[str, TopicDescription]:
    """Describe the topics of ``partition_counts``, check the positions, return the descriptions.

    Raises:
        BrokerUnavailable: no broker answered.
        TopicRecreated, PartitionCountChanged, OffsetOutsideLog: see ``check_positions``.
    """
    described = describe(bootstrap, partition_counts, incarnation, timeout_s)
    _check_counts(partition_counts, described)
    pairs = [(topic, p) for topic, d in described.items() for p in range(d.partitions)]
    bounds = log_bounds(bootstrap, pairs, timeout_s)
    for topic, partition in pairs:
        position = stored.get((described[topic].topic_id, partition), 0)
        here = bounds[topic, partition]
        if position > here.end:
            end = fetched_highwater(bootstrap, topic, partition, here.end, timeout_s)
            bounds[topic, partition] = LogBounds(here.beginning, end)
    check_positions(
        stored, partition_counts, described, bounds, accept_partial_history=accept_partial_history
    )
    return described


def fetched_highwater(
    bootstrap: str, topic: str, partition: int, offset: int, timeout_s: float
) -> int:
    """The high watermark as a fetch at ``offset`` reports it, which some brokers list wrongly.

    Raises:
        BrokerUnavailable: no fetch was answered within ``timeout_s``.
    """
    where = TopicPartition(topic, partition)
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap.split(","),
        bootstrap_timeout_ms=int(timeout_s * 1000),
        group_id=None,
        enable_auto_commit=False,
        fetch_max_wait_ms=10,
    )
    try:
        consumer.assign([where])
        consumer.seek(where, offset)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            consumer.poll(timeout_ms=100)
            highwater = consumer.highwater(where)
            if highwater is not None:
                return int(highwater)
    finally:
        consumer.close()
    msg = f"no fetch of {topic}/{partition} was answered at {bootstrap} within {timeout_s:g} s"
    raise BrokerUnavailable(msg)


def _check_counts(
    partition_counts: Mapping[str, int], described: Mapping[str, TopicDescription]
) -> None:
    for topic, count in partition_counts.items():
        found = described[topic].partitions if topic in described else 0
        if found == 0:
            msg = f"topic {topic} does not exist, but the state was built from it; {START_OVER}"
            raise TopicRecreated(msg)
        if found != count:
            msg = (
                f"topic {topic} has {found} partitions, but the state was built with {count}: "
                "users would map to other partitions; create a topic with the old count under "
                "another --topic-prefix, or start over with an empty --data-dir"
            )
            raise PartitionCountChanged(msg)


def _listed(described: Mapping[str, TopicDescription]) -> str:
    return ", ".join(f"{topic} has id {d.topic_id.hex()}" for topic, d in sorted(described.items()))
