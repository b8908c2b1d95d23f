"""Streams both ways: what answers come in the order of what was asked, and how much is held.

A stream as a whole has no timeout but its caller's; each of its messages has the default one.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from rankstream.server.boundary import Context
from rankstream.server.errors import RankstreamError

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class Joint(Generic[Out]):
    """How outcomes that are ready at once become one.

    Attributes:
        join: one of several.
        size: of one, in the unit of ``most``.
        most: the size of what is joined at most.
    """

    join: Callable[[list[Out]], Out]
    size: Callable[[Out], int]
    most: int


def ordered(
    requests: AsyncIterator[In],
    handle: Callable[[In], Awaitable[Out]],
    *,
    most: int,
    refuse: Callable[[Exception], Out] | None = None,
    weigh: Callable[[In], int] | None = None,
    joint: Joint[Out] | None = None,
) -> AsyncGenerator[Out, None]:
    """Handles requests side by side; their outcomes come in the order of the requests.

    ``handle`` is begun in that order too. Where it does not wait for anything, it costs no task.

    Args:
        requests: read only while less than ``most`` is held. A ``RankstreamError`` that it raises
            is of one request, and does not end it.
        handle: makes the outcome of one request.
        most: what may be held, in flight or not yet taken, in the unit of ``weigh``.
        refuse: the outcome of a request that ``handle`` failed, or that could not be read. What
            it raises, or without it the first failure, ends the stream behind the outcomes before.
        weigh: how much a request counts, at least 1. Without it each counts 1.
        joint: how outcomes become one that are ready when the next is asked for. Without it each
            comes alone.

    Returns:
        A generator. Whoever does not run it to its end closes it (``contextlib.aclosing``), which
        cancels what runs and waits for it; a service returns it as it is.
    """
    return _Line(requests, handle, most, refuse, weigh, joint).outcomes()


def message_deadline(context: Context, default_s: float) -> float:
    """When a message that came just now must be answered, on ``time.monotonic``'s clock."""
    left = context.time_remaining()
    return time.monotonic() + (default_s if left is None else min(left, default_s))


class _Slot(Generic[Out]):
    """The place of one request in the order."""

    __slots__ = ("done", "error", "outcome", "passed_on", "weight")

    outcome: Out

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.done = False
        self.error: BaseException | None = None
        self.passed_on = False

    def result(self) -> Out:
        if self.error is not None:
            raise self.error
        return self.outcome


class _Line(Generic[In, Out]):
    """One stream: one task reads and handles; where a handler waits, a new one reads on."""

    def __init__(
        self,
        requests: AsyncIterator[In],
        handle: Callable[[In], Awaitable[Out]],
        most: int,
        refuse: Callable[[Exception], Out] | None,
        weigh: Callable[[In], int] | None,
        joint: Joint[Out] | None,
    ) -> None:
        self._requests = requests
        self._handle = handle
        self._most = most
        self._refuse = refuse
        self._weigh = weigh
        self._joint = joint
        self._slots: deque[_Slot[Out]] = deque()
        self._held = 0
        self._reading = False
        self._ended = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed: asyncio.Future[None] | None = None

    async def outcomes(self) -> AsyncGenerator[Out, None]:
        """Yields each outcome, or some as one; holds them until the next is asked for."""
        try:
            while await self._first_is_done():
                ready = self._ready()
                yield self._outcome(ready)
                for _ in ready:
                    self._held -= self._slots.popleft().weight
        finally:
            await self._stop()

    def _ready(self) -> list[_Slot[Out]]:
        """The first slot, which is done, and those behind it whose outcomes go with its own."""
        ready: list[_Slot[Out]] = []
        joint, size = self._joint, 0
        if joint is None:
            return [self._slots[0]]
        for slot in self._slots:
            if not slot.done or slot.error is not None:
                break
            size += joint.size(slot.outcome)
            if ready and size > joint.most:
                break
            ready.append(slot)
        return ready or [self._slots[0]]

    def _outcome(self, ready: list[_Slot[Out]]) -> Out:
        if self._joint is None or len(ready) == 1:
            return ready[0].result()
        return self._joint.join([slot.outcome for slot in ready])

    async def _first_is_done(self) -> bool:
        """Waits for it; False at the end."""
        self._read_on()
        slots = self._slots
        while not (slots and slots[0].done):
            if self._ended and not slots:
                return False
            self._changed = asyncio.get_running_loop().create_future()
            await self._changed
        return True

    def _read_on(self) -> None:
        if not (self._reading or self._ended) and self._held < self._most:
            self._reading = True
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._held < self._most and not self._ended:
            try:
                request = await self._requests.__anext__()
            except StopAsyncIteration:
                self._ended = True
            except BaseException as error:  # noqa: BLE001 - raised where its turn comes
                self._fail(self._new_slot(1), error, fatal=not isinstance(error, RankstreamError))
            else:
                slot = self._new_slot(1 if self._weigh is None else max(1, self._weigh(request)))
                # Runs when this task waits for the first time from here on, whatever for.
                loop.call_soon(self._pass_on, slot)
                await self._settle(slot, request)
                if slot.passed_on:
                    return
        self._reading = False
        self._wake()

    def _new_slot(self, weight: int) -> _Slot[Out]:
        slot: _Slot[Out] = _Slot(weight)
        self._slots.append(slot)
        self._held += weight
        return slot

    def _pass_on(self, slot: _Slot[Out]) -> None:
        """Leaves the reading to another task, where a handler waits."""
        if not slot.done:
            slot.passed_on = True
            self._reading = False
            self._read_on()

    async def _settle(self, slot: _Slot[Out], request: In) -> None:
        try:
            slot.outcome = await self._handle(request)
        except BaseException as error:  # noqa: BLE001 - raised where its turn comes
            self._fail(slot, error, fatal=not isinstance(error, Exception))
        else:
            self._finish(slot)

    def _fail(self, slot: _Slot[Out], error: BaseException, *, fatal: bool) -> None:
        if fatal or self._refuse is None or not isinstance(error, Exception):
            slot.error, self._ended = error, True
        else:
            try:
                slot.outcome = self._refuse(error)
            except Exception as worse:  # noqa: BLE001 - raised where its turn comes
                slot.error, self._ended = worse, True
        self._finish(slot)

    def _finish(self, slot: _Slot[Out]) -> None:
        slot.done = True
        if self._slots[0] is slot:
            self._wake()

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def _stop(self) -> None:
        self._ended = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
