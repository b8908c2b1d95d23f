"""Crews: the workers of one generation, and how one takes another's place.

To serve another generation, a crew of it is prepared beside: its workers load, warm up and wait.
When ingest says that the generation is served, they bind their ports beside the old crew's, and
when all of them do, that one drains. A crew that does not get warm is given up. One that does not
get ready once its generation is served is no worse than after any crash: those of its workers that
hang are started again, and the old crew leaves as soon as one serves, and serves until then.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rankstream.server.generation import Generation
from rankstream.server.process import Process

log = logging.getLogger(__name__)

_READY_S = 60.0
"""How long a crew has to be ready to serve, once its generation is served."""
_FIRST_READY_S = 900.0
"""One that was not warm before may have to compile kernels."""
DRAIN_MARGIN_S = 5.0
"""How much longer than its calls may take a worker has to end."""


@dataclass(slots=True, eq=False)
class Crew:
    """The workers of one generation.

    Attributes:
        workers: they.
        generation: what they serve; None until ingest has said which is served.
        ready_by: when those that are not ready are started again, while another crew waits.
        late: whether that has happened.
        leave_by: when they are killed, once they were told to leave.
    """

    workers: list[Process]
    generation: Generation | None = None
    ready_by: float = math.inf
    late: bool = False
    leave_by: float | None = None

    def all_reached(self, word: str) -> bool:
        """Whether each worker has said this."""
        return all(word in worker.reached for worker in self.workers)

    def some_reached(self, word: str) -> bool:
        """Whether any worker has said this."""
        return any(word in worker.reached for worker in self.workers)

    def is_of(self, generation: Generation) -> bool:
        """Whether it serves this one, and stays."""
        return self.leave_by is None and self.generation == generation


class Crews:
    """The crew that serves, the one that is prepared, and those that leave.

    Args:
        bells: of each worker, the ends of pipes that it inherits.
        drain_s: what a worker's calls have left when it is to end.
        ingest: is told how crews are.
        start: spawns a worker.
        let_go: hears what a worker that has ended said last.
    """

    def __init__(
        self,
        bells: Sequence[tuple[int, ...]],
        drain_s: float,
        ingest: Process,
        start: Callable[[Process], None],
        let_go: Callable[[Process], None],
    ) -> None:
        self._bells = bells
        self._drain_s = drain_s
        self._ingest = ingest
        self._start = start
        self._let_go = let_go
        self.served = self._new(None)
        self._next: Crew | None = None
        self._leaving: list[Crew] = []
        self._drained_said = True

    def workers(self) -> Iterator[Process]:
        """All there are."""
        for crew in self._all():
            yield from crew.workers

    def orient(self, worker: Process) -> None:
        """Tells a worker that was just started as much as is known."""
        for crew in self._all():
            if worker in crew.workers and crew.generation is not None:
                worker.tell("generation " + crew.generation.to_json())
                if "state" in self._ingest.reached:
                    worker.tell("state")
                if crew is self.served:
                    worker.tell("serve")

    def serve(self, generation: Generation) -> None:
        """The state has this generation served from now on."""
        self._drained_said = False
        if self.served.generation is None:
            self.served.generation = generation
            for worker in self.served.workers:
                self.orient(worker)
        elif not self.served.is_of(generation):
            self._leaving.append(self.served)
            if self._next is not None and self._next.is_of(generation):
                self.served, self._next = self._next, None
                self.served.ready_by = time.monotonic() + _READY_S
                for worker in self.served.workers:
                    worker.tell("serve")
            else:
                # As after a restart of ingest; whoever looks after the served crew starts it.
                self.served = self._new(generation)
                self.served.ready_by = time.monotonic() + _FIRST_READY_S

    def prepare(self, generation: Generation) -> None:
        """Starts a crew beside the one that serves, or says how far it is."""
        if self._next is None or not self._next.is_of(generation):
            self.dismiss_next()
            self._next = self._new(generation)
            try:
                for worker in self._next.workers:
                    self._start(worker)
            except OSError as error:
                # Too little memory for another process, say: what serves goes on.
                self._say_unfit(generation, f"a worker cannot be started: {error}")
        self.say_warm()

    def say_warm(self) -> None:
        """Tells ingest, where the crew that is prepared has become so."""
        crew = self._next
        if crew is not None and crew.generation is not None and crew.all_reached("warm"):
            self._ingest.tell(f"warm {crew.generation.number}")

    def dismiss_next(self) -> None:
        """Gives up the crew that is prepared."""
        if self._next is not None:
            crew, self._next = self._next, None
            self._leaving.append(crew)
            self._see_out(crew)

    def are_awaited(self, worker: Process) -> bool:
        """Whether this one is of the served crew, while the one of before serves in its place."""
        return worker in self.served.workers and self._awaits_served()

    def tell_delay(self, why: str) -> None:
        """Says why the served crew does not take over yet."""
        log.error("%s", why)
        self._ingest.tell("delay " + json.dumps(why))

    def look_after(self) -> None:
        """Notices who has ended, of those that do not serve."""
        self._look_after_next()
        ready = self.served.all_reached("ready")
        if not ready and self._awaits_served():
            if time.monotonic() > self.served.ready_by:
                self._hurry()
            ready = self.served.late and self.served.some_reached("ready")
        for crew in self._leaving:
            if ready or crew.leave_by is not None:
                self._see_out(crew)
        self._leaving = [c for c in self._leaving if any(w.running for w in c.workers)]
        if not self._leaving and not self._drained_said and self.served.generation is not None:
            self._drained_said = True
            self._ingest.tell(f"drained {self.served.generation.number}")

    def _awaits_served(self) -> bool:
        """Whether a crew serves until the one that is to serve does. Who was told to leave, not."""
        return any(crew.leave_by is None for crew in self._leaving)

    def _all(self) -> list[Crew]:
        return [self.served, *([self._next] if self._next is not None else []), *self._leaving]

    def _new(self, generation: Generation | None) -> Crew:
        module = "rankstream.server.worker"
        workers = [Process(f"worker-{i}", module, bells) for i, bells in enumerate(self._bells)]
        return Crew(workers, generation)

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
        self._ingest.tell("unfit " + json.dumps({"number": generation.number, "why": why}))
        self.dismiss_next()

    def _hurry(self) -> None:
        """Has those of the served crew start again that hang, and tells why it takes so long."""
        late = [worker for worker in self.served.workers if "ready" not in worker.reached]
        names = ", ".join(worker.name for worker in late)
        why = f"{names} of the new generation did not get ready in time, and is started again"
        self.tell_delay(why)
        for worker in late:
            if worker.running is not None:
                worker.running.kill()
        self.served.late = True
        self.served.ready_by = time.monotonic() + _FIRST_READY_S

    def _see_out(self, crew: Crew) -> None:
        """Has a crew end."""
        if crew.leave_by is None:
            crew.leave_by = time.monotonic() + self._drain_s + DRAIN_MARGIN_S
            for worker in crew.workers:
                worker.terminate()
        late = time.monotonic() > crew.leave_by
        if late:
            crew.leave_by = time.monotonic() + DRAIN_MARGIN_S
        for worker in crew.workers:
            if worker.running is None:
                continue
            if worker.running.poll() is not None:
                self._let_go(worker)
                worker.running = None
            elif late:
                log.error("%s did not stop in time, and is killed", worker.name)
                worker.running.kill()
