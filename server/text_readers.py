"""Threads that read texts: a few jobs at a time, what somebody waits for first.

All state belongs to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from rankstream.server.encoder.text_queue import LaneName


@dataclass(slots=True, eq=False)
class _Job:
    work: Callable[[], Any]
    wanted: Callable[[], bool]
    done: asyncio.Future[Any]


class TextReaders:
    """So many threads, and the jobs that wait for one.

    Args:
        threads: how many.
    """

    def __init__(self, threads: int) -> None:
        self._free = threads
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="reader")
        self._waiting: dict[LaneName, deque[_Job]] = {"interactive": deque(), "bulk": deque()}

    def submit(
        self,
        loop: asyncio.AbstractEventLoop,
        lane: LaneName,
        work: Callable[[], Any],
        wanted: Callable[[], bool],
    ) -> asyncio.Future[Any]:
        """What ``work`` returns on a thread; cancelled where nobody wants it by its turn."""
        job = _Job(work, wanted, loop.create_future())
        self._waiting[lane].append(job)
        self._start(loop)
        return job.done

    def close(self) -> None:
        """Cancels what waits; waits for what runs."""
        for lane in self._waiting.values():
            while lane:
                lane.popleft().done.cancel()
        self._threads.shutdown(wait=True)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._free and (job := self._next()) is not None:
            self._free -= 1
            running = loop.run_in_executor(self._threads, job.work)
            running.add_done_callback(functools.partial(self._ended, loop, job))

    def _next(self) -> _Job | None:
        for lane in self._waiting.values():
            while lane:
                job = lane.popleft()
                if not job.done.done() and job.wanted():
                    return job
                job.done.cancel()
        return None

    def _ended(
        self, loop: asyncio.AbstractEventLoop, job: _Job, ended: asyncio.Future[Any]
    ) -> None:
        self._free += 1
        self._start(loop)
        if job.done.done():
            return
        error = ended.exception()
        if error is not None:
            job.done.set_exception(error)
        else:
            job.done.set_result(ended.result())
