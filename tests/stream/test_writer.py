"""The only writer: in order, again after a failure, announced when it is there."""

import os
import threading

import pytest

from rankstream.server.announce import Announcements
from rankstream.server.stream.writer import Chore, Writer
from rankstream.server.types import Position

TOPIC = b"events-topic-id."


class Work:
    """Moves a position; fails as often as it is told, after it has written."""

    def __init__(self, offset, log, failures=()):
        self.offset = offset
        self.log = log
        self.failures = list(failures)

    def apply(self, txn):
        txn.advance([Position("events", TOPIC, 0, self.offset)])
        self.log.append(("apply", self.offset))
        if self.failures:
            raise self.failures.pop(0)

    def committed(self):
        self.log.append(("committed", self.offset))


def offset_in(store):
    with store.read() as view:
        return [p.next_offset for p in view.positions()]


def test_all_that_waits_is_one_commit_in_order_and_one_ring(store, page):
    log = []
    writer = Writer(store, page, [])
    for offset in (1, 2, 3):
        writer.put(Work(offset, log))
    writer.stop()

    writer.run()

    assert log == [(step, n) for step in ("apply", "committed") for n in (1, 2, 3)]
    assert page.sequence == 1
    assert offset_in(store) == [3]


def test_a_commit_that_the_disk_refuses_is_tried_again(store, page):
    log = []
    writer = Writer(store, page, [])
    writer.put(Work(1, log, [OSError(28, "No space left on device")]))
    writer.put(Work(2, log))
    writer.stop()

    writer.run()

    assert log == [("apply", 1), ("apply", 1), ("apply", 2), ("committed", 1), ("committed", 2)]
    assert page.sequence == 1
    assert page.beat_age_ms >= 0


def test_another_failure_ends_the_writer_and_leaves_nothing(store, page):
    log = []
    writer = Writer(store, page, [])
    writer.put(Work(1, log, [ValueError("bug")]))

    with pytest.raises(ValueError, match="bug"):
        writer.run()

    assert log == [("apply", 1)]
    assert page.sequence == 0
    assert offset_in(store) == []


def test_the_state_is_there_before_the_bell_rings(tmp_path, store):
    read, write = os.pipe()
    page = Announcements(tmp_path / "announce", write=True, bells=(write,))
    seen = []

    class Looking(Work):
        def committed(self):
            seen.append((offset_in(store), page.sequence))

    writer = Writer(store, page, [])
    writer.put(Looking(7, []))
    writer.stop()
    writer.run()

    assert seen == [([7], 0)]
    assert os.read(read, 10) == b"\0"
    os.close(read)
    os.close(write)


def test_chores_run_between_commits_as_often_as_they_are_due(store, page):
    ran = {"often": 0, "once": 0}

    def count(name):
        ran[name] += 1

    chores = [Chore(0.0, lambda: count("often")), Chore(3600.0, lambda: count("once"))]
    writer = Writer(store, page, chores)
    runner = threading.Thread(target=writer.run)
    runner.start()
    for offset in range(5):
        done = threading.Event()
        work = Work(offset, [])
        work.committed = done.set
        writer.put(work)
        assert done.wait(30)
    writer.stop()
    runner.join(30)

    assert ran["often"] >= 5
    assert ran["once"] == 1
    assert page.beat_age_ms >= 0


def test_lanes_wait_while_enough_is_waiting(store, page):
    writer = Writer(store, page, [])
    handed = threading.Semaphore(0)

    def lane():
        for offset in range(10):
            writer.put(Work(offset, []))
            handed.release()

    thread = threading.Thread(target=lane, daemon=True)
    thread.start()
    for _ in range(4):
        assert handed.acquire(timeout=30)
    assert not handed.acquire(timeout=0.05)
    runner = threading.Thread(target=writer.run)
    runner.start()
    thread.join(30)
    writer.stop()
    runner.join(30)

    assert offset_in(store) == [9]
