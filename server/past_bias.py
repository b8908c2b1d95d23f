"""Popularity as it was: recomputed from its buckets, for requests as of a time.

It reads every counter, so it runs on a thread of its own, one at a time, and remembers the last few
answers. Only buckets that had ended by then count: what is asked as of a time must not know what
came later that day.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from rankstream.server.catalog.popularity import Popularity
from rankstream.server.catalog.view import Catalogue
from rankstream.server.config import Settings
from rankstream.server.errors import Overloaded
from rankstream.server.store import Store

Bias = NDArray[np.float32]

_REMEMBERED = 8
_RETRY_S = 0.5


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
        self._found: OrderedDict[tuple[int, int, int], Bias] = OrderedDict()
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="past-bias")

    async def at(self, as_of_ms: int) -> Bias:
        """The bias of each row at a time: ``float32 [rows]``, read-only.

        Raises:
            Overloaded: too many wait for one already.
        """
        if self._waiting >= self._most_waiting:
            msg = (
                f"{self._most_waiting} requests as of a time wait already: they are for evaluation"
            )
            raise Overloaded(msg, retry_after_s=_RETRY_S)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._find, as_of_ms)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Ends its thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _find(self, as_of_ms: int) -> Bias:
        before = as_of_ms // (self._bucket_s * 1000)
        with self._store.read() as view:
            self._catalogue.sync(view, 0)
            head = self._catalogue.head
            counted = sum(p.next_offset for p in view.positions() if p.lane == "events")
            name = (before, head.catalogue_version, counted)
            if name not in self._found:
                popularity = Popularity(
                    weight=self._scoring.bias_weight,
                    half_life_s=self._scoring.popularity_half_life_s,
                    bucket_s=self._bucket_s,
                )
                popularity.load(view, before)
                live = np.unpackbits(
                    self._catalogue.alive, count=self._catalogue.head.rows, bitorder="little"
                ).view(np.bool_)
                self._found[name] = popularity.bias(self._catalogue.keys, live)
                self._found[name].flags.writeable = False
        self._found.move_to_end(name)
        while len(self._found) > _REMEMBERED:
            self._found.popitem(last=False)
        return self._found[name]
