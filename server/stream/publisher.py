"""How a worker writes to the log: validated records in, acknowledged positions out.

kafka-python's ``send`` may block (metadata, a full buffer), so one thread calls it; the broker's
acknowledgements come back to the event loop as one wake-up a request.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import kafka
from kafka.errors import KafkaError, MessageSizeTooLargeError

from rankstream.server.errors import InvalidArgument, RankstreamError, Unavailable
from rankstream.server.stream.room import Room

log = logging.getLogger(__name__)

_BUFFER_BYTES_PER_REQUEST = 64 << 20
# An idempotent producer of kafka-python 3.0 that has let a sent batch expire never sends again. So
# none expires: callers give up by themselves, and the bytes count until the broker has them.
_NEVER_MS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record on its way to the log."""

    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Written:
    """Where the log has it."""

    partition: int
    offset: int


Outcome = Written | RankstreamError


@dataclass(slots=True)
class _Pending:
    """Collects the outcomes of one request; the last one wakes the loop."""

    loop: asyncio.AbstractEventLoop
    outcomes: list[Outcome | None]
    answered: asyncio.Future[list[Outcome]]
    release: Callable[[], None]
    lock: threading.Lock = field(default_factory=threading.Lock)
    left: int = 0

    def settle(self, index: int, outcome: Outcome) -> None:
        with self.lock:
            self.outcomes[index] = outcome
            self.left -= 1
            last = self.left == 0
        if last:
            self.loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        self.release()
        if not self.answered.done():
            self.answered.set_result([o for o in self.outcomes if o is not None])


class Publisher:
    """Writes to the log with acks from all replicas, idempotently."""

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        linger_ms: int,
        timeout_s: float,
        max_record_bytes: int,
        max_queued_bytes: int = _BUFFER_BYTES_PER_REQUEST,
    ) -> None:
        self._servers = bootstrap_servers
        self._linger_ms = linger_ms
        self._timeout_s = timeout_s
        self._max_record_bytes = max_record_bytes
        self._room = Room(max_queued_bytes)
        self._producer: kafka.KafkaProducer | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="publisher")

    def connect_soon(self) -> None:
        """Begins to connect; nobody waits for it."""
        self._thread.submit(self._try_connect)

    async def publish(
        self, topic: str, records: Sequence[Outgoing], *, patient: bool = False
    ) -> list[Outcome]:
        """Writes records and waits until the log has them.

        Args:
            topic: which.
            records: what; they are sent in their order, and calls in theirs.
            patient: for imports: where too many bytes wait, wait for room too.

        Returns:
            One outcome a record, in order; one that fails does not fail the others.

        Raises:
            Overloaded: too many bytes wait for the broker already; with ``patient``, they still
                do after the publish timeout.
            Unavailable: the broker did not answer within the publish timeout.
        """
        if not records:
            return []
        size = sum(len(r.key) + len(r.value or b"") for r in records)
        if patient:
            await self._room.wait(size, self._timeout_s)
        else:
            self._room.take(size)
        loop = asyncio.get_running_loop()
        outcomes: list[Outcome | None] = [None] * len(records)
        release = functools.partial(self._room.give_back, size)
        pending = _Pending(loop, outcomes, loop.create_future(), release, left=len(records))
        loop.run_in_executor(self._thread, self._send_all, topic, records, pending)
        try:
            return await asyncio.wait_for(pending.answered, self._timeout_s)
        except TimeoutError:
            msg = (
                f"no broker at {self._servers} acknowledged within {self._timeout_s:g} s: the "
                "records may or may not be in the log; repeat with the same event_id"
            )
            raise Unavailable(msg) from None

    def close(self) -> None:
        """Sends what is buffered, if a broker takes it in time, and ends."""
        self._thread.shutdown(wait=True)
        if self._producer is not None:
            try:
                self._producer.close(timeout=self._timeout_s)
            except KafkaError as error:
                log.warning("ended with records that no broker took: %s", error)

    def _send_all(self, topic: str, records: Sequence[Outgoing], pending: _Pending) -> None:
        for index, record in enumerate(records):
            if pending.answered.done():
                # Its caller has gone; with the broker away, each send would block for long.
                pending.settle(index, Unavailable("its caller has gone"))
                continue
            try:
                future = self._connected().send(topic, record.value, record.key)
            except MessageSizeTooLargeError:
                problem = f"its record is larger than {self._max_record_bytes} bytes"
                pending.settle(index, InvalidArgument(f"entry[{index}]", problem))
            except Exception as error:  # noqa: BLE001 - every record must have an outcome
                pending.settle(index, Unavailable(f"the log at {self._servers}: {error}"))
            else:
                _settle_later(pending, index, future)

    def _try_connect(self) -> None:
        try:
            self._connected()
        except KafkaError as error:
            log.warning("writes will fail until the broker answers: %s", error)

    def _connected(self) -> kafka.KafkaProducer:
        if self._producer is None:
            timeout_ms = int(self._timeout_s * 1000)
            self._producer = kafka.KafkaProducer(
                bootstrap_servers=self._servers.split(","),
                acks="all",
                enable_idempotence=True,
                linger_ms=self._linger_ms,
                metrics_enabled=False,
                max_request_size=self._max_record_bytes + 4096,
                max_block_ms=timeout_ms,
                bootstrap_timeout_ms=timeout_ms,
                request_timeout_ms=max(1_000, timeout_ms // 2),
                delivery_timeout_ms=_NEVER_MS,
                allow_auto_create_topics=False,
            )
        return self._producer


def _settle_later(pending: _Pending, index: int, future: kafka.future.Future) -> None:
    future.add_callback(lambda m: pending.settle(index, Written(m.partition, m.offset)))
    future.add_errback(lambda e: pending.settle(index, Unavailable(f"the log refused: {e}")))
