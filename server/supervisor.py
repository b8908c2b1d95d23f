"""Starts the processes, starts again what dies, stops them in order; changes crews of workers.

Ingest and the workers start at once (their imports overlap). Ingest says which generation is
served, and when the state is there to be opened. A child that exits with ``REFUSED`` would be
refused again, so everything stops and says why.

The workers of one generation are a *crew*. To serve another one, ingest has a crew of it prepared
beside: its workers load, warm up and wait. Once ingest has committed the change they serve, and
when all of them do, the crew of before drains. A crew that does not get ready is given up, and
nothing has changed.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from rankstream.server.child import REFUSED
from rankstream.server.config import Encoding, Settings
from rankstream.server.errors import RankstreamError, StateRefused
from rankstream.server.generation import SLOTS, Generation
from rankstream.server.paths import Paths
from rankstream.server.process import Process, stop_all
from rankstream.server.stream.embedded_broker import EmbeddedBroker

log = logging.getLogger(__name__)

_TICK_S = 0.1
_INGEST_STOP_S = 15.0
_DRAIN_MARGIN_S = 5.0


@dataclass(slots=True)
class Crew:
    """The workers of one generation.

    Attributes:
        workers: they.
        generation: what they serve; None until ingest has said which is served.
        leave_by: when they are killed, once they were told to leave.
    """

    workers: list[Process]
    generation: Generation | None = None
    leave_by: float | None = None

    def all_reached(self, word: str) -> bool:
        """Whether each worker has said this."""
        return all(word in worker.reached for worker in self.workers)

    def is_of(self, generation: Generation | None) -> bool:
        """Whether it serves this one, and stays."""
        numbers = [g.number for g in (self.generation, generation) if g is not None]
        return self.leave_by is None and len(numbers) == 2 and numbers[0] == numbers[1]


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
        self._bells = [tuple(read for read, _ in of_worker) for of_worker in pipes]
        writes = tuple(write for of_worker in pipes for _, write in of_worker)
        self._ingest = Process("ingest", "rankstream.server.ingest", writes)
        self._served: Crew = self._new_crew(None)
        self._next: Crew | None = None
        self._leaving: list[Crew] = []
        self._drained_said = True

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
            for child in (self._ingest, *self._served.workers):
                self._start(child)
            while not self._stopping:
                self._tick()
        finally:
            self._stop_all()
        if self._refusal is not None:
            raise StateRefused(self._refusal)

    def _new_crew(self, generation: Generation | None) -> Crew:
        module = "rankstream.server.worker"
        workers = [Process(f"worker-{i}", module, bells) for i, bells in enumerate(self._bells)]
        return Crew(workers, generation)

    def _crews(self) -> list[Crew]:
        return [self._served, *([self._next] if self._next is not None else []), *self._leaving]

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

    def _start(self, child: Process) -> None:
        child.start(self._settings)
        assert child.control is not None
        self._selector.register(child.control, selectors.EVENT_READ, child)
        for crew in self._crews():
            if child in crew.workers:
                self._orient(crew, child)

    def _orient(self, crew: Crew, worker: Process) -> None:
        """Tells a worker as much as is known, which it reads one after the other."""
        if crew.generation is not None:
            worker.tell("generation " + crew.generation.to_json())
            if "state" in self._ingest.reached:
                worker.tell("state")
            if crew is self._served:
                worker.tell("serve")

    def _tick(self) -> None:
        for key, _ in self._selector.select(_TICK_S):
            self._listen(key.data)
        for child in (self._ingest, *self._served.workers):
            if child.running is None:
                if time.monotonic() >= child.start_at:
                    self._start(child)
            elif child.running.poll() is not None:
                self._ended(child, child.running.returncode)
        self._look_after_next()
        self._look_after_leaving()
        self._look_after_broker()

    def _look_after_next(self) -> None:
        crew = self._next
        if crew is None or crew.generation is None:
            return
        for worker in crew.workers:
            if worker.running is not None and worker.running.poll() is not None:
                self._let_go(worker)
                why = worker.problem or f"it ended with status {worker.running.returncode}"
                self._say_unfit(crew.generation, f"{worker.name}: {why}")
                return

    def _say_unfit(self, generation: Generation, why: str) -> None:
        """Gives up the crew that is being prepared."""
        self._ingest.tell("unfit " + json.dumps({"number": generation.number, "why": why}))
        self._dismiss_next()

    def _look_after_leaving(self) -> None:
        ready = self._served.all_reached("ready")
        for crew in self._leaving:
            if ready or crew.leave_by is not None:
                self._see_out(crew)
        self._leaving = [c for c in self._leaving if any(w.running for w in c.workers)]
        if not self._leaving and not self._drained_said and self._served.generation is not None:
            self._drained_said = True
            self._ingest.tell(f"drained {self._served.generation.number}")

    def _see_out(self, crew: Crew) -> None:
        """Has a crew end whose place another has taken."""
        if crew.leave_by is None:
            crew.leave_by = time.monotonic() + self._settings.listen.drain_s + _DRAIN_MARGIN_S
            for worker in crew.workers:
                worker.terminate()
        for worker in crew.workers:
            if worker.running is None:
                continue
            if worker.running.poll() is not None:
                self._let_go(worker)
                worker.running = None
            elif time.monotonic() > crew.leave_by:
                log.error("%s did not stop in time", worker.name)
                worker.running.kill()

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
                for crew in self._crews():
                    for worker in crew.workers:
                        worker.tell("state")
            elif word == "current":
                self._serve(Generation.from_json(rest))
            elif word == "prepare":
                self._prepare(Generation.from_json(rest))
            elif word == "forget":
                self._dismiss_next()
        elif word == "ask":
            self._ingest.tell(line)
        elif word == "warm":
            self._say_warm()
        elif word == "ready" and self._served.all_reached("ready"):
            self._on_serving(self._settings)

    def _serve(self, generation: Generation) -> None:
        """The state has this generation served from now on."""
        # From now on the state says with which settings its encoder is loaded.
        self._settings = replace(self._settings, encoding=Encoding())
        self._drained_said = False
        if self._served.generation is None:
            self._served.generation = generation
        elif not self._served.is_of(generation):
            self._leaving.append(self._served)
            if self._next is not None and self._next.is_of(generation):
                self._served, self._next = self._next, None
                for worker in self._served.workers:
                    worker.tell("serve")
                return
            self._served = self._new_crew(generation)
            return
        else:
            return
        for worker in self._served.workers:
            self._orient(self._served, worker)

    def _prepare(self, generation: Generation) -> None:
        """Starts a crew beside the one that serves."""
        if self._next is None or not self._next.is_of(generation):
            self._dismiss_next()
            self._next = self._new_crew(generation)
            try:
                for worker in self._next.workers:
                    self._start(worker)
            except OSError as error:
                # Too little memory for another process, say: what serves goes on.
                self._say_unfit(generation, f"a worker cannot be started: {error}")
        self._say_warm()

    def _say_warm(self) -> None:
        crew = self._next
        if crew is not None and crew.generation is not None and crew.all_reached("warm"):
            self._ingest.tell(f"warm {crew.generation.number}")

    def _dismiss_next(self) -> None:
        """Gives up the crew that is being prepared."""
        if self._next is not None:
            crew, self._next = self._next, None
            self._leaving.append(crew)
            self._see_out(crew)

    def _ended(self, child: Process, code: int) -> None:
        self._let_go(child)
        child.ended(self._settings.listen.longest_backoff_s)
        if code == REFUSED:
            self._refusal = child.problem or f"{child.name} refused to start, see the log"
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
        workers = [worker for crew in self._crews() for worker in crew.workers]
        stop_all(workers, self._settings.listen.drain_s + _DRAIN_MARGIN_S)
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
