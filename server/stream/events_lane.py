"""The event lane: poll, decode, hand over. A thread of the ingest process.

Decoding overlaps with the writer's commit, which does not hold the interpreter's lock. A chunk with
bad records waits, its partition paused, until the dead-letter topic has them; others go on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from rankstream.server.announce import PAUSED, RUNNING, Announcements, slot_of
from rankstream.server.stream.apply import EventBatch
from rankstream.server.stream.consumer import LogConsumer
from rankstream.server.stream.dead_letter import DeadLetter, DeadLetters, Ticket
from rankstream.server.stream.event_codec import EventCodec
from rankstream.server.stream.event_columns import Decoded, EventColumns
from rankstream.server.stream.event_json import content_type
from rankstream.server.stream.log_lane import LogLane
from rankstream.server.types import Position

log = logging.getLogger(__name__)

_POLL_MS = 250
_FEW = 1000
_PACED = 12
"""Records of one poll from which the rest is a whole one."""


def rest_after(count: int, pace_s: float) -> float:
    """How long to rest after a poll that brought ``count`` records, in seconds.

    The more a poll brings, the more the next one will: a rest makes it cheaper, and an event that
    comes alone is not kept waiting. A lane that is behind does not rest.
    """
    return pace_s * min(1.0, count / _PACED) if count < _FEW else 0.0


class EventsLane(LogLane):
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
        pace_s: rest after a poll while few events arrive: each poll and each commit costs about a
            millisecond, however little it brings. See ``rest_after``.
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
        make_batch: Callable[[EventColumns, list[Position]], EventBatch],
        put: Callable[[EventBatch], None],
        page: Announcements,
        max_records: int,
        pace_s: float = 0.0,
    ) -> None:
        super().__init__("events", open_consumer, positions, page)
        self._topic_id = topic_id
        self._topic = topic
        self._codec = codec
        self._letters = letters
        self._make_batch = make_batch
        self._put = put
        self._max_records = max_records
        self._pace_s = pace_s
        self._rest_until = 0.0
        self._held: dict[int, tuple[Decoded, Ticket]] = {}

    def waiting(self) -> set[int]:
        """Partitions whose dead letters are on their way."""
        return set(list(self._held))

    def _opened(self) -> None:
        """The new consumer reads again, from before the chunks that waited."""
        for _, ticket in self._held.values():
            ticket.drop()
        self._held.clear()

    def _step(self, consumer: LogConsumer) -> None:
        rest_s = self._rest_until - time.monotonic()
        if rest_s > 0:
            self._stopping.wait(rest_s)
        chunks = consumer.poll(5 if self._held else _POLL_MS, self._max_records)
        count = sum(len(chunk.records) for chunk in chunks)
        self._rest_until = time.monotonic() + rest_after(count, self._pace_s)
        ready = self._release(consumer)
        for decoded in self._codec.decode_chunks(chunks) if chunks else ():
            if decoded.refused:
                self._hold(consumer, decoded)
            else:
                ready.append(decoded)
        if ready:
            self._hand_over(ready)
        self._show(consumer, bool(chunks))

    def _release(self, consumer: LogConsumer) -> list[Decoded]:
        """Chunks whose dead letters are safe by now."""
        free = [p for p, (_, ticket) in self._held.items() if ticket.done()]
        released = []
        for partition in free:
            decoded, ticket = self._held.pop(partition)
            self._page.add_dead_letters(len(ticket.letters))
            consumer.resume(partition)
            released.append(decoded)
        return released

    def _hold(self, consumer: LogConsumer, decoded: Decoded) -> None:
        """Keeps a chunk back until the dead-letter topic has what of it is bad."""
        partition = decoded.chunks[0].partition
        consumer.pause(partition)
        letters = [
            DeadLetter(
                self._topic,
                partition,
                record.offset,
                record.key,
                record.value,
                why,
                content_type(record.headers),
            )
            for record, why in decoded.refused
        ]
        for letter in letters:
            log.warning("dead letter %s: %s", letter.origin, letter.error)
        self._held[partition] = (decoded, self._letters.submit(letters))

    def _hand_over(self, ready: list[Decoded]) -> None:
        misplaced = sum(decoded.misplaced for decoded in ready)
        if misplaced:
            self._page.add_misplaced(misplaced)
        positions = [
            Position("events", self._topic_id, chunk.partition, chunk.next_offset)
            for decoded in ready
            for chunk in decoded.chunks
        ]
        events = EventColumns.joined([decoded.events for decoded in ready])
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
