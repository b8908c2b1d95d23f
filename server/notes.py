"""What the change of generations looks up in the state, and what it writes there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from rankstream.server.announce import Announcements
from rankstream.server.generation import Change
from rankstream.server.generations import put_change
from rankstream.server.inbox import Stopped
from rankstream.server.store import WRITE_ERRORS, Store, Txn, View

log = logging.getLogger(__name__)

_RETRY_S = 0.5

T = TypeVar("T")


class Notes:
    """The state, for a thread beside its writer. What the disk refuses is tried again.

    Args:
        store: the open state.
        page: where it is shown that the disk refuses.
    """

    def __init__(self, store: Store, page: Announcements) -> None:
        self._store = store
        self._page = page
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Nothing is tried again from now on."""
        self._stopping.set()

    def see(self, look: Callable[[View], T]) -> T:
        """What is seen in one read transaction."""
        with self._store.read() as view:
            return look(view)

    def note(self, change: Change) -> Change:
        """Writes how far a change is; the same."""
        self.commit(lambda txn: put_change(txn, change))
        return change

    def commit(self, change: Callable[[Txn], bool | None]) -> bool:
        """One transaction; what ``change`` answers.

        Raises:
            Stopped: ingest ends, and the disk has not taken it.
        """

        def attempt() -> bool:
            with self._store.write() as txn:
                return bool(change(txn))

        return self._until_taken(attempt)

    def sync(self) -> None:
        """Waits until all that is committed is safe from a power loss.

        Raises:
            Stopped: ingest ends, and the disk has not taken it.
        """
        self._until_taken(self._store.checkpoint)

    def _until_taken(self, attempt: Callable[[], T]) -> T:
        while True:
            try:
                return attempt()
            except WRITE_ERRORS as error:
                log.error("the change of generations cannot be noted, trying again: %s", error)
                self._page.refused()
                if self._stopping.wait(_RETRY_S):
                    raise Stopped from None
