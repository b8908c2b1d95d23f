"""What ingest tells the workers without a commit: a page of counters in shared memory.

One writer, any number of readers; every word is an aligned int64, so it is read whole. A commit is
announced by raising ``sequence`` and writing a byte into each worker's pipe: nobody polls.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rankstream.server.generation import Slot

_WORDS = 4096
MAX_PARTITIONS = 1000
_SEQUENCE, _BIAS, _OTHER_BIAS, _FETCH_MS, _BEAT_MS, _DEAD, _MISPLACED = range(7)
_REFUSED_MS, _FOUND = 7, 8
_BIAS_OF: dict[Slot, int] = {"a": _BIAS, "b": _OTHER_BIAS}
_PARTITIONS = 64

RUNNING, PAUSED, STOPPED = 0, 1, 2
STATES = ("running", "paused", "stopped")


class Announcements:
    """The page. The writer makes it; ``bells`` are the write ends of the workers' pipes.

    A reader sees what is told of one slot's generation.
    """

    def __init__(
        self, path: Path, *, write: bool = False, bells: tuple[int, ...] = (), slot: Slot = "a"
    ) -> None:
        self._slot: Slot = slot
        if write:
            self._create(path)
        access = mmap.ACCESS_WRITE if write else mmap.ACCESS_READ
        with path.open("r+b" if write else "rb") as file:
            self._map = mmap.mmap(file.fileno(), _WORDS * 8, access=access)
        self._words: NDArray[np.int64] = np.frombuffer(self._map, np.int64)
        if write:
            # What an ingest of before has heard and counted; its clock may be of another boot.
            self._words[_FETCH_MS:] = 0
        self._bells = bells
        # The ends of logs are seen by the lanes and by the guard.
        self._ends = threading.Lock()

    @property
    def sequence(self) -> int:
        """Raised with every commit."""
        return int(self._words[_SEQUENCE])

    @property
    def bias_sequence(self) -> int:
        """Which bias file of the generation is the newest; 0: none yet."""
        return int(self._words[_BIAS_OF[self._slot]])

    @property
    def dead_letters(self) -> int:
        """Records that went to the dead-letter topic since ingest began."""
        return int(self._words[_DEAD])

    @property
    def misplaced(self) -> int:
        """Records seen on a partition that is not their key's."""
        return int(self._words[_MISPLACED])

    @property
    def fetch_age_ms(self) -> int:
        """Milliseconds since the broker last answered; -1: never."""
        last = int(self._words[_FETCH_MS])
        return max(0, _now_ms() - last) if last else -1

    @property
    def beat_age_ms(self) -> int:
        """Milliseconds since ingest was last seen working; -1: never."""
        last = int(self._words[_BEAT_MS])
        return max(0, _now_ms() - last) if last else -1

    @property
    def refusal_age_ms(self) -> int:
        """Milliseconds since the disk last refused what ingest wrote; -1: never."""
        last = int(self._words[_REFUSED_MS])
        return max(0, _now_ms() - last) if last else -1

    @property
    def found_log(self) -> bool:
        """Whether this ingest has found the log, and listens to what it is asked."""
        return bool(self._words[_FOUND])

    def highwater(self, slot: int) -> int:
        """The log's end in one partition as last fetched; -1: not heard."""
        return int(self._words[_PARTITIONS + 2 * slot]) - 1

    def state(self, slot: int) -> str:
        """``running``, ``paused`` or ``stopped``."""
        return STATES[int(self._words[_PARTITIONS + 2 * slot + 1])]

    def ring(self) -> None:
        """Announces a commit."""
        self._words[_SEQUENCE] += 1
        for bell in self._bells:
            try:
                os.write(bell, b"\0")
            except BlockingIOError:
                # The pipe is full of rings that this worker has yet to hear.
                continue

    def beat(self) -> None:
        """Ingest is alive."""
        self._words[_BEAT_MS] = _now_ms()

    def listens(self) -> None:
        """Ingest has found the log, and listens to what it is asked."""
        self._words[_FOUND] = 1

    def refused(self) -> None:
        """The disk refuses what ingest writes, which is tried again."""
        self._words[_REFUSED_MS] = _now_ms()

    def fetched(self) -> None:
        """The broker answered."""
        self._words[_FETCH_MS] = _now_ms()

    def set_bias(self, sequence: int, slot: Slot = "a") -> None:
        """A new bias file of a slot's generation is in place."""
        self._words[_BIAS_OF[slot]] = sequence

    def set_partition(self, slot: int, highwater: int, state: int) -> None:
        """What is known of one partition's log; -1: not heard (by this consumer)."""
        self.see_end(slot, highwater)
        self._words[_PARTITIONS + 2 * slot + 1] = state

    def see_end(self, slot: int, highwater: int) -> None:
        """One partition's log ends here, or further on: who looked earlier may say so later."""
        at = _PARTITIONS + 2 * slot
        with self._ends:
            self._words[at] = max(int(self._words[at]), highwater + 1)

    def add_dead_letters(self, count: int) -> None:
        """Counts records that were dead-lettered."""
        self._words[_DEAD] += count

    def add_misplaced(self, count: int) -> None:
        """Counts records found on a wrong partition."""
        self._words[_MISPLACED] += count

    @staticmethod
    def _create(path: Path) -> None:
        # In place, not replaced: workers of before keep reading the same page.
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(fd, _WORDS * 8)
        os.close(fd)


def slot_of(lane: str, partition: int) -> int:
    """The page's slot of a partition; the items topic has slot 0."""
    if lane == "items":
        return 0
    return 1 + partition + (MAX_PARTITIONS if lane == "users" else 0)


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
