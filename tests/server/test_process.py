"""A child as its supervisor sees it: what it says, what it is told, when it is started again."""

import json
import socket
import time

import pytest

from rankstream.server.process import Process


@pytest.fixture
def pair():
    """A process that runs elsewhere, and its end of the control socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Process("worker-0", "nothing", (), control=ours), theirs


def test_lines_are_heard_whole_however_they_come(pair):
    process, child = pair
    child.sendall(b"warm\nask {")
    assert process.hear() == ["warm"]

    child.sendall(b"}\n")

    assert process.hear() == ["ask {}"]
    assert process.reached == {"warm", "ask"}


def test_its_problem_is_remembered_for_whoever_asks_why_it_ended(pair):
    process, child = pair
    child.sendall(b"problem " + json.dumps("no such folder").encode() + b"\n")

    process.hear()

    assert process.problem == "no such folder"


def test_the_end_of_what_it_says(pair):
    process, child = pair
    child.close()

    assert process.hear() is None


def test_nothing_to_hear_is_no_end(pair):
    process, _ = pair
    process.control.setblocking(False)

    assert process.hear() == []
    assert Process("worker-0", "nothing", ()).hear() == []


def test_it_is_told_while_it_listens(pair, caplog):
    process, child = pair
    process.tell("serve")
    assert child.recv(100) == b"serve\n"

    child.close()
    process.tell("generation {}")
    process.control = None
    process.tell("state")

    assert "worker-0 ended before it could be told: generation" in caplog.text


def test_what_keeps_dying_waits_longer_each_time():
    process = Process("worker-0", "nothing", ())
    process._started = time.monotonic()

    waits = []
    for _ in range(4):
        process.ended(longest_backoff_s=0.5)
        waits.append(process.start_at - time.monotonic())

    assert waits == pytest.approx([0.1, 0.2, 0.25, 0.25], abs=0.02)


def test_what_ran_for_long_is_started_at_once():
    process = Process("worker-0", "nothing", ())
    process._started = time.monotonic() - 60

    process.ended(longest_backoff_s=0.5)

    assert process.start_at <= time.monotonic()
