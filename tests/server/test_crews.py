"""How one crew of workers takes another's place; the processes are played by the test."""

import pytest

from rankstream.server.config import Encoding
from rankstream.server.crews import Crews
from rankstream.server.generation import Generation
from rankstream.server.process import Process

OLD, NEW = Generation("a", 1, Encoding()), Generation("b", 2, Encoding(model="/new"))


class Running:
    """A process that ends when the test says so."""

    def __init__(self):
        self.returncode = None
        self.asked = []

    def poll(self):
        return self.returncode

    def terminate(self):
        self.asked.append("terminate")

    def kill(self):
        self.asked.append("kill")


class Told(Process):
    """Remembers what it is told."""

    def __init__(self):
        super().__init__("ingest", "nothing", ())
        self.told = []

    def tell(self, line):
        self.told.append(line)


class Case:
    def __init__(self):
        self.ingest = Told()
        self.start_error = None
        self.crews = Crews([(3, 4), (5, 6)], 0.0, self.ingest, self._start, lambda worker: None)

    def _start(self, worker):
        if self.start_error is not None:
            raise self.start_error
        worker.running = Running()
        self.crews.orient(worker)

    def serve_first(self):
        for worker in self.crews.served.workers:
            self._start(worker)
        self.crews.serve(OLD)
        self.reach(self.crews.served, "ready")
        self.crews.look_after()
        assert self.ingest.told.pop() == "drained 1"

    def reach(self, crew, word):
        for worker in crew.workers:
            worker.reached.add(word)

    def prepared(self):
        self.crews.prepare(NEW)
        return next(c for c in self.crews._all() if c.generation == NEW)


@pytest.fixture
def case():
    made = Case()
    made.serve_first()
    return made


def end(crew, status=0):
    for worker in crew.workers:
        if worker.running is not None:
            worker.running.returncode = status


def test_a_crew_is_prepared_beside_the_one_that_serves(case):
    crew = case.prepared()
    assert case.crews.served.generation == OLD
    assert len(list(case.crews.workers())) == 4
    crew.workers[0].reached.add("warm")
    case.crews.say_warm()
    assert case.ingest.told == []

    crew.workers[1].reached.add("warm")
    case.crews.say_warm()

    assert case.ingest.told == ["warm 2"]
    # An ingest that has started again asks again.
    case.crews.prepare(NEW)
    assert case.ingest.told == ["warm 2", "warm 2"]
    assert len(list(case.crews.workers())) == 4


def test_the_old_crew_leaves_once_all_of_the_new_serve(case):
    old, new = case.crews.served, case.prepared()

    case.crews.serve(NEW)

    assert case.crews.served is new
    new.workers[0].reached.add("ready")
    case.crews.look_after()
    assert [w.running.asked for w in old.workers] == [[], []]
    new.workers[1].reached.add("ready")
    case.crews.look_after()
    assert [w.running.asked[0] for w in old.workers] == ["terminate", "terminate"]
    assert case.ingest.told == []
    end(old)
    case.crews.look_after()
    assert case.ingest.told == ["drained 2"]
    case.crews.look_after()
    assert case.ingest.told == ["drained 2"]
    assert list(case.crews.workers()) == new.workers


def test_who_does_not_leave_in_time_is_killed(case):
    old, new = case.crews.served, case.prepared()
    case.crews.serve(NEW)
    case.reach(new, "ready")
    case.crews.look_after()
    old.leave_by = 0.0

    case.crews.look_after()

    assert [w.running.asked for w in old.workers] == 2 * [["terminate", "kill"]]
    case.crews.look_after()
    assert [w.running.asked for w in old.workers] == 2 * [["terminate", "kill"]]


def test_a_worker_that_hangs_is_started_again_and_the_old_crew_serves_until_one_is_ready(case):
    old, new = case.crews.served, case.prepared()
    case.crews.serve(NEW)
    case.crews.look_after()
    assert case.ingest.told == []
    new.ready_by = 0.0

    case.crews.look_after()

    assert [w.running.asked for w in new.workers] == [["kill"], ["kill"]]
    assert [w.running.asked for w in old.workers] == [[], []]
    (told,) = case.ingest.told
    assert told.startswith('delay "worker-0, worker-1 of the new generation did not get ready')
    new.workers[1].reached.add("ready")
    case.crews.look_after()
    assert [w.running.asked for w in old.workers] == [["terminate"], ["terminate"]]
    # Said and done once: what is started again has time anew.
    assert [w.running.asked for w in new.workers] == [["kill"], ["kill"]]
    assert case.ingest.told == [told]


def test_a_crew_that_was_given_up_hurries_nobody_who_starts_again_long_after_a_switch(case):
    old, served = case.crews.served, case.prepared()
    case.crews.serve(NEW)
    case.reach(served, "ready")
    case.crews.look_after()
    end(old)
    case.crews.look_after()
    served.ready_by = 0.0
    case.crews.prepare(OLD)
    case.crews.dismiss_next()
    served.workers[0].reached.clear()

    case.crews.look_after()

    assert [w.running.asked for w in served.workers] == [[], []]
    assert case.ingest.told == ["drained 2"]


def test_a_crew_of_which_one_ends_is_given_up_and_its_problem_told(case):
    crew = case.prepared()
    crew.workers[1].problem = "no such folder"
    crew.workers[1].running.returncode = 78

    case.crews.look_after()

    assert case.ingest.told == ['unfit {"number": 2, "why": "worker-1: no such folder"}']
    assert crew.workers[0].running.asked == ["terminate"]
    end(crew)
    case.crews.look_after()
    assert list(case.crews.workers()) == case.crews.served.workers


def test_a_crew_that_cannot_be_started_is_given_up(case):
    case.start_error = OSError("no memory")

    case.crews.prepare(NEW)

    assert case.ingest.told == [
        'unfit {"number": 2, "why": "a worker cannot be started: no memory"}'
    ]
    assert case.crews.served.generation == OLD


def test_the_same_generation_again_changes_nothing_but_says_that_it_is_drained(case):
    served = case.crews.served

    case.crews.serve(OLD)
    case.crews.look_after()

    assert case.crews.served is served
    assert case.ingest.told == ["drained 1"]


def test_a_generation_that_nobody_has_prepared_gets_a_crew_of_its_own(case):
    old = case.crews.served

    case.crews.serve(NEW)

    assert case.crews.served.generation == NEW
    assert case.crews.served is not old
    assert [w.running for w in case.crews.served.workers] == [None, None]
