"""The one place that reads a topic: fixed partitions, explicit positions, no group.

Behind this small interface another client library could stand. kafka-python's traps that it covers:
a seek past the end and a dead broker are silent (``stream/guard.py`` looks), and the position after
a poll is not the last offset plus one (transaction markers and compacted records take offsets too).
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import kafka
from kafka.errors import KafkaError, KafkaTimeoutError, OffsetOutOfRangeError
from kafka.net.compat import KafkaNetClient
from kafka.net.selector import NetworkSelector

from rankstream.server.errors import StateRefused, Unavailable

_BOOTSTRAP_TIMEOUT_MS = 5_000
_PARTITION_FETCH_BYTES = 4 << 20
_LONGEST_REST_S = 0.03


class Record(Protocol):
    """What a lane reads of a log record."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive records of one partition, and the position behind them."""

    partition: int
    records: list[Record]
    next_offset: int


class _OwnLoop(NetworkSelector):  # type: ignore[misc]
    """kafka-python's event loop, driven by the thread that polls.

    The client would start a thread for it. Each poll is then handed over and back twice, which
    costs a third of it, and waits for the interpreter's lock four times.
    """

    def start(self) -> None:
        """Starts no thread: without one, ``run`` drives the loop itself."""

    def wakeup(self) -> None:
        """Wakes nobody: no other thread waits in the loop."""


def _client(**settings: Any) -> KafkaNetClient:
    return KafkaNetClient(net=_OwnLoop(**settings), **settings)


def rest_when(idle_s: float, rest_s: float) -> float:
    """How long to rest between two fetches, where nothing has come for ``idle_s`` seconds.

    A hundredth of that, from ``rest_s`` up to 30 ms: with 250 fetches a second, an idle ingest took
    a fifth of a core.
    """
    return max(rest_s, min(0.01 * idle_s, _LONGEST_REST_S))


class LogConsumer:
    """Reads one topic from given positions on. One thread.

    Args:
        bootstrap_servers: comma-separated host:port.
        topic: its name.
        positions: where to begin, by partition.
        fetch_max_wait_ms: how long a broker may wait for records.
        rest_s: how long we wait between two fetches, for a broker that does not: asked without
            rest, it and the client would keep a core busy while nothing happens. See ``rest_when``.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        positions: Mapping[int, int],
        *,
        fetch_max_wait_ms: int,
        rest_s: float = 0.0,
    ) -> None:
        self._topic = topic
        self._rest_s = rest_s
        self._heard_at = time.monotonic()
        try:
            self._consumer = kafka.KafkaConsumer(
                bootstrap_servers=bootstrap_servers.split(","),
                # With a group, a poll would wait for its coordinator; the guard notes offsets.
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                fetch_max_wait_ms=fetch_max_wait_ms,
                fetch_min_bytes=1,
                max_partition_fetch_bytes=_PARTITION_FETCH_BYTES,
                bootstrap_timeout_ms=_BOOTSTRAP_TIMEOUT_MS,
                allow_auto_create_topics=False,
                # Nobody reads them, and they are a quarter of what a small poll costs.
                metrics_enabled=False,
                kafka_client=_client,
            )
        except KafkaError as error:
            msg = (
                f"no broker answers at {bootstrap_servers}: {error}; start one or mend the address"
            )
            raise Unavailable(msg) from error
        self._partitions = {p: kafka.TopicPartition(topic, p) for p in sorted(positions)}
        assigned = list(self._partitions.values())
        # Fetches are handed out in this order, and a damaged batch ends the consumer: the
        # partitions behind it have their turn with one of the next consumers.
        random.shuffle(assigned)
        self._consumer.assign(assigned)
        for partition, offset in positions.items():
            self._consumer.seek(self._partitions[partition], offset)

    def poll(self, timeout_ms: int, max_records: int) -> list[Chunk]:
        """Waits for records.

        Raises:
            StateRefused: a position lies outside the log.
            Unavailable: the client gave up on the broker.
        """
        try:
            polled = self._polled(timeout_ms, max_records)
        except OffsetOutOfRangeError as error:
            msg = (
                f"{self._topic}: a stored position lies outside the log ({error}): records were "
                "removed before this state applied them; restore a newer state, or start with an "
                "empty data folder and --accept-partial-history"
            )
            raise StateRefused(msg) from error
        except KafkaError as error:
            msg = f"{self._topic}: {error}"
            raise Unavailable(msg) from error
        return [Chunk(tp.partition, found, self._next(tp, found)) for tp, found in polled.items()]

    def _polled(self, timeout_ms: int, max_records: int) -> dict[Any, list[Record]]:
        if not self._rest_s:
            found: dict[Any, list[Record]] = self._consumer.poll(timeout_ms, max_records)
            return found
        until = time.monotonic() + timeout_ms / 1000
        while True:
            found = self._consumer.poll(0, max_records)
            now = time.monotonic()
            if found:
                self._heard_at = now
            if found or now >= until:
                return found
            time.sleep(rest_when(now - self._heard_at, self._rest_s))

    def _next(self, partition: Any, found: list[Record]) -> int:
        """The position behind records of the last poll, which markers may have put further on."""
        after: int = found[-1].offset + 1
        # At the log's end there is nothing it could be put behind, and asking costs 20 us.
        if self._consumer.highwater(partition) != after:
            after = self._consumer.position(partition)
        return after

    def highwater(self, partition: int) -> int:
        """The log's end as of the last fetch of this partition; -1 before the first."""
        found = self._consumer.highwater(self._partitions[partition])
        return -1 if found is None else int(found)

    def pause(self, partition: int) -> None:
        """Stops handing out one partition's records."""
        self._consumer.pause(self._partitions[partition])

    def resume(self, partition: int) -> None:
        """Undoes ``pause``."""
        self._consumer.resume(self._partitions[partition])

    def close(self) -> None:
        """Ends it without a commit."""
        try:
            self._consumer.close(autocommit=False, timeout_ms=1_000)
        except (KafkaTimeoutError, KafkaError):
            # Closing a connection to a broker that is gone; nothing is lost.
            return
