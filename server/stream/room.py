"""Bytes that may wait for the broker: who cannot wait is refused, who can waits its turn."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TypeAlias

from rankstream.server.errors import Overloaded

# So much of the room is for those who can wait: an import must not crowd out what is live.
_PATIENT_SHARE = 0.25

_Turn: TypeAlias = "tuple[int, asyncio.Future[None]]"


class Room:
    """Counts what is taken. For one event loop.

    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._waiting: deque[_Turn] = deque()

    def take(self, size: int) -> None:
        """Takes room at once.

        Raises:
            Overloaded: there is none.
        """
        if self._taken + size > self._most:
            raise self._full()
        self._taken += size

    async def wait(self, size: int, timeout_s: float) -> None:
        """Takes room when there is some, in the order of the calls.

        Raises:
            Overloaded: there was none for ``timeout_s``.
        """
        if not self._waiting and self._suits(size):
            self._taken += size
            return
        turn: _Turn = size, asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(timeout_s):
                await turn[1]
        except TimeoutError:
            self._forgo(turn)
            raise self._full() from None
        except asyncio.CancelledError:
            self._forgo(turn)
            raise
        finally:
            # Only now, so that nobody who came later has passed.
            self._waiting.remove(turn)
            self._admit()

    def give_back(self, size: int) -> None:
        """Whoever took it needs it no more."""
        self._taken -= size
        self._admit()

    def _suits(self, size: int) -> bool:
        # What is larger than the share would wait for ever, were it not let in alone.
        return self._taken == 0 or self._taken + size <= _PATIENT_SHARE * self._most

    def _admit(self) -> None:
        """Lets the first in, where there is room and it has not been let in already."""
        if self._waiting:
            size, admitted = self._waiting[0]
            if not admitted.done() and self._suits(size):
                self._taken += size
                admitted.set_result(None)

    def _forgo(self, turn: _Turn) -> None:
        size, admitted = turn
        if not admitted.cancelled():
            # Let in, and gone before it knew.
            self._taken -= size

    def _full(self) -> Overloaded:
        return Overloaded(f"{self._most} bytes wait for the broker already", retry_after_s=0.5)
