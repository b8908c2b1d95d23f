"""The only writer: takes what the lanes prepared, commits it, announces it.

Each commit takes all that waits. Rows are on disk already (the item lane synced them) -> one LMDB
transaction with the effects and the positions after them -> the bell. A commit that the disk
refuses is tried again until it goes through; meanwhile the lanes' queue fills, they stop polling,
and ranking goes on.
"""

from __future__ import annotations

import logging
import os
import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rankstream.server.announce import Announcements
from rankstream.server.store import WRITE_ERRORS, Store, Txn
from rankstream.server.stream.readers import ReaderWatch

log = logging.getLogger(__name__)

_RETRY_S = 0.5
_QUEUED_COMMITS = 4
_READER_CHECK_S = 1.0
_BEAT_S = 0.2
_IDLE_S = 0.2


class Work(Protocol):
    """What a lane hands over: its effects on the state."""

    def apply(self, txn: Txn) -> None:
        """Writes the effects and the positions. May run again after a failed commit."""

    def committed(self) -> None:
        """The state has it."""


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to do between commits, at most every ``period_s``."""

    period_s: float
    run: Callable[[], object]


class Writer:
    """Runs in the ingest process's main thread."""

    def __init__(self, store: Store, page: Announcements, chores: Sequence[Chore] = ()) -> None:
        self._store = store
        self._page = page
        self._queue: queue.Queue[Work | None] = queue.Queue(_QUEUED_COMMITS)
        reap = Chore(_READER_CHECK_S, ReaderWatch(store, os.getppid()).look)
        self._chores = [*chores, reap, Chore(_BEAT_S, page.beat)]
        self._due = [0.0] * len(self._chores)

    def put(self, work: Work) -> None:
        """Hands work over; waits while enough is waiting already."""
        self._queue.put(work)

    def stop(self) -> None:
        """Ends ``run`` after what was handed over before."""
        self._queue.put(None)

    def run(self) -> None:
        """Commits until ``stop``."""
        stopped = False
        while not stopped:
            self._do_chores()
            works = self._waiting()
            stopped = None in works
            ready = [work for work in works if work is not None]
            if ready:
                self._commit(ready)

    def _waiting(self) -> list[Work | None]:
        """All that waits, so that a writer that fell behind catches up in one commit."""
        works: list[Work | None] = []
        try:
            works.append(self._queue.get(timeout=_IDLE_S))
            while True:
                works.append(self._queue.get_nowait())
        except queue.Empty:
            return works

    def _commit(self, works: list[Work]) -> None:
        while True:
            try:
                with self._store.write() as txn:
                    for work in works:
                        work.apply(txn)
                break
            except WRITE_ERRORS as error:
                log.error("the state cannot be written, trying again: %s", error)
                self._page.refused()
                self._page.beat()
                time.sleep(_RETRY_S)
        for work in works:
            work.committed()
        self._page.ring()

    def _do_chores(self) -> None:
        now = time.monotonic()
        for i, chore in enumerate(self._chores):
            if now >= self._due[i]:
                chore.run()
                self._due[i] = time.monotonic() + chore.period_s
