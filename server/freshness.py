"""The freshness contract in a worker: who waits for which offsets, woken by ingest's bell."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rankstream.server.errors import NotOwned, Overloaded, StaleState, Unavailable
from rankstream.server.store import Store
from rankstream.server.stream.token import is_reached
from rankstream.server.types import Lane, Position, ReadAfter

Applied = dict[tuple[Lane, bytes, int], int]


@dataclass(slots=True, eq=False)
class _Waiter:
    wanted: Sequence[Position]
    reached: asyncio.Future[None]


class Freshness:
    """Knows the applied positions as of the last bell, and lets requests wait for more.

    Args:
        store: read for the positions.
        bell: the read end of this worker's pipe.
        default_wait_s: the wait of a request that gives none.
        max_waiters: requests waiting at once.
    """

    def __init__(
        self, store: Store, bell: int, default_wait_s: float, max_waiters: int = 4096
    ) -> None:
        self._store = store
        self._bell = bell
        self._default_wait_s = default_wait_s
        self._max_waiters = max_waiters
        self._waiters: set[_Waiter] = set()
        self._applied: Applied = {}

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins to hear the bell."""
        loop.add_reader(self._bell, self._heard)

    def topic_id(self, lane: Lane) -> bytes:
        """The id of the topic that ``lane`` folds.

        Raises:
            Unavailable: ingest has not seen the topic yet.
        """
        self._refresh()
        for name, topic_id, _ in self._applied:
            if name == lane:
                return topic_id
        msg = (
            f"the {lane} topic is not known yet: the broker has not answered since the first start"
        )
        raise Unavailable(msg)

    async def wait(self, after: ReadAfter, deadline: float) -> bool:
        """Waits until the state has what a request asks for.

        Args:
            after: the request's contract.
            deadline: the call's own, on ``time.monotonic``'s clock.

        Returns:
            True where the wait ended first and the request allows a stale answer.

        Raises:
            StaleState: it ended first and the request does not.
            NotOwned: the token names what this replica does not fold.
            Overloaded: too many requests wait already.
        """
        if not after.wanted:
            return False
        wait_s = self._default_wait_s if after.max_wait_s is None else after.max_wait_s
        if await self._reached(after.wanted, min(time.monotonic() + wait_s, deadline)):
            return False
        if after.allow_stale:
            return True
        msg = (
            f"read_after.min_token was not reached within {wait_s * 1000:.0f} ms: wait longer "
            "(max_wait_ms), or accept what there is (allow_stale)"
        )
        raise StaleState(msg)

    async def _reached(self, wanted: Sequence[Position], until: float) -> bool:
        self._refresh()
        if is_reached(wanted, self._applied):
            return True
        if len(self._waiters) >= self._max_waiters:
            msg = f"{self._max_waiters} requests wait for fresher state already"
            raise Overloaded(msg, retry_after_s=0.1)
        waiter = _Waiter(wanted, asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                await waiter.reached
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return True

    def _heard(self) -> None:
        try:
            os.read(self._bell, 65_536)
        except BlockingIOError:
            return
        if not self._waiters:
            return
        self._refresh()
        for waiter in list(self._waiters):
            if not waiter.reached.done():
                self._tell(waiter)

    def _tell(self, waiter: _Waiter) -> None:
        try:
            if is_reached(waiter.wanted, self._applied):
                waiter.reached.set_result(None)
        except NotOwned as error:
            # The topic became another one meanwhile; the others still want to be told.
            waiter.reached.set_exception(error)

    def _refresh(self) -> None:
        with self._store.read() as view:
            found = view.positions()
        self._applied = {(p.lane, p.topic_id, p.partition): p.next_offset for p in found}
