"""Starts the processes, starts again what dies, stops them in order.

Ingest and the workers start at once (their imports overlap); a worker opens the state when ingest
says that it is there. A child that exits with ``REFUSED`` would be refused again, so everything
stops and says why.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

from rankstream.server.child import REFUSED, Inherited
from rankstream.server.config import Settings, to_json
from rankstream.server.errors import RankstreamError, StateRefused
from rankstream.server.paths import Paths
from rankstream.server.stream.embedded_broker import EmbeddedBroker

log = logging.getLogger(__name__)

_FIRST_BACKOFF_S = 0.1
_STEADY_S = 30.0
_TICK_S = 0.1
_INGEST_STOP_S = 15.0


@dataclass(slots=True)
class Child:
    """One process and what it has said."""

    name: str
    module: str
    bells: tuple[int, ...] = ()
    bell: int = -1
    process: subprocess.Popen[bytes] | None = None
    control: socket.socket | None = None
    heard: bytes = b""
    reached: set[str] = field(default_factory=set)
    started: float = 0.0
    backoff_s: float = _FIRST_BACKOFF_S
    start_at: float = 0.0


class Supervisor:
    """Runs the server until told to stop.

    Args:
        settings: of everything.
        on_serving: called each time all workers have become ready.
    """

    def __init__(self, settings: Settings, on_serving: Callable[[Settings], None]) -> None:
        self._settings = settings
        self._on_serving = on_serving
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._refusal: str | None = None
        self._broker: EmbeddedBroker | None = None
        pipes = [os.pipe() for _ in range(settings.listen.workers)]
        for read, write in pipes:
            os.set_blocking(read, False)
            os.set_blocking(write, False)
        self._ingest = Child("ingest", "rankstream.server.ingest", bells=tuple(w for _, w in pipes))
        self._workers = [
            Child(f"worker-{i}", "rankstream.server.worker", bell=read)
            for i, (read, _) in enumerate(pipes)
        ]

    def run(self) -> None:
        """Serves until SIGTERM or SIGINT.

        Raises:
            StateRefused: a child refused to start.
            RankstreamError: a port is taken, or the embedded broker does not start.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        require_free(self._settings)
        try:
            self._start_broker()
            for child in self._children():
                self._start(child)
            while not self._stopping:
                self._tick()
        finally:
            self._stop_all()
        if self._refusal is not None:
            raise StateRefused(self._refusal)

    def _children(self) -> list[Child]:
        return [self._ingest, *self._workers]

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _start_broker(self) -> None:
        if not self._settings.kafka.embedded:
            return
        paths = Paths(Path(self._settings.state.data_dir))
        self._broker = EmbeddedBroker(paths.broker)
        address = self._broker.start()
        kafka = replace(self._settings.kafka, bootstrap_servers=address)
        self._settings = replace(self._settings, kafka=kafka)
        log.info("the embedded broker listens on %s", address)

    def _start(self, child: Child) -> None:
        ours, theirs = socket.socketpair()
        inherited = Inherited(child.name, theirs.fileno(), child.bells, child.bell, os.getpid())
        fds = [theirs.fileno(), *child.bells, *([child.bell] if child.bell >= 0 else [])]
        command = [sys.executable, "-m", child.module, inherited.argv(), to_json(self._settings)]
        child.process = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL)
        theirs.close()
        child.control, child.heard = ours, b""
        child.reached.clear()
        child.started = time.monotonic()
        self._selector.register(ours, selectors.EVENT_READ, child)
        if child is not self._ingest and "state" in self._ingest.reached:
            self._tell_state(child)

    def _tick(self) -> None:
        for key, _ in self._selector.select(_TICK_S):
            self._hear(key.data)
        for child in self._children():
            if child.process is None:
                if time.monotonic() >= child.start_at:
                    self._start(child)
            elif child.process.poll() is not None:
                self._ended(child, child.process.returncode)
        if self._broker is not None and not self._broker.alive():
            log.error("the embedded broker died, starting it again")
            # Its log may have lost its end. Ingest must not meet it with the positions it has: it
            # carries them over as it starts.
            if self._ingest.process is not None:
                self._ingest.process.kill()
                self._ingest.process.wait()
            self._broker.start()

    def _hear(self, child: Child) -> None:
        control = child.control
        if control is None:
            return
        try:
            data = control.recv(65_536)
        except ConnectionResetError:
            # It ended before it had read what it was told.
            data = b""
        if not data:
            self._selector.unregister(control)
            control.close()
            child.control = None
            return
        *lines, child.heard = (child.heard + data).split(b"\n")
        for line in lines:
            self._said(child, line.decode())

    def _said(self, child: Child, line: str) -> None:
        if line.startswith("refused "):
            self._refusal = json.loads(line.removeprefix("refused "))
            return
        child.reached.add(line)
        if child is self._ingest and line == "state":
            for worker in self._workers:
                self._tell_state(worker)
        if line == "ready" and all("ready" in w.reached for w in self._workers):
            self._on_serving(self._settings)

    def _tell_state(self, worker: Child) -> None:
        if worker.control is not None:
            try:
                worker.control.sendall(b"state\n")
            except OSError:
                log.warning("%s ended before it could be told of the state", worker.name)

    def _ended(self, child: Child, code: int) -> None:
        if child.control is not None:
            # What it said last, a refusal above all.
            child.control.setblocking(False)
            try:
                self._hear(child)
            except BlockingIOError:
                log.debug("%s left nothing unsaid", child.name)
        if child.control is not None:
            self._selector.unregister(child.control)
            child.control.close()
            child.control = None
        child.process = None
        if code == REFUSED:
            self._refusal = self._refusal or f"{child.name} refused to start, see the log"
            self._stopping = True
            return
        steady = time.monotonic() - child.started > _STEADY_S
        longest_s = self._settings.listen.longest_backoff_s
        child.backoff_s = _FIRST_BACKOFF_S if steady else min(2 * child.backoff_s, longest_s)
        child.start_at = time.monotonic() + (0.0 if steady else child.backoff_s / 2)
        log.error("%s ended with status %d, starting it again", child.name, code)

    def _stop_all(self) -> None:
        """Workers drain first, then ingest commits what it has, then the broker saves."""
        drain_s = self._settings.listen.drain_s + 5.0
        for children, timeout_s in ((self._workers, drain_s), ([self._ingest], _INGEST_STOP_S)):
            running = [c.process for c in children if c.process is not None]
            for process in running:
                process.terminate()
            until = time.monotonic() + timeout_s
            for process in running:
                try:
                    process.wait(max(0.0, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    log.error("process %d did not stop within %g s", process.pid, timeout_s)
                    process.kill()
                    process.wait()
        if self._broker is not None:
            self._broker.stop()


def require_free(settings: Settings) -> None:
    """Refuses a port that another server has: SO_REUSEPORT would share it silently.

    Raises:
        RankstreamError: it is taken, or the address is not one of this machine.
    """
    listen = settings.listen
    for name, port in (("port", listen.port), ("admin_port", listen.admin_port)):
        family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((listen.host, port))
            except OSError as error:
                flag = "--" + name.replace("_", "-")
                msg = f"{listen.host}:{port} cannot be bound ({error}): choose another {flag}"
                raise RankstreamError(msg) from error
