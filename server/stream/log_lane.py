"""What lanes over the log have in common: one consumer after the other, from positions reached."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from rankstream.server.announce import Announcements, slot_of
from rankstream.server.errors import Unavailable
from rankstream.server.stream.consumer import LogConsumer
from rankstream.server.types import Lane

log = logging.getLogger(__name__)

_RETRY_S = 0.5


class LogLane(ABC):
    """Reads a topic, step by step, until told to stop.

    What the broker cannot give (it is away; a batch does not match its checksum) is asked for
    again, by a new consumer at the positions reached: nothing is skipped.

    Args:
        lane: which one it is.
        open_consumer: makes a consumer at given positions; called again when one fails or stalls.
        positions: where to begin, by partition.
        page: where highwaters are shown.
    """

    def __init__(
        self,
        lane: Lane,
        open_consumer: Callable[[Mapping[int, int]], LogConsumer],
        positions: Mapping[int, int],
        page: Announcements,
    ) -> None:
        self._lane = lane
        self._page = page
        self._open = open_consumer
        self._next = dict(positions)
        self._stopping = threading.Event()
        self._reopen = threading.Event()

    def positions(self) -> dict[int, int]:
        """Handed to the writer up to here, by partition."""
        return dict(self._next)

    def see_ends(self, ends: Mapping[int, int]) -> None:
        """Shows the log's ends by partition, as somebody else found them."""
        for partition, end in ends.items():
            self._page.see_end(slot_of(self._lane, partition), end)

    def reopen(self) -> None:
        """Asks for a new consumer at the positions reached; for a watchdog."""
        self._reopen.set()

    def stop(self) -> None:
        """Ends ``run`` after the step in flight."""
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
            self._opened()
            try:
                while not (self._stopping.is_set() or self._reopen.is_set()):
                    self._step(consumer)
            except Unavailable as error:
                log.warning("opening a new consumer: %s", error)
                self._stopping.wait(_RETRY_S)
            finally:
                consumer.close()

    def _opened(self) -> None:  # noqa: B027 - most have nothing to do here
        """Called with each new consumer, before its first step."""

    @abstractmethod
    def _step(self, consumer: LogConsumer) -> None:
        """Polls once and hands over what came, or keeps it.

        Raises:
            Unavailable: the consumer is of no use any more.
        """
