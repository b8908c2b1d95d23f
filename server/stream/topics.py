"""The log's topics: created with the right settings, verified, described.

- ``<prefix>events``, N partitions, key = user_id: the broker's clock as timestamp; kept for ever
  unless a retention is given.
- ``<prefix>items``, 1 partition, key = item_id: compacted; deletes are kept for seven days.
- ``<prefix>users``, partitioned like ``events``, key = user_id: both of these.
- ``<prefix>dead-letters``, 1 partition: records that could not be applied.

kafka-python's constructors and calls block; each is given a time limit here, and a broker that
does not answer becomes ``BrokerUnavailable`` with its address.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.errors import KafkaError, RetriableError, TopicAlreadyExistsError
from kafka.structs import OffsetAndMetadata

from rankstream.server.errors import StateRefused, Unavailable
from rankstream.server.stream.incarnations import Incarnation

TOMBSTONE_RETENTION_MS = 7 * 86_400_000
ADMIN_TIMEOUT_S = 15.0
NO_TOPIC_ID = UUID(int=0)

_log = logging.getLogger(__name__)


class BrokerUnavailable(Unavailable):
    """No broker answered within the time given."""


class TopicSettingsError(StateRefused):
    """A topic is missing, or is not what this server needs it to be."""


@dataclass(frozen=True, slots=True)
class TopicSettings:
    """What the topics are to be.

    Attributes:
        prefix: put before each name.
        events_partitions: partitions of ``events`` and ``users``; users map to partitions by this
            count.
        events_retention_ms: how long ``events`` keeps a record, ms; -1 keeps all.
        replication_factor: replicas of each topic.
    """

    prefix: str = "rankstream."
    events_partitions: int = 4
    events_retention_ms: int = -1
    replication_factor: int = 1

    @property
    def events(self) -> str:
        """Name of the topic of events."""
        return f"{self.prefix}events"

    @property
    def items(self) -> str:
        """Name of the topic of items."""
        return f"{self.prefix}items"

    @property
    def users(self) -> str:
        """Name of the topic of users."""
        return f"{self.prefix}users"

    @property
    def dead_letters(self) -> str:
        """Name of the topic of dead letters."""
        return f"{self.prefix}dead-letters"

    def wanted(self) -> dict[str, Wanted]:
        """What each topic is created with, and which of that is required of an existing one."""
        retention = str(self.events_retention_ms)
        tombstones = str(TOMBSTONE_RETENTION_MS)
        append_time = {"message.timestamp.type": "LogAppendTime"}
        deleted, compacted = {"cleanup.policy": "delete"}, {"cleanup.policy": "compact"}
        return {
            self.events: Wanted(
                self.events_partitions, append_time | deleted, {"retention.ms": retention}
            ),
            self.items: Wanted(1, compacted, {"delete.retention.ms": tombstones}),
            self.users: Wanted(
                self.events_partitions,
                append_time | compacted,
                {"delete.retention.ms": tombstones},
            ),
            self.dead_letters: Wanted(1, {}, {}),
        }


@dataclass(frozen=True, slots=True)
class Wanted:
    """One topic's settings: ``required`` of an existing topic too, ``initial`` for a new one."""

    partitions: int
    required: Mapping[str, str]
    initial: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """What identifies a topic: its 16-byte id, new when it is created again, and its partitions."""

    topic_id: bytes
    partitions: int


@dataclass(frozen=True, slots=True)
class LogBounds:
    """Offsets of one partition: the first that is kept, and the one that comes next."""

    beginning: int
    end: int


def ensure_topics(
    bootstrap: str, settings: TopicSettings, timeout_s: float = ADMIN_TIMEOUT_S
) -> None:
    """Create the topics that are missing and verify those that exist.

    Raises:
        BrokerUnavailable: no broker answered.
        TopicSettingsError: a topic exists with other settings, or may not be created.
    """
    wanted = settings.wanted()
    with connected_admin(bootstrap, timeout_s) as admin:
        found = _partition_counts(admin, wanted)
        for topic in wanted.keys() - found.keys():
            _create(admin, topic, wanted[topic], settings.replication_factor)
        configs = _configs(admin, found)
    for topic, count in found.items():
        _verify(bootstrap, topic, wanted[topic], count, configs.get(topic, {}))


def describe(
    bootstrap: str,
    topics: Iterable[str],
    incarnation: Incarnation | None = None,
    timeout_s: float = ADMIN_TIMEOUT_S,
) -> dict[str, TopicDescription]:
    """Ids and partition counts of existing topics; a missing one is left out.

    Args:
        bootstrap: address of a broker.
        topics: names.
        incarnation: of the embedded broker, which assigns no ids; None with any other broker.
        timeout_s: limit of each request, s.

    Raises:
        BrokerUnavailable: no broker answered.
        TopicSettingsError: the broker gives topics no id, and ``incarnation`` is None.
    """
    with connected_admin(bootstrap, timeout_s) as admin:
        raw = admin.describe_topics(sorted(topics))
    return {
        topic["name"]: TopicDescription(
            _topic_id(topic, incarnation, bootstrap), len(topic["partitions"])
        )
        for topic in raw
        if topic["error_code"] == 0
    }


