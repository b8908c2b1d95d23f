"""The event lane: poll, decode, hand over. A thread of the ingest process.

Decoding overlaps with the writer's commit, which does not hold the interpreter's lock. A chunk with
bad records waits, its partition paused, until the dead-letter topic has them; others go on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from rankstream.server.announce import PAUSED, RUNNING, Announcements, slot_of
from rankstream.server.errors import RankstreamError, Unavailable
from rankstream.server.stream.apply import EventBatch
from rankstream.server.stream.codec import DecodedEvent, EventCodec
from rankstream.server.stream.consumer import Chunk, LogConsumer
from rankstream.server.stream.dead_letter import DeadLetter, DeadLetters, Ticket
from rankstream.server.types import Position

log = logging.getLogger(__name__)

_POLL_MS = 100
_FEW = 1000
_RETRY_S = 0.5


@dataclass(slots=True)
class _Decoded:
    """A chunk's good records, and what of it is bad."""

    chunk: Chunk
    events: list[DecodedEvent]
    letters: list[DeadLetter]


class EventsLane:
    """Reads the owned partitions of the events topic.

    Args:
        open_consumer: makes a consumer at given positions; called again when one has stalled.
        positions: where to begin, by partition.
        topic_id: the topic's 16 bytes.
        topic: its name, for dead letters.
        codec: reads a record.
        letters: takes bad records.
        make_batch: turns decoded events into the writer's work.
        put: hands work to the writer.
        page: where highwaters and counts are shown.
        max_records: records of one poll.
        pace_s: least time between two polls while few events arrive: each poll and each commit
            costs about a millisecond, however little it brings.
    """

    def __init__(
        self,
        open_consumer: Callable[[Mapping[int, int]], LogConsumer],
        positions: Mapping[int, int],
        *,
        topic_id: bytes,
        topic: str,
        codec: EventCodec,
        letters: DeadLetters,
        make_batch: Callable[[list[DecodedEvent], list[Position]], EventBatch],
        put: Callable[[EventBatch], None],
        page: Announcements,
        max_records: int,
        pace_s: float = 0.0,
    ) -> None:
        self._open = open_consumer
        self._next = dict(positions)
        self._topic_id = topic_id
        self._topic = topic
        self._codec = codec
        self._letters = letters
        self._make_batch = make_batch
        self._put = put
        self._page = page
        self._max_records = max_records
        self._pace_s = pace_s
        self._rest_until = 0.0
        self._held: dict[int, tuple[_Decoded, Ticket]] = {}
        self._stopping = threading.Event()
        self._reopen = threading.Event()

    def positions(self) -> dict[int, int]:
        """Handed to the writer up to here, by partition."""
        return dict(self._next)

    def waiting(self) -> set[int]:
        """Partitions whose dead letters are on their way."""
        return set(list(self._held))

    def reopen(self) -> None:
        """Asks for a new consumer at the positions reached; for a watchdog."""
        self._reopen.set()

    def stop(self) -> None:
        """Ends ``run`` after the poll in flight."""
        self._stopping.set()

    def run(self) -> None:
        """Polls until ``stop``."""
        while not self._stopping.is_set():
            try:
                consumer = self._open(self._next)
            except Unavailable as error:
                log.warning("%s", error)
                self._stopping.wait(_RETRY_S)
                continue
            self._reopen.clear()
            self._drop_held()
            try:
                while not (self._stopping.is_set() or self._reopen.is_set()):
                    self._step(consumer)
            except Unavailable as error:
                log.warning("opening a new consumer: %s", error)
            finally:
                consumer.close()

    def _drop_held(self) -> None:
        """The new consumer reads again, from before the chunks that waited."""
        for _, ticket in self._held.values():
            ticket.drop()
        self._held.clear()

    def _step(self, consumer: LogConsumer) -> None:
        rest_s = self._rest_until - time.monotonic()
        if rest_s > 0:
            self._stopping.wait(rest_s)
        chunks = consumer.poll(5 if self._held else _POLL_MS, self._max_records)
        if 0 < sum(len(chunk.records) for chunk in chunks) < _FEW:
            self._rest_until = time.monotonic() + self._pace_s
        ready = self._release(consumer)
        for chunk in chunks:
            decoded = self._decode(chunk)
            if decoded.letters:
                consumer.pause(chunk.partition)
                self._held[chunk.partition] = (decoded, self._letters.submit(decoded.letters))
            else:
                ready.append(decoded)
        if ready:
            self._hand_over(ready)
        self._show(consumer, bool(chunks))

    def _release(self, consumer: LogConsumer) -> list[_Decoded]:
        """Chunks whose dead letters are safe by now."""
        free = [p for p, (_, ticket) in self._held.items() if ticket.done()]
        released = []
        for partition in free:
            decoded, ticket = self._held.pop(partition)
            self._page.add_dead_letters(len(ticket.letters))
            consumer.resume(partition)
            released.append(decoded)
        return released

    def _decode(self, chunk: Chunk) -> _Decoded:
        decoded = _Decoded(chunk, [], [])
        decode, partition = self._codec.decode, chunk.partition
        for record in chunk.records:
            try:
                event = decode(record.value, record.timestamp, partition, record.offset)
            except (RankstreamError, DecodeError) as error:
                letter = DeadLetter(
                    self._topic, partition, record.offset, record.key, record.value, str(error)
                )
                log.warning("dead letter %s: %s", letter.origin, error)
                decoded.letters.append(letter)
            else:
                decoded.events.append(event)
        return decoded

    def _hand_over(self, ready: list[_Decoded]) -> None:
        events: list[DecodedEvent] = []
        positions: list[Position] = []
        misplaced = 0
        for decoded in ready:
            chunk = decoded.chunk
            events += decoded.events
            misplaced += self._codec.count_misplaced(decoded.events, chunk.partition)
            positions.append(Position("events", self._topic_id, chunk.partition, chunk.next_offset))
        self._page.add_misplaced(misplaced)
        self._put(self._make_batch(events, positions))
        self._next.update({p.partition: p.next_offset for p in positions})

    def _show(self, consumer: LogConsumer, heard: bool) -> None:
        if heard:
            self._page.fetched()
        for partition in self._next:
            state = PAUSED if partition in self._held else RUNNING
            self._page.set_partition(
                slot_of("events", partition), consumer.highwater(partition), state
            )
