"""Starts the processes, starts again what dies, stops them in order; changes crews of workers.

Ingest and the workers start at once (their imports overlap). Ingest says which generation is
served, and when the state is there to be opened. A child that exits with ``REFUSED`` would be
refused again, so everything stops and says why: unless the workers of before still serve.

The workers of one generation are a crew; ``crews.py`` has one take another's place.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType

from rankstream.server.child import REFUSED
from rankstream.server.config import Encoding, Settings
from rankstream.server.crews import DRAIN_MARGIN_S, Crews
from rankstream.server.disk import on_disk
from rankstream.server.errors import RankstreamError, StateRefused
from rankstream.server.generation import SLOTS, Generation
from rankstream.server.paths import Paths
from rankstream.server.process import Process, stop_all
from rankstream.server.stream.embedded_broker import EmbeddedBroker

log = logging.getLogger(__name__)

_TICK_S = 0.1
_INGEST_STOP_S = 15.0


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
        # One for each worker of each slot: two crews hear their own bells.
        pipes = [[os.pipe() for _ in SLOTS] for _ in range(settings.listen.workers)]
        for read, write in (pipe for of_worker in pipes for pipe in of_worker):
            os.set_blocking(read, False)
            os.set_blocking(write, False)
        bells = [tuple(read for read, _ in of_worker) for of_worker in pipes]
        writes = tuple(write for of_worker in pipes for _, write in of_worker)
        self._ingest = Process("ingest", "rankstream.server.ingest", writes)
        drain_s = settings.listen.drain_s
        self._crews = Crews(bells, drain_s, self._ingest, self._start, self._let_go)

    def run(self) -> None:
        """Serves until SIGTERM or SIGINT.

        Raises:
            StateRefused: a child refused to start.
            RankstreamError: a port is taken, the embedded broker does not start, or the disk takes
                nothing.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        require_free(self._settings)
        try:
            self._start_broker()
            for child in (self._ingest, *self._crews.served.workers):
                self._start(child)
            while not self._stopping:
                self._tick()
        finally:
            self._stop_all()
        if self._refusal is not None:
            raise StateRefused(self._refusal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _start_broker(self) -> None:
        if not self._settings.kafka.embedded:
            return
        paths = Paths(Path(self._settings.state.data_dir))
        self._broker = EmbeddedBroker(paths.broker)
        with on_disk(paths.root):
            address = self._broker.start()
        kafka = replace(self._settings.kafka, bootstrap_servers=address)
        self._settings = replace(self._settings, kafka=kafka)
        log.info("the embedded broker listens on %s", address)

    def _start(self, child: Process) -> None:
        child.start(self._settings)
        assert child.control is not None
        self._selector.register(child.control, selectors.EVENT_READ, child)
        self._crews.orient(child)

    def _try_to_start(self, child: Process) -> None:
        try:
            self._start(child)
        except OSError as error:
            # Too little memory for another process, say: those that run go on.
            wait_s = self._settings.listen.longest_backoff_s
            log.error("%s cannot be started, trying again in %g s: %s", child.name, wait_s, error)
            child.start_at = time.monotonic() + wait_s

    def _tick(self) -> None:
        for key, _ in self._selector.select(_TICK_S):
            self._listen(key.data)
        for child in (self._ingest, *self._crews.served.workers):
            if child.running is None:
                if time.monotonic() >= child.start_at:
                    self._try_to_start(child)
            elif child.running.poll() is not None:
                self._ended(child, child.running.returncode)
        self._crews.look_after()
        self._look_after_broker()

    def _look_after_broker(self) -> None:
        if self._broker is not None and not self._broker.alive():
            log.error("the embedded broker died, starting it again")
            # Its log may have lost its end. Ingest must not meet it with the positions it has: it
            # carries them over as it starts.
            if self._ingest.running is not None:
                self._ingest.running.kill()
                self._ingest.running.wait()
            self._broker.start()

    def _listen(self, child: Process) -> None:
        lines = child.hear()
        if lines is None:
            self._close(child)
            return
        for line in lines:
            self._said(child, line)

    def _said(self, child: Process, line: str) -> None:
        word, _, rest = line.partition(" ")
        if child is self._ingest:
            if word == "state":
                # From now on the state says with which settings its encoder is loaded.
                self._settings = replace(self._settings, encoding=Encoding())
                for worker in self._crews.workers():
                    worker.tell("state")
            elif word == "current":
                self._crews.serve(Generation.from_json(rest))
            elif word == "prepare":
                self._crews.prepare(Generation.from_json(rest))
            elif word == "forget":
                self._crews.dismiss_next()
        elif word == "ask":
            self._ingest.tell(line)
        elif word == "warm":
            self._crews.say_warm()
        elif word == "ready" and self._crews.served.all_reached("ready"):
            self._on_serving(self._settings)

    def _ended(self, child: Process, code: int) -> None:
        self._let_go(child)
        child.ended(self._settings.listen.longest_backoff_s)
        if code == REFUSED:
            why = child.problem or f"{child.name} refused to start, see the log"
            if self._crews.are_awaited(child):
                self._crews.tell_delay(f"{child.name} of the new generation does not start: {why}")
                return
            self._refusal = why
            self._stopping = True
            return
        log.error("%s ended with status %d, starting it again", child.name, code)

    def _let_go(self, child: Process) -> None:
        """Hears what a child has said last, its problem above all."""
        if child.control is not None:
            child.control.setblocking(False)
            self._listen(child)
            self._close(child)

    def _close(self, child: Process) -> None:
        if child.control is not None:
            self._selector.unregister(child.control)
            child.control.close()
            child.control = None

    def _stop_all(self) -> None:
        """Workers drain first, then ingest commits what it has, then the broker saves."""
        stop_all(list(self._crews.workers()), self._settings.listen.drain_s + DRAIN_MARGIN_S)
        stop_all([self._ingest], _INGEST_STOP_S)
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
