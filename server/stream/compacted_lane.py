"""A lane over a compacted topic: poll, read, hand over. A thread of its own.

Items and users take it, each with a consumer, positions and commits of its own, so that a bulk
import being encoded never delays an event; on Linux the thread (and the encoder threads it starts)
is also niced.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

from rankstream.server.announce import PAUSED, RUNNING, Announcements, slot_of
from rankstream.server.store import Txn
from rankstream.server.stream.checks import BadRecords
from rankstream.server.stream.consumer import Chunk, LogConsumer, Record
from rankstream.server.stream.dead_letter import DeadLetter, DeadLetters
from rankstream.server.stream.log_lane import LogLane
from rankstream.server.types import Lane, Position

log = logging.getLogger(__name__)

_POLL_MS = 250
_MAX_RECORDS = 512
NICENESS = 10
_RETRY_S = 0.5
_LONGEST_RETRY_S = 10.0

R = TypeVar("R")


class Commit(Protocol):
    """The writer's work, which the lane waits for."""

    def apply(self, txn: Txn) -> None:
        """Writes the effects and the position."""

    def committed(self) -> None:
        """The state has it."""

    def wait(self) -> None:
        """Until ``committed``."""


class Folder(Protocol[R]):
    """What a lane does with records."""

    def read(self, chunk: Chunk) -> tuple[R, list[tuple[Record, str]]]:
        """What is good of a chunk, and each record that is not, with the reason."""

    def commit(self, good: R, position: Position) -> Commit:
        """The writer's work.

        Raises:
            OSError: the disk refuses; nothing has changed.
            BadRecords: nothing can be made of some; nothing has changed.
        """


class CompactedLane(LogLane, Generic[R]):
    """Reads all partitions of a compacted topic.

    Args:
        lane: which one it is.
        open_consumer: makes a consumer at given positions; called again when one has stalled.
        positions: where to begin, by partition.
        topic_id: the topic's 16 bytes.
        topic: its name, for dead letters.
        folder: reads records and makes commits of them.
        letters: takes bad records.
        put: hands work to the writer.
        page: where the highwater is shown.
        niceness: of its thread.
    """

    def __init__(
        self,
        lane: Lane,
        open_consumer: Callable[[Mapping[int, int]], LogConsumer],
        positions: Mapping[int, int],
        *,
        topic_id: bytes,
        topic: str,
        folder: Folder[R],
        letters: DeadLetters,
        put: Callable[[Commit], None],
        page: Announcements,
        niceness: int = NICENESS,
    ) -> None:
        super().__init__(lane, open_consumer, positions, page)
        self._topic_id = topic_id
        self._topic = topic
        self._folder = folder
        self._letters = letters
        self._put = put
        self._niceness = niceness
        self._busy: set[int] = set()

    def waiting(self) -> set[int]:
        """Partitions whose records are being encoded or dead-lettered, or wait for their turn."""
        return set(self._busy)

    def run(self) -> None:
        """Polls until ``stop``."""
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._niceness)
        super().run()

    def _step(self, consumer: LogConsumer) -> None:
        chunks = consumer.poll(_POLL_MS, _MAX_RECORDS)
        for partition in self._next:
            self._show(consumer, partition, RUNNING)
        # All of them at once: those that wait for their turn are no stall.
        self._busy = {chunk.partition for chunk in chunks}
        for chunk in chunks:
            self._page.fetched()
            self._take(chunk, consumer)
        self._busy = set()

    def _take(self, chunk: Chunk, consumer: LogConsumer) -> None:
        commit = self._fold(chunk, consumer)
        if commit is not None:
            self._put(commit)
            commit.wait()
            self._next[chunk.partition] = chunk.next_offset

    def _fold(self, chunk: Chunk, consumer: LogConsumer) -> Commit | None:
        """The commit of a chunk, what is bad in it dead-lettered; None when stopped before."""
        position = Position(self._lane, self._topic_id, chunk.partition, chunk.next_offset)
        while True:
            good, refused = self._folder.read(chunk)
            if refused and not self._deliver(chunk.partition, refused, consumer):
                return None
            try:
                return self._commit(good, position)
            except BadRecords as error:
                why = error.problems
            failed = [(r, why[r.offset]) for r in chunk.records if r.offset in why]
            if not self._deliver(chunk.partition, failed, consumer):
                return None
            # As if these were not in the log: an earlier record of such an item counts again.
            gone = {record.offset for record, _ in refused + failed}
            left = [record for record in chunk.records if record.offset not in gone]
            chunk = Chunk(chunk.partition, left, chunk.next_offset)

    def _deliver(
        self, partition: int, refused: list[tuple[Record, str]], consumer: LogConsumer
    ) -> bool:
        """Waits until the dead letters are safe; False when stopped before."""
        letters = [
            DeadLetter(self._topic, partition, record.offset, record.key, record.value, why)
            for record, why in refused
        ]
        for letter in letters:
            log.warning("dead letter %s: %s", letter.origin, letter.error)
        ticket = self._letters.submit(letters)
        while not ticket.done():
            self._show(consumer, partition, PAUSED)
            if self._stopping.wait(0.01):
                return False
        self._page.add_dead_letters(len(letters))
        return True

    def _commit(self, good: R, position: Position) -> Commit | None:
        """The commit, once there is room for it; None when stopped before. Ranking goes on."""
        pause_s = _RETRY_S
        while not self._stopping.is_set():
            try:
                return self._folder.commit(good, position)
            except OSError as error:
                log.error("%s cannot be written, trying again: %s", self._lane, error)
                self._page.refused()
                self._stopping.wait(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_RETRY_S)
        return None

    def _show(self, consumer: LogConsumer, partition: int, state: int) -> None:
        slot = slot_of(self._lane, partition)
        self._page.set_partition(slot, consumer.highwater(partition), state)
