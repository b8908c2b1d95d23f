"""Threads that read texts: a few jobs at a time, what somebody waits for first.

All state belongs to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from rankstream.server.encoder.text_queue import LaneName

# What one reader takes at a time, at most, unless it is one text: a job of so many characters takes
# tens of milliseconds, and what somebody waits for may come meanwhile.
READ_TEXTS = 64
READ_CHARS = 32 << 10


def parts_of(texts: Sequence[str], max_chars: int) -> Iterator[slice]:
    """Cuts texts into what one reader takes; ``max_chars`` are read of each at most."""
    start = chars = 0
    for i, text in enumerate(texts):
        more = min(len(text), max_chars)
        if i - start == READ_TEXTS or (i > start and chars + more > READ_CHARS):
            yield slice(start, i)
            start, chars = i, 0
        chars += more
    if texts:
        yield slice(start, len(texts))


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
        lanes: tuple[LaneName, LaneName] = ("interactive", "bulk")
        self._waiting = {lane: OrderedDict[asyncio.Future[Any], _Job]() for lane in lanes}

    def submit(
        self,
        loop: asyncio.AbstractEventLoop,
        lane: LaneName,
        work: Callable[[], Any],
        wanted: Callable[[], bool],
    ) -> asyncio.Future[Any]:
        """What ``work`` returns on a thread; cancelled where nobody wants it by its turn."""
        job = _Job(work, wanted, loop.create_future())
        self._waiting[lane][job.done] = job
        self._start(loop)
        return job.done

    def lift(self, done: asyncio.Future[Any]) -> None:
        """Somebody waits now for what ``submit`` has returned, if it still waits in bulk."""
        job = self._waiting["bulk"].pop(done, None)
        if job is not None:
            self._waiting["interactive"][done] = job

    def close(self) -> None:
        """Cancels what waits; waits for what runs."""
        for lane in self._waiting.values():
            while lane:
                lane.popitem(last=False)[0].cancel()
        self._threads.shutdown(wait=True)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._free and (job := self._next()) is not None:
            self._free -= 1
            running = loop.run_in_executor(self._threads, job.work)
            running.add_done_callback(functools.partial(self._ended, loop, job))

    def _next(self) -> _Job | None:
        for lane in self._waiting.values():
            while lane:
                _, job = lane.popitem(last=False)
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
