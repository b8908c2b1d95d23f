"""The item lane: poll, decode, encode new texts, put rows on disk, hand over. A thread of its own.

It has a consumer, positions and commits of its own, so that a bulk import being encoded never
delays an event; on Linux the thread (and the encoder threads it starts) is also niced.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from rankstream.server.announce import PAUSED, RUNNING, Announcements, slot_of
from rankstream.server.catalog.blocks import Layout
from rankstream.server.config import Limits
from rankstream.server.encoder.text import ItemTemplate
from rankstream.server.errors import RankstreamError, Unavailable
from rankstream.server.stream.codec import BadRecord
from rankstream.server.stream.consumer import Chunk, LogConsumer
from rankstream.server.stream.dead_letter import DeadLetter, DeadLetters
from rankstream.server.stream.indexer import ItemCommit, ItemIndexer, ItemRecordIn
from rankstream.server.stream.item_codec import DecodedItem, decode_item
from rankstream.server.types import Position, item_key

log = logging.getLogger(__name__)

_POLL_MS = 250
_MAX_RECORDS = 512
_NICENESS = 10
_RETRY_S = 0.5


@dataclass(frozen=True, slots=True)
class ItemFormat:
    """How a record of the items topic reads."""

    limits: Limits
    layout: Layout
    template: ItemTemplate


class ItemsLane:
    """Reads the whole items topic (one partition).

    Args:
        open_consumer: makes a consumer at given positions.
        position: where to begin.
        topic_id: the topic's 16 bytes.
        topic: its name, for dead letters.
        form: how a record reads.
        indexer: makes rows of items.
        letters: takes bad records.
        put: hands work to the writer.
        page: where the highwater is shown.
    """

    def __init__(
        self,
        open_consumer: Callable[[Mapping[int, int]], LogConsumer],
        position: int,
        *,
        topic_id: bytes,
        topic: str,
        form: ItemFormat,
        indexer: ItemIndexer,
        letters: DeadLetters,
        put: Callable[[ItemCommit], None],
        page: Announcements,
    ) -> None:
        self._open = open_consumer
        self._next = position
        self._topic_id = topic_id
        self._topic = topic
        self._form = form
        self._indexer = indexer
        self._letters = letters
        self._put = put
        self._page = page
        self._busy = False
        self._stopping = threading.Event()
        self._reopen = threading.Event()

    def positions(self) -> dict[int, int]:
        """Handed to the writer up to here, by partition."""
        return {0: self._next}

    def waiting(self) -> set[int]:
        """The partition, while its records are being encoded or dead-lettered."""
        return {0} if self._busy else set()

    def reopen(self) -> None:
        """Asks for a new consumer at the position reached; for a watchdog."""
        self._reopen.set()

    def stop(self) -> None:
        """Ends ``run`` after the batch in flight."""
        self._stopping.set()

    def run(self) -> None:
        """Polls until ``stop``."""
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while not self._stopping.is_set():
            try:
                consumer = self._open({0: self._next})
            except Unavailable as error:
                log.warning("%s", error)
                self._stopping.wait(_RETRY_S)
                continue
            self._reopen.clear()
            try:
                while not (self._stopping.is_set() or self._reopen.is_set()):
                    self._step(consumer)
            except Unavailable as error:
                log.warning("opening a new consumer: %s", error)
            finally:
                consumer.close()

    def _step(self, consumer: LogConsumer) -> None:
        chunks = consumer.poll(_POLL_MS, _MAX_RECORDS)
        self._page.set_partition(slot_of("items", 0), consumer.highwater(0), RUNNING)
        for chunk in chunks:
            self._page.fetched()
            self._busy = True
            self._take(chunk, consumer)
            self._busy = False

    def _take(self, chunk: Chunk, consumer: LogConsumer) -> None:
        records, letters = self._decode(chunk)
        if letters and not self._deliver(letters, consumer):
            return
        position = Position("items", self._topic_id, 0, chunk.next_offset)
        commit = self._commit(records, position)
        if commit is not None:
            self._put(commit)
            commit.wait()
            self._next = chunk.next_offset

    def _decode(self, chunk: Chunk) -> tuple[list[ItemRecordIn], list[DeadLetter]]:
        good: dict[int, ItemRecordIn] = {}
        letters = []
        for record in chunk.records:
            try:
                item = self._read(record.key, record.value)
                key = item.key if item is not None else item_key((record.key or b"").decode())
                known = good.get(key)
                self._indexer.check_collision(key, item, known)
            except (RankstreamError, DecodeError, UnicodeDecodeError) as error:
                letter = DeadLetter(
                    self._topic, 0, record.offset, record.key, record.value, str(error)
                )
                log.warning("dead letter %s: %s", letter.origin, error)
                letters.append(letter)
                continue
            # Within a batch the last record of an item wins; the ones before never get a row.
            good.pop(key, None)
            good[key] = ItemRecordIn(key, item, record.value or b"", record.timestamp)
        return list(good.values()), letters

    def _read(self, key: bytes | None, value: bytes | None) -> DecodedItem | None:
        if value is not None:
            form = self._form
            return decode_item(key, value, form.limits, form.layout.vectors, form.template)
        if not key:
            msg = "key: null with a null value, expected the item_id to delete"
            raise BadRecord(msg)
        return None

    def _deliver(self, letters: list[DeadLetter], consumer: LogConsumer) -> bool:
        """Waits until the dead letters are safe; False when stopped before."""
        ticket = self._letters.submit(letters)
        while not ticket.done():
            self._page.set_partition(slot_of("items", 0), consumer.highwater(0), PAUSED)
            if self._stopping.wait(0.01):
                return False
        self._page.add_dead_letters(len(letters))
        return True

    def _commit(self, records: list[ItemRecordIn], position: Position) -> ItemCommit | None:
        while not self._stopping.is_set():
            try:
                return self._indexer.index(records, position)
            except OSError as error:
                log.error("rows cannot be written, trying again: %s", error)
                time.sleep(_RETRY_S)
        return None
