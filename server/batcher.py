"""Batches form because the engine is busy.

The engine computes one batch at a time on a thread of its own. What arrives meanwhile waits in a
bounded lane; when the engine is free it takes what waits, up to ``max_batch``. Nothing waits while
the engine is idle; a single task that is quicker to compute than to hand over is then computed by
its caller, on the event loop.
Two lanes take turns when both wait: single requests, and the entries of batch requests, so that
neither starves the other.

An entry whose caller has gone or whose deadline has passed is dropped before it costs anything.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from rankstream.server.errors import DeadlineExceeded, Overloaded, RankstreamError, Unavailable

Task = TypeVar("Task")
Answer = TypeVar("Answer")
LaneName = Literal["single", "bulk"]


@dataclass(slots=True, eq=False)
class Entry(Generic[Task, Answer]):
    """One task in a lane, and the future that its caller awaits."""

    task: Task
    deadline: float
    enqueued: float
    answered: asyncio.Future[Answer]


@dataclass(frozen=True, slots=True)
class Batch(Generic[Task]):
    """What the engine gets: tasks, and how long each had waited, in microseconds."""

    tasks: list[Task]
    queue_us: list[int]


@dataclass(slots=True)
class _Lanes(Generic[Task, Answer]):
    waiting: dict[LaneName, deque[Entry[Task, Answer]]] = field(
        default_factory=lambda: {"single": deque(), "bulk": deque()}
    )
    turn: LaneName = "single"

    def take(self, limit: int) -> list[Entry[Task, Answer]]:
        """Up to ``limit`` live entries of the lane whose turn it is, or of the other."""
        other: LaneName = "bulk" if self.turn == "single" else "single"
        for name in (self.turn, other):
            taken = self._live(self.waiting[name], limit)
            if taken:
                self.turn = "bulk" if name == "single" else "single"
                return taken
        return []

    @staticmethod
    def _live(lane: deque[Entry[Task, Answer]], limit: int) -> list[Entry[Task, Answer]]:
        taken: list[Entry[Task, Answer]] = []
        now = time.monotonic()
        while lane and len(taken) < limit:
            entry = lane.popleft()
            if entry.answered.done():
                continue
            if entry.deadline <= now:
                entry.answered.set_exception(DeadlineExceeded("the deadline passed in the queue"))
                continue
            taken.append(entry)
        return taken


class Batcher(Generic[Task, Answer]):
    """Hands batches to ``compute``, which returns one answer or error for each task.

    Args:
        compute: runs on the engine's thread; raises only for what fails the whole batch.
        max_batch: tasks computed together at most.
        max_queued: tasks waiting in one lane at most.
        name: the engine thread's name.
        is_quick: whether a task is computed in well below a millisecond: two switches between
            threads, and between cores, would take as long.
    """

    def __init__(
        self,
        compute: Callable[[Batch[Task]], Sequence[Answer | RankstreamError]],
        *,
        max_batch: int,
        max_queued: int,
        name: str,
        is_quick: Callable[[Task], bool] = lambda _: False,
    ) -> None:
        self._compute = compute
        self._is_quick = is_quick
        self._max_batch = max_batch
        self._max_queued = max_queued
        self._name = name
        self._lanes: _Lanes[Task, Answer] = _Lanes()
        self._engine = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._busy = False
        self._closed = False
        self._entry_s = 0.0001

    async def submit(self, task: Task, deadline: float, *, more_follow: bool = False) -> Answer:
        """Queues one task in the ``single`` lane and waits for its answer.

        Args:
            task: what to compute.
            deadline: on ``time.monotonic``'s clock.
            more_follow: the caller has more at hand, so that even a quick task is better computed
                with them, while the event loop reads on.

        Raises:
            Overloaded: the lane is full.
            DeadlineExceeded: the deadline passed first.
            RankstreamError: what the engine says of this task.
        """
        now = time.monotonic()
        idle = not (self._busy or self._closed or more_follow)
        if idle and now < deadline and self._is_quick(task):
            return _answer_of(self._compute(Batch([task], [0])))
        loop = asyncio.get_running_loop()
        (entry,) = self._enqueue(loop, "single", [task], deadline, now)
        expiry = loop.call_later(max(0.0, deadline - now), _expire, entry.answered)
        try:
            return await entry.answered
        finally:
            expiry.cancel()
            # Also when the caller has gone: what is left in the lane is dropped, not computed.
            entry.answered.cancel()

    async def submit_many(
        self, tasks: Sequence[Task], deadline: float
    ) -> list[Answer | BaseException]:
        """Queues tasks in the ``bulk`` lane; one answer or error each, in order.

        Raises:
            Overloaded: the lane has no room for all of them.
        """
        loop, now = asyncio.get_running_loop(), time.monotonic()
        waiting = [e.answered for e in self._enqueue(loop, "bulk", tasks, deadline, now)]
        try:
            if waiting:
                await asyncio.wait(waiting, timeout=max(0.0, deadline - now))
        finally:
            for future in waiting:
                future.cancel()
        return [_result(future) for future in waiting]

    def close(self) -> None:
        """Refuses new tasks and those that wait; waits for the batch in flight."""
        self._closed = True
        for entry in self._lanes.take(sys.maxsize) + self._lanes.take(sys.maxsize):
            entry.answered.set_exception(_draining())
        self._engine.shutdown(wait=True)

    def _enqueue(
        self,
        loop: asyncio.AbstractEventLoop,
        name: LaneName,
        tasks: Sequence[Task],
        deadline: float,
        now: float,
    ) -> list[Entry[Task, Answer]]:
        lane = self._lanes.waiting[name]
        self._admit(len(lane), len(tasks))
        entries = [Entry[Task, Answer](t, deadline, now, loop.create_future()) for t in tasks]
        lane.extend(entries)
        if not self._busy:
            self._start_batch(loop)
        return entries

    def _admit(self, waiting: int, more: int) -> None:
        if self._closed:
            raise _draining()
        if waiting + more > self._max_queued:
            seconds = self._entry_s * waiting
            msg = f"{waiting} entries wait for the {self._name}, its limit is {self._max_queued}"
            raise Overloaded(msg, retry_after_s=max(0.01, seconds))

    def _start_batch(self, loop: asyncio.AbstractEventLoop) -> None:
        entries = [] if self._closed else self._lanes.take(self._max_batch)
        self._busy = bool(entries)
        if not entries:
            return
        now = time.monotonic()
        waits = [int((now - e.enqueued) * 1e6) for e in entries]
        batch = Batch([e.task for e in entries], waits)
        running = loop.run_in_executor(self._engine, self._compute, batch)
        running.add_done_callback(lambda done: self._computed(loop, entries, now, done))

    def _computed(
        self,
        loop: asyncio.AbstractEventLoop,
        entries: list[Entry[Task, Answer]],
        started: float,
        done: asyncio.Future[Sequence[Answer | RankstreamError]],
    ) -> None:
        self._start_batch(loop)
        self._settle(entries, started, done.exception() or done.result())

    def _settle(
        self,
        entries: list[Entry[Task, Answer]],
        started: float,
        outcome: Sequence[Answer | RankstreamError] | BaseException,
    ) -> None:
        self._entry_s += 0.2 * ((time.monotonic() - started) / len(entries) - self._entry_s)
        answers: Sequence[Answer | BaseException] = (
            [outcome] * len(entries) if isinstance(outcome, BaseException) else outcome
        )
        for entry, answer in zip(entries, answers, strict=True):
            if entry.answered.done():
                continue
            if isinstance(answer, BaseException):
                entry.answered.set_exception(answer)
            else:
                entry.answered.set_result(answer)


def _answer_of(answers: Sequence[Answer | RankstreamError]) -> Answer:
    (answer,) = answers
    if isinstance(answer, RankstreamError):
        raise answer
    return answer


def _expire(answered: asyncio.Future[Any]) -> None:
    if not answered.done():
        answered.set_exception(DeadlineExceeded("the deadline passed before there was an answer"))


def _draining() -> Unavailable:
    return Unavailable("this worker is draining; another connection reaches another worker")


def _result(future: asyncio.Future[Any]) -> Any:
    if future.cancelled():
        return DeadlineExceeded("the deadline passed before there was an answer")
    return future.exception() or future.result()
