"""The bias on disk: one array of all rows, replaced whole."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rankstream.server.announce import Announcements
from rankstream.server.catalog.popularity import Popularity
from rankstream.server.catalog.segments import Segments
from rankstream.server.catalog.view import bias_path
from rankstream.server.clock import now_ms
from rankstream.server.store import Store

log = logging.getLogger(__name__)


class BiasFile:
    """Writes the bias of a generation's rows, whole, when popularity, rows or what lives changed.

    Args:
        store: whose slot holds the generation.
        segments: its rows.
        popularity: of all items.
        page: where a new file is announced.
        folder: of all generations.

    Attributes:
        refused: whether the disk has not taken what is new; the file of before serves on.
    """

    def __init__(
        self,
        store: Store,
        segments: Segments,
        popularity: Popularity,
        page: Announcements,
        folder: Path,
    ) -> None:
        self.refused = False
        self._store = store
        self._segments = segments
        self._popularity = popularity
        self._page = page
        self._folder = folder
        self._live = np.ones(segments.capacity, np.bool_)
        # Of each row; -1 where its item had never been counted when there were ``_counted``.
        self._slots = np.empty(0, np.int32)
        self._counted = 0
        self._version = self._deaths = 0
        self._seen: tuple[int, int, int] = (-1, -1, -1)
        # Never a number that a worker of before may still know.
        self._sequence = now_ms()

    def refresh(self) -> None:
        """Puts a new file in place and announces it, if there is anything new.

        What the disk refuses is shown on the page, and written by the next call.
        """
        with self._store.read() as view:
            head, dead = view.head(), view.tombstones_after(self._version)
        self._live[dead] = False
        self._version, self._deaths = head.catalogue_version, self._deaths + len(dead)
        rows = head.rows
        now = (self._popularity.revision, rows, self._deaths)
        if now == self._seen:
            return
        self._sequence += 1
        path = bias_path(self._folder, head.generation, self._sequence)
        bias = self._popularity.bias_of(self._slots_of(rows), self._live[:rows])
        try:
            # Not ``tofile``, which does not see that the disk has refused the end of a file.
            path.write_bytes(bias.data)
        except OSError as error:
            log.error("the bias cannot be written, trying again: %s", error)
            self._page.refused()
            self.refused = True
            _remove(path)
            return
        self._page.set_bias(self._sequence, self._store.slot)
        self._seen, self.refused = now, False
        for old in path.parent.glob("bias-*.f32"):
            if old != path:
                _remove(old)

    def _slots_of(self, rows: int) -> NDArray[np.int32]:
        """The slot of each row; only what can have changed is looked up."""
        counted, keys = self._popularity.counted, self._segments.keys
        if counted != self._counted:
            unknown = np.flatnonzero(self._slots < 0)
            self._slots[unknown] = self._popularity.slots(keys[unknown])
            self._counted = counted
        if rows > len(self._slots):
            fresh = self._popularity.slots(keys[len(self._slots) : rows])
            self._slots = np.concatenate([self._slots, fresh])
        return self._slots


def _remove(path: Path) -> None:
    """What the disk does not let go now goes when the next file is in place."""
    with contextlib.suppress(OSError):
        path.unlink()
