"""Readers that pin pages: the dead are reaped, the stuck are killed.

LMDB cannot reuse a page that an open read transaction may see, so one forgotten reader lets the
state grow without bound. Short readers always begin at the newest commit: whoever stays behind it
for seconds holds one transaction, and the supervisor replaces that process.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from rankstream.server.store import Store

log = logging.getLogger(__name__)

STUCK_S = 5.0


@dataclass(frozen=True, slots=True)
class Held:
    """A transaction behind the newest commit, and since when it was seen."""

    txn: int
    since: float


class ReaderWatch:
    """A chore of the writer.

    Args:
        store: whose readers.
        supervisor: only its children are killed, never a backup tool.
    """

    def __init__(self, store: Store, supervisor: int) -> None:
        self._store = store
        self._supervisor = supervisor
        self._held: dict[tuple[int, str], Held] = {}

    def look(self) -> None:
        """One look: frees dead readers' slots, kills processes whose reader is stuck."""
        self._store.reap_readers()
        now, newest = time.monotonic(), self._store.last_txn()
        behind = {
            (pid, thread): txn
            for pid, thread, txn in self._store.readers()
            if txn < newest and pid != os.getpid() and _parent(pid) == self._supervisor
        }
        self._held = {who: self._known(who, txn, now) for who, txn in behind.items()}
        for (pid, _), held in self._held.items():
            if now - held.since > STUCK_S:
                log.error("process %d holds a read transaction for over %g s", pid, STUCK_S)
                os.kill(pid, signal.SIGKILL)

    def _known(self, who: tuple[int, str], txn: int, now: float) -> Held:
        held = self._held.get(who)
        return held if held is not None and held.txn == txn else Held(txn, now)


def _parent(pid: int) -> int:
    """The process id of a process's parent; -1 where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return -1
    return int(fields.rpartition(")")[2].split()[1])
