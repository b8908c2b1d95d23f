"""The page that ingest writes and workers read."""

import os

import numpy as np
import pytest

from rankstream.server.announce import PAUSED, RUNNING, STOPPED, Announcements, slot_of


@pytest.fixture
def pages(tmp_path):
    """The writer's and a reader's page."""
    writer = Announcements(tmp_path / "folder" / "announce", write=True)
    return writer, Announcements(tmp_path / "folder" / "announce")


def test_a_new_page_knows_nothing(pages):
    _, reader = pages

    assert (reader.sequence, reader.bias_sequence) == (0, 0)
    assert (reader.fetch_age_ms, reader.beat_age_ms) == (-1, -1)
    assert (reader.dead_letters, reader.misplaced) == (0, 0)
    assert reader.highwater(0) == -1
    assert reader.state(0) == "running"


def test_a_reader_sees_what_the_writer_says(pages):
    writer, reader = pages

    writer.ring()
    writer.ring()
    writer.beat()
    writer.fetched()
    writer.set_bias(2**45)
    writer.add_dead_letters(3)
    writer.add_dead_letters(1)
    writer.add_misplaced(2)
    writer.set_partition(slot_of("events", 3), 0, PAUSED)
    writer.set_partition(slot_of("items", 0), 2**50, STOPPED)

    assert (reader.sequence, reader.bias_sequence) == (2, 2**45)
    assert reader.fetch_age_ms >= 0
    assert reader.beat_age_ms >= 0
    assert (reader.dead_letters, reader.misplaced) == (4, 2)
    assert (reader.highwater(slot_of("events", 3)), reader.state(4)) == (0, "paused")
    assert (reader.highwater(0), reader.state(0)) == (2**50, "stopped")
    assert reader.highwater(slot_of("events", 2)) == -1


def test_a_new_ingest_keeps_the_sequence_and_forgets_what_the_old_one_heard(tmp_path, pages):
    writer, reader = pages
    writer.ring()
    writer.set_bias(5)
    writer.beat()
    writer.fetched()
    writer.add_dead_letters(3)
    writer.set_partition(1, 77, PAUSED)

    Announcements(tmp_path / "folder" / "announce", write=True)

    assert (reader.sequence, reader.bias_sequence) == (1, 5)
    assert (reader.fetch_age_ms, reader.beat_age_ms, reader.dead_letters) == (-1, -1, 0)
    assert reader.highwater(1) == -1


def test_each_ring_is_heard_by_every_worker_and_a_full_pipe_stops_nobody(tmp_path):
    pipes = [os.pipe() for _ in range(2)]
    for ends in pipes:
        for end in ends:
            os.set_blocking(end, False)
    writer = Announcements(tmp_path / "a", write=True, bells=tuple(write for _, write in pipes))
    full = os.write(pipes[0][1], bytes(1 << 20))

    writer.ring()
    writer.ring()

    assert os.read(pipes[1][0], 10) == b"\0\0"
    assert len(os.read(pipes[0][0], 1 << 21)) == full
    assert writer.sequence == 2
    for ends in pipes:
        for end in ends:
            os.close(end)


def test_a_reader_cannot_write(pages):
    _, reader = pages

    with pytest.raises(ValueError, match="read-only"):
        reader.set_bias(1)


def test_no_two_partitions_share_a_slot():
    slots = [slot_of("items", 0), *(slot_of("events", p) for p in range(50))]

    assert len(np.unique(slots)) == len(slots)


def test_the_end_of_a_log_never_comes_nearer(pages):
    page, _ = pages
    page.set_partition(1, 77, PAUSED)

    page.set_partition(1, -1, RUNNING)
    assert (page.highwater(1), page.state(1)) == (77, "running")
    page.see_end(1, 80)
    page.see_end(1, 79)
    assert page.highwater(1) == 80
