"""Popularity as it was: recomputed from its buckets, for requests as of a time.

It reads every counter, so it runs on a thread of its own, one at a time, and remembers the last few
answers for a while. Only buckets that had ended by then count: what is asked as of a time must not
know what came later that day.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankstream.server.catalog.popularity import Popularity, read_counters
from rankstream.server.catalog.view import Catalogue
from rankstream.server.config import Settings
from rankstream.server.errors import DeadlineExceeded, Overloaded, Unavailable
from rankstream.server.store import Store

Bias = NDArray[np.float32]

_REMEMBERED = 8
_REMEMBERED_S = 60.0
_RETRY_S = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    bias: Bias
    at: float


class PastBias:
    """Answers what each row's bias was.

    Args:
        store: read for the counters.
        catalogue: a view of the rows that nobody else touches.
        settings: how popularity is made.
    """

    def __init__(self, store: Store, catalogue: Catalogue, settings: Settings) -> None:
        self._store = store
        self._catalogue = catalogue
        self._scoring = settings.scoring
        self._bucket_s = settings.state.bucket_s
        self._most_waiting = settings.limits.max_as_of_waiting
        self._found: OrderedDict[tuple[int, int], _Found] = OrderedDict()
        self._waiting = 0
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="past-bias")

    async def at(self, as_of_ms: int, deadline: float) -> Bias:
        """The bias of each row at a time: ``float32 [rows]``, read-only.

        Args:
            as_of_ms: the time.
            deadline: on ``time.monotonic``'s clock.

        Raises:
            Overloaded: too many wait for one already.
            DeadlineExceeded: it takes longer.
        """
        if self._waiting >= self._most_waiting:
            msg = (
                f"{self._most_waiting} requests as of a time wait already; they are for evaluation"
            )
            raise Overloaded(msg, retry_after_s=_RETRY_S)
        self._waiting += 1
        found = asyncio.get_running_loop().run_in_executor(self._thread, self._find, as_of_ms)
        found.add_done_callback(self._leave)
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await asyncio.shield(found)
        except TimeoutError:
            msg = "the deadline passed while popularity as of that time was computed"
            raise DeadlineExceeded(msg) from None

    def close(self) -> None:
        """Ends its thread."""
        self._closed = True
        self._thread.shutdown(cancel_futures=True)

    def _leave(self, found: asyncio.Future[Bias]) -> None:
        self._waiting -= 1
        if not found.cancelled():
            # Whoever waited may have gone.
            found.exception()

    def _find(self, as_of_ms: int) -> Bias:
        with self._store.read() as view:
            self._catalogue.sync(view, 0)
        name = (as_of_ms // (self._bucket_s * 1000), self._catalogue.head.catalogue_version)
        known = self._found.get(name)
        if known is None or known.at + _REMEMBERED_S < time.monotonic():
            known = self._found[name] = _Found(self._compute(name[0]), time.monotonic())
        self._found.move_to_end(name)
        while len(self._found) > _REMEMBERED:
            self._found.popitem(last=False)
        return known.bias

    def _compute(self, before: int) -> Bias:
        popularity = Popularity(
            weight=self._scoring.bias_weight,
            half_life_s=self._scoring.popularity_half_life_s,
            bucket_s=self._bucket_s,
            floor=self._scoring.bias_floor,
        )
        # Pages, a transaction each: one that is held for long has its worker replaced.
        for page in read_counters(self._store, before):
            if self._closed:
                msg = "the server is stopping"
                raise Unavailable(msg)
            popularity.update(page)
        live = np.unpackbits(
            self._catalogue.alive, count=self._catalogue.head.rows, bitorder="little"
        ).view(np.bool_)
        bias = popularity.bias(self._catalogue.keys, live)
        bias.flags.writeable = False
        return bias
