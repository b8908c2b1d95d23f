"""What the supervisor does with children that do not start; the children are played by the test."""

import time

import pytest

from rankstream.server import process
from rankstream.server.config import Listen, Settings
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
