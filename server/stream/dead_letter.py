"""Where records go that no replica can fold: a topic of their own, at least once each.

A lane hands over the bad records of a chunk and keeps that chunk (and its partition) waiting until
the broker has them; only then may the position move past them. Other partitions go on.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import kafka
from kafka.errors import KafkaError, MessageSizeTooLargeError

log = logging.getLogger(__name__)

_RETRY_S = 0.5
_ANSWER_S = 10
_TRUNCATED_BYTES = 64 << 10
_TRUNCATED_KEY_BYTES = 1 << 10


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record, where it was, why it is here, and what its header said the value is."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    error: str
    content_type: bytes = b""

    @property
    def origin(self) -> str:
        """``topic/partition/offset``: the dead letter's key, so that a listing can deduplicate."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    def headers(self) -> list[tuple[str, bytes]]:
        """Where it was, and why it is here."""
        headers = [
            ("topic", self.topic.encode()),
            ("partition", str(self.partition).encode()),
            ("offset", str(self.offset).encode()),
            ("error", self.error.encode(errors="replace")[:1024]),
        ]
        # Written to the events topic again, the record needs it to be read.
        return [*headers, ("content-type", self.content_type)] if self.content_type else headers


class Ticket:
    """Done when the broker has every letter handed in with it."""

    def __init__(self, letters: Sequence[DeadLetter]) -> None:
        self.letters = list(letters)
        self._done = threading.Event()
        self._dropped = threading.Event()

    def done(self) -> bool:
        """Whether the log may be left behind."""
        return self._done.is_set()

    def finish(self) -> None:
        """The broker has acknowledged them all."""
        self._done.set()

    def drop(self) -> None:
        """Nobody waits any more: the records will be read, and handed in, again."""
        self._dropped.set()

    def wanted(self) -> bool:
        """Whether somebody still waits."""
        return not (self._done.is_set() or self._dropped.is_set())


class DeadLetters:
    """Writes dead letters from a thread of its own, retrying until the broker takes them."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._servers = bootstrap_servers.split(",")
        self._topic = topic
        self._queue: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        self._producer: kafka.KafkaProducer | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dead-letters", daemon=True)
        self._thread.start()

    def submit(self, letters: Sequence[DeadLetter]) -> Ticket:
        """Hands letters over; the ticket says when they are safe."""
        ticket = Ticket(letters)
        self._queue.put(ticket)
        return ticket

    def close(self) -> None:
        """Stops; letters not yet safe are met again after the next start."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(5)
        if self._producer is not None:
            self._producer.close(timeout=1)

    def _run(self) -> None:
        while (ticket := self._queue.get()) is not None:
            while ticket.wanted() and not self._closing.is_set():
                if not self._deliver(ticket):
                    self._closing.wait(_RETRY_S)

    def _deliver(self, ticket: Ticket) -> bool:
        try:
            sent = [(letter, self._send(letter)) for letter in ticket.letters]
            for letter, future in sent:
                self._await(letter, future)
        except KafkaError as error:
            log.warning("dead letters wait, their topic does not answer: %s", error)
            return False
        except Exception:
            # This thread must outlive whatever it meets: partitions wait for it.
            log.exception("dead letters wait")
            return False
        ticket.finish()
        return True

    def _await(self, letter: DeadLetter, future: kafka.future.Future) -> None:
        try:
            future.get(timeout=_ANSWER_S)
        except MessageSizeTooLargeError:
            # The broker's limit is lower than ours.
            self._send_cut(letter).get(timeout=_ANSWER_S)

    def _send(self, letter: DeadLetter) -> kafka.future.Future:
        headers = letter.headers()
        if letter.key is not None:
            headers.append(("key", letter.key))
        try:
            return self._connected().send(
                self._topic, letter.value, letter.origin.encode(), headers
            )
        except MessageSizeTooLargeError:
            return self._send_cut(letter)

    def _send_cut(self, letter: DeadLetter) -> kafka.future.Future:
        headers = [*letter.headers(), ("truncated", b"1")]
        if letter.key is not None:
            headers.append(("key", letter.key[:_TRUNCATED_KEY_BYTES]))
        cut = (letter.value or b"")[:_TRUNCATED_BYTES]
        return self._connected().send(self._topic, cut, letter.origin.encode(), headers)

    def _connected(self) -> kafka.KafkaProducer:
        if self._producer is None:
            self._producer = kafka.KafkaProducer(
                bootstrap_servers=self._servers,
                acks="all",
                # An idempotent one never sends again once a batch has expired; twice is harmless.
                enable_idempotence=False,
                linger_ms=5,
                max_block_ms=5_000,
                bootstrap_timeout_ms=5_000,
                delivery_timeout_ms=10_000,
                request_timeout_ms=5_000,
                allow_auto_create_topics=False,
            )
        return self._producer
