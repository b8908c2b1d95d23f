"""What the supervisor does with children that do not start; the children are played by the test."""

import time
from types import SimpleNamespace

import pytest

from rankstream.server import process
from rankstream.server.config import Encoding, Listen, Settings
from rankstream.server.generation import Generation
from rankstream.server.supervisor import Supervisor


@pytest.fixture
def supervisor():
    return Supervisor(Settings(listen=Listen(workers=2, longest_backoff_s=7.0)), lambda _: None)


def test_a_child_that_the_system_does_not_start_is_tried_again_later(
    supervisor, monkeypatch, caplog
):
    def refuse(*args, **kwargs):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(process.subprocess, "Popen", refuse)
    ours = []
    pair = process.socket.socketpair

    def remembered():
        ours.extend(pair())
        return ours[-2:]

    monkeypatch.setattr(process.socket, "socketpair", remembered)

    supervisor._tick()

    children = [supervisor._ingest, *supervisor._crews.served.workers]
    assert [child.running for child in children] == 3 * [None]
    waits = [child.start_at - time.monotonic() for child in children]
    assert waits == pytest.approx(3 * [7.0], abs=1.0)
    assert "ingest cannot be started, trying again in 7 s" in caplog.text
    # Nothing is left open of what was tried, and it is not tried again before.
    assert [end.fileno() for end in ours] == 6 * [-1]
    supervisor._tick()
    assert len(ours) == 6
    assert not supervisor._stopping


def refused(worker):
    """It ends as one that would be refused again."""
    worker.running = SimpleNamespace(returncode=78, poll=lambda: 78)
    worker.problem = "no such folder"
    worker._started = time.monotonic()


def test_a_worker_that_refuses_stops_nothing_while_the_crew_of_before_serves(supervisor, caplog):
    crews, told = supervisor._crews, []
    supervisor._ingest = crews._ingest = SimpleNamespace(
        running=SimpleNamespace(poll=lambda: None), reached=set(), tell=told.append
    )
    crews.serve(Generation("a", 1, Encoding()))
    old = crews.served
    for worker in old.workers:
        worker.running = SimpleNamespace(poll=lambda: None, terminate=lambda: None)
    crews.serve(Generation("b", 2, Encoding()))
    new = crews.served.workers[0]
    crews.served.workers[1].start_at = new.start_at = time.monotonic() + 60
    refused(new)

    supervisor._tick()

    assert not supervisor._stopping
    assert new.running is None
    assert new.start_at > time.monotonic()
    assert told == ['delay "worker-0 of the new generation does not start: no such folder"']
    assert "worker-0 of the new generation does not start: no such folder" in caplog.text
    # Without them, nobody would serve, and it would be refused again.
    crews._see_out(old)
    refused(new)
    supervisor._tick()
    assert supervisor._stopping
    assert supervisor._refusal == "no such folder"
