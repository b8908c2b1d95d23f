"""The texts lane: encodes what commits have remembered, off the way of the events."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rankstream.server.profiles.texts import TextCommit, texts_to_encode
from rankstream.server.store import Store

log = logging.getLogger(__name__)

_TEXTS_AT_ONCE = 64
# Behind the events, before a bulk of items: somebody has just searched for it.
NICENESS = 5


class TextsLane:
    """Encodes texts in the order they came. One thread.

    Args:
        store: read for what is to be encoded; its slot gets the vectors.
        encode: texts to vectors ``float32 [B, D]``; may be called beside another thread's call.
        put: hands work to the writer.
        niceness: of its thread.
    """

    def __init__(
        self,
        store: Store,
        encode: Callable[[list[str]], NDArray[np.float32]],
        put: Callable[[TextCommit], None],
        niceness: int = NICENESS,
    ) -> None:
        self._store = store
        self._encode = encode
        self._put = put
        self._niceness = niceness
        self._awake = threading.Event()
        self._stopped = False

    def wake(self) -> None:
        """There may be new texts: a commit has remembered some."""
        self._awake.set()

    def stop(self) -> None:
        """Ends ``run`` after the batch in flight."""
        self._stopped = True
        self._awake.set()

    def run(self) -> None:
        """Encodes until ``stop``."""
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._niceness)
        # Those that were remembered before the last stop, first.
        self._awake.set()
        while not self._stopped:
            self._awake.wait()
            self._awake.clear()
            while not self._stopped and self._step():
                continue

    def _step(self) -> bool:
        """Encodes some; False where there was nothing to do."""
        with self._store.read() as view:
            texts, upto, before = texts_to_encode(view, _TEXTS_AT_ONCE)
        if upto == before:
            return False
        commit = TextCommit(self._vectors(texts), upto, self._store.slot)
        self._put(commit)
        commit.wait()
        return True

    def _vectors(self, texts: dict[bytes, str]) -> dict[bytes, NDArray[np.float32]]:
        if not texts:
            return {}
        try:
            return dict(zip(texts, self._encode(list(texts.values())), strict=True))
        except Exception as error:  # noqa: BLE001 - somebody's text must not end ingest
            if len(texts) == 1:
                log.error("a text cannot be encoded and counts as zero: %s", error)
                return {}
        # One by one: the others do not suffer for the one that fails.
        return {n: v for name, t in texts.items() for n, v in self._vectors({name: t}).items()}
