"""A Kafka-compatible broker from a Python wheel over a folder: no JVM, no container.

The wheel is ``noida-db``. It keeps its log in memory and rewrites it whole to ``kafka.json`` about
every 1.5 s while records arrive, and once more on SIGTERM. So a stop loses nothing, and a kill
loses what was acknowledged in the last seconds; ``incarnations`` says how positions survive that.
It assigns no topic ids: ``Incarnation.topic_id`` stands in for them.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from rankstream.server.stream.broker_process import (
    BrokerProcess,
    EmbeddedBrokerError,
    broker_binary,
    free_port,
)
from rankstream.server.stream.incarnations import (
    STATE_FILE,
    BrokerState,
    Incarnation,
    load_state,
    save_state,
)

SAVED_LOG = "kafka.json"
LOCK_FILE = "broker.lock"
ORPHAN_SAVE_S = 30.0

_log = logging.getLogger(__name__)


class EmbeddedBroker:
    """One broker over one folder. Use from one thread at a time.

    Args:
        folder: holds the log, the lock and the broker's output; created where missing.
        ready_timeout_s: how long a start may take, loading the log included, s.
        stop_timeout_s: how long SIGTERM leaves to save the log before SIGKILL, s.
    """

    def __init__(
        self, folder: Path, *, ready_timeout_s: float = 60.0, stop_timeout_s: float = 30.0
    ) -> None:
        self.folder = folder
        self._ready_timeout_s = ready_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._lock: IO[str] | None = None
        self._process: BrokerProcess | None = None
        self._incarnations: tuple[Incarnation, ...] = ()

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    def start(self) -> str:
        """Start the broker, wait until it answers, return its bootstrap address.

        Start again after it has died: a new incarnation then says what its log had kept.

        Raises:
            EmbeddedBrokerError: the wheel is missing, another server has the folder, the folder is
                damaged, or the broker does not answer in time.
        """
        if self.alive():
            return self.bootstrap
        binary = broker_binary()
        if self._lock is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.folder)
        try:
            state = self._recover(binary)
            state = replace(state, port=free_port(state.port), clean=False)
            save_state(self.folder, state)
            self._process = self._launch(binary, state.port)
            self._process.wait_ready(self._ready_timeout_s)
        except BaseException:
            self._release()
            raise
        self._incarnations = state.incarnations
        return self.bootstrap

    def wait_ready(self, timeout_s: float) -> None:
        """Return once the broker answers a request for metadata and offsets.

        Raises:
            EmbeddedBrokerError: it ended, or did not answer within ``timeout_s``.
        """
        self._running().wait_ready(timeout_s)

    def alive(self) -> bool:
        """Whether the child process runs."""
        return self._process is not None and self._process.alive()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._running().pid

    @property
    def bootstrap(self) -> str:
        """The address clients connect to; the port is the same after a restart where it is free."""
        return self._running().bootstrap

    @property
    def incarnations(self) -> tuple[Incarnation, ...]:
        """Lives of this log, oldest first; the last is the current one."""
        self._running()
        return self._incarnations

    def stop(self) -> None:
        """End the broker so that it saves its log, and let go of the folder. May be repeated."""
        self._release()

    def kill(self) -> None:
        """End the broker with SIGKILL, as a crash would: what it has not saved is lost."""
        process = self._running()
        os.kill(process.pid, signal.SIGKILL)
        process.join()

    def _recover(self, binary: Path) -> BrokerState:
        """What the folder remembers; a new incarnation where the log may have lost its end.

        The ends are read on a port that no client knows, before any record can take a lost one's
        offset.
        """
        state = _state(self.folder)
        saved = (self.folder / SAVED_LOG).exists()
        if state is not None and state.clean and saved:
            return state
        state = state or BrokerState(port=0, clean=False, incarnations=())
        if not saved:
            return state.begin({})
        process = self._launch(binary, free_port())
        try:
            ends = process.wait_ready(self._ready_timeout_s)
        finally:
            process.end(self._stop_timeout_s)
        _log.warning("the embedded broker was not stopped cleanly; its log now ends at %s", ends)
        return state.begin(ends)

    def _launch(self, binary: Path, port: int) -> BrokerProcess:
        assert self._lock is not None, "start() takes the lock first"
        return BrokerProcess(binary, self.folder, port, self._lock.fileno())

    def _release(self) -> None:
        process, self._process = self._process, None
        lock, self._lock = self._lock, None
        if process is not None and process.end(self._stop_timeout_s):
            state = _state(self.folder)
            if state is not None and (self.folder / SAVED_LOG).exists():
                save_state(self.folder, replace(state, clean=True))
        if lock is not None:
            lock.close()

    def _running(self) -> BrokerProcess:
        if self._process is None:
            msg = f"the embedded broker over {self.folder} is not running; call start()"
            raise EmbeddedBrokerError(msg)
        return self._process


def _state(folder: Path) -> BrokerState | None:
    try:
        return load_state(folder)
    except ValueError as error:
        msg = (
            f"{folder / STATE_FILE} cannot be read ({error}); restore it, or move {folder} away to "
            "begin with an empty log"
        )
        raise EmbeddedBrokerError(msg) from error


def _locked(folder: Path) -> IO[str]:
    """Take the folder's lock; wait for an orphaned broker that is still saving, for nobody else."""
    lock = (folder / LOCK_FILE).open("a+")
    deadline = time.monotonic() + ORPHAN_SAVE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip()
            if _lives(holder) or time.monotonic() > deadline:
                lock.close()
                msg = (
                    f"{folder} is in use by the server with process id {holder or 'unknown'}; stop "
                    "it, or give this one another --data-dir"
                )
                raise EmbeddedBrokerError(msg) from None
            time.sleep(0.02)
        else:
            lock.seek(0)
            lock.truncate()
            lock.write(str(os.getpid()))
            lock.flush()
            return lock


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
