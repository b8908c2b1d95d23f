"""Files that are read again: when, and what stands where they do not read."""

import os

import pytest

from rankstream.server import watched
from rankstream.server.errors import InvalidArgument
from rankstream.server.watched import Watched


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when they are told to."""
    now = [100.0]
    monkeypatch.setattr(watched.time, "monotonic", lambda: now[0])
    return now


def reader(file):
    def read():
        try:
            return int(file.read_text())
        except ValueError:
            raise InvalidArgument(field="file", problem="no number") from None

    return read


def test_a_changed_file_is_read_again_within_a_second(tmp_path, clock):
    file = tmp_path / "number"
    file.write_text("1")
    found = Watched([file], reader(file))
    file.write_text("22")

    assert found.value == 1
    clock[0] += 1.0
    assert found.value == 22


def test_an_unchanged_file_is_not_read_again(tmp_path, clock):
    file = tmp_path / "number"
    file.write_text("1")
    reads = []
    found = Watched([file], lambda: reads.append(1) or len(reads))

    for _ in range(5):
        clock[0] += 2.0
        assert found.value == 1


def test_what_does_not_read_changes_nothing_and_is_said_once(tmp_path, clock, caplog):
    file = tmp_path / "number"
    file.write_text("1")
    found = Watched([file], reader(file))
    file.write_text("rubbish")

    for _ in range(3):
        clock[0] += 2.0
        assert found.value == 1
    assert caplog.text.count("what it said before stays in force") == 1

    file.write_text("3")
    clock[0] += 2.0
    assert found.value == 3


def test_a_file_put_in_its_place_is_seen(tmp_path, clock):
    file, other = tmp_path / "number", tmp_path / "other"
    file.write_text("1")
    found = Watched([file], reader(file))
    other.write_text("2")
    os.utime(other, ns=(file.stat().st_mtime_ns,) * 2)
    other.replace(file)

    clock[0] += 2.0
    assert found.value == 2


def test_the_first_time_it_has_to_read(tmp_path):
    file = tmp_path / "number"
    file.write_text("rubbish")

    with pytest.raises(InvalidArgument, match="no number"):
        Watched([file], reader(file))