def log_bounds(
    bootstrap: str, partitions: Iterable[tuple[str, int]], timeout_s: float = ADMIN_TIMEOUT_S
) -> dict[tuple[str, int], LogBounds]:
    """First and next offset of each (topic, partition).

    Raises:
        BrokerUnavailable: no broker answered, or a partition does not exist.
    """
    wanted = [TopicPartition(*partition) for partition in partitions]
    with connected_admin(bootstrap, timeout_s) as admin:
        earliest, latest = (
            admin.list_partition_offsets(dict.fromkeys(wanted, spec), timeout_ms=timeout_s * 1e3)
            if wanted
            else {}
            for spec in (OffsetSpec.EARLIEST, OffsetSpec.LATEST)
        )
    return {(p.topic, p.partition): LogBounds(earliest[p].offset, latest[p].offset) for p in wanted}


def log_ends(bootstrap: str, timeout_s: float = ADMIN_TIMEOUT_S) -> dict[str, tuple[int, ...]]:
    """Next offset of each partition, in order, of every topic that is not the broker's own."""
    with connected_admin(bootstrap, timeout_s) as admin:
        topics = [t for t in admin.describe_topics() if not t["name"].startswith("__")]
    counts = {t["name"]: len(t["partitions"]) for t in topics}
    pairs = [(topic, partition) for topic, count in counts.items() for partition in range(count)]
    bounds = log_bounds(bootstrap, pairs, timeout_s)
    return {t: tuple(bounds[t, p].end for p in range(count)) for t, count in counts.items()}


def note_offsets(
    bootstrap: str,
    group_id: str,
    positions: Mapping[tuple[str, int], int],
    timeout_s: float = ADMIN_TIMEOUT_S,
) -> None:
    """Tell Kafka how far the state is, for lag tools; nothing here ever reads it.

    Raises:
        BrokerUnavailable: no broker answered.
        TopicSettingsError: the broker refused.
    """
    offsets = {
        TopicPartition(*partition): OffsetAndMetadata(offset, "", -1)
        for partition, offset in positions.items()
    }
    with connected_admin(bootstrap, timeout_s) as admin:
        admin.alter_group_offsets(group_id, offsets)


@contextmanager
def connected_admin(bootstrap: str, timeout_s: float) -> Iterator[Any]:
    """A connected admin client, closed at the end; a broker's silence or refusal becomes ours.

    Raises:
        BrokerUnavailable: no broker answered within ``timeout_s``.
        TopicSettingsError: the broker refused what was asked of it.
    """
    limit_ms = max(1, int(timeout_s * 1000))
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=bootstrap.split(","),
            bootstrap_timeout_ms=limit_ms,
            request_timeout_ms=limit_ms,
        )
        try:
            yield admin
        finally:
            admin.close()
    except RetriableError as error:
        msg = (
            f"no Kafka broker answered at {bootstrap} within {timeout_s:g} s ({error}); start it, "
            "or correct --bootstrap-servers"
        )
        raise BrokerUnavailable(msg) from error
    except KafkaError as error:
        msg = f"the Kafka broker at {bootstrap} refused the request: {error}"
        raise TopicSettingsError(msg) from error


def _partition_counts(admin: Any, topics: Iterable[str]) -> dict[str, int]:
    raw = admin.describe_topics(sorted(topics))
    return {t["name"]: len(t["partitions"]) for t in raw if t["error_code"] == 0}


def _create(admin: Any, topic: str, wanted: Wanted, replication_factor: int) -> None:
    request = {
        "num_partitions": wanted.partitions,
        "replication_factor": replication_factor,
        "configs": {**wanted.required, **wanted.initial},
    }
    try:
        admin.create_topics({topic: request}, wait_for_metadata=True)
    except TopicAlreadyExistsError:
        _log.info("topic %s was created by another process meanwhile", topic)
    else:
        _log.info("created topic %s with %d partitions", topic, wanted.partitions)


def _configs(admin: Any, topics: Iterable[str]) -> dict[str, dict[str, str]]:
    """The settings of each topic; empty where the broker does not tell."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
    if not resources:
        return {}
    replies = admin.describe_configs(resources, config_filter="all").get("topic", {})
    return {t: {k: entry["value"] for k, entry in reply.items()} for t, reply in replies.items()}


def _verify(
    bootstrap: str, topic: str, wanted: Wanted, partitions: int, configs: Mapping[str, str]
) -> None:
    if partitions != wanted.partitions:
        msg = (
            f"topic {topic} has {partitions} partitions, expected {wanted.partitions}; users map "
            f"to partitions by their count, so set --events-partitions {partitions}, or use "
            "another --topic-prefix"
        )
        raise TopicSettingsError(msg)
    for name, value in wanted.required.items():
        if configs.get(name, value) != value:
            msg = (
                f"topic {topic} has {name}={configs[name]}, expected {value}; resolve with: "
                f"kafka-configs.sh --bootstrap-server {bootstrap} --alter --entity-type topics "
                f"--entity-name {topic} --add-config {name}={value}"
            )
            raise TopicSettingsError(msg)


def _topic_id(topic: Mapping[str, Any], incarnation: Incarnation | None, bootstrap: str) -> bytes:
    given = UUID(str(topic["topic_id"])) if topic["topic_id"] else NO_TOPIC_ID
    if given != NO_TOPIC_ID:
        return given.bytes
    if incarnation is None:
        msg = (
            f"the broker at {bootstrap} gives topic {topic['name']} no id, so a recreated topic "
            "could not be noticed; use Apache Kafka 2.8 or newer, or --embedded"
        )
        raise TopicSettingsError(msg)
    return incarnation.topic_id(topic["name"])
