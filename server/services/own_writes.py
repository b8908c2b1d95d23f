"""What this worker wrote of an item lately, so that its next patch of it builds on that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rankstream.server.errors import DeadlineExceeded
from rankstream.server.types import Position

# Far more than are written and not yet applied; an entry takes about 300 bytes.
_MOST = 16_384


class OwnWrites:
    """The newest position of each item written here, and turns for those who patch it.

    Args:
        most: items remembered; the one written longest ago is forgotten first.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._positions: dict[str, Position] = {}
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}

    def add(self, item_id: str, position: Position) -> None:
        """Remembers a write that the log has."""
        known = self._positions.pop(item_id, position)
        self._positions[item_id] = (
            max(known, position) if _comparable(known, position) else position
        )
        if len(self._positions) > self._most:
            del self._positions[next(iter(self._positions))]

    def newest(self, item_id: str, topic_id: bytes) -> tuple[Position, ...]:
        """Where the state must be to have it; empty where nothing is known, or of another topic."""
        known = self._positions.get(item_id)
        return (known,) if known is not None and known.topic_id == topic_id else ()

    @asynccontextmanager
    async def turn(self, item_id: str, deadline: float) -> AsyncIterator[None]:
        """Alone with this item among the patches of this worker, in the order of asking.

        Raises:
            DeadlineExceeded: the turn did not come before ``deadline``, on ``time.monotonic``'s
                clock.
        """
        lock, wanted = self._turns.get(item_id, (asyncio.Lock(), 0))
        self._turns[item_id] = lock, wanted + 1
        try:
            await _acquire(lock, deadline)
            try:
                yield
            finally:
                lock.release()
        finally:
            lock, wanted = self._turns.pop(item_id)
            if wanted > 1:
                self._turns[item_id] = lock, wanted - 1


async def _acquire(lock: asyncio.Lock, deadline: float) -> None:
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            await lock.acquire()
    except TimeoutError:
        msg = "the deadline passed while other patches of this item were written"
        raise DeadlineExceeded(msg) from None


def _comparable(one: Position, other: Position) -> bool:
    return (one.topic_id, one.partition) == (other.topic_id, other.partition)
