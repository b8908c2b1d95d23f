"""Readers that pin pages: an idle one is left alone, a stuck one ends, a dead one is forgotten."""

import os
import signal
import subprocess
import sys

import pytest

from rankstream.server.stream import readers as readers_module
from rankstream.server.stream.readers import ReaderWatch
from rankstream.server.types import Head

_READER = """
import sys
from pathlib import Path
from rankstream.server.store import Store

store = Store(Path(sys.argv[1]), map_size_gib=1, write=False)
for line in sys.stdin:
    if line == "hold\\n":
        held = store.read()
        held.__enter__()
    if line == "glance\\n":
        with store.read() as view:
            view.head()
    print("done", flush=True)
"""


@pytest.fixture
def reader(tmp_path, store):
    process = subprocess.Popen(
        [sys.executable, "-c", _READER, str(tmp_path / "state")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def tell(reader, what):
    reader.stdin.write(what + "\n")
    reader.stdin.flush()
    assert reader.stdout.readline() == "done\n"


def commit(store, version):
    with store.write() as txn:
        txn.set_head(Head(1, 0, version, 0))


def others(store):
    """Readers of other processes: a checkpoint pins its commit with one of this process."""
    return [pid for pid, _, _ in store.readers() if pid != os.getpid()]


def test_a_reader_that_stays_behind_is_killed_after_its_time(store, reader, monkeypatch):
    watch = ReaderWatch(store, os.getpid())
    tell(reader, "hold")
    watch.look()
    commit(store, 1)
    watch.look()
    assert reader.poll() is None

    monkeypatch.setattr(readers_module, "STUCK_S", -1.0)
    watch.look()

    assert reader.wait(30) == -signal.SIGKILL
    watch.look()
    assert others(store) == []


def test_a_reader_that_holds_nothing_or_the_newest_is_left_alone(store, reader, monkeypatch):
    monkeypatch.setattr(readers_module, "STUCK_S", -1.0)
    watch = ReaderWatch(store, os.getpid())
    tell(reader, "glance")
    for version in range(3):
        commit(store, version)
        watch.look()
    tell(reader, "hold")

    watch.look()
    watch.look()

    assert reader.poll() is None
    assert len(others(store)) == 1


def test_the_writers_own_reader_is_left_alone(store, monkeypatch):
    monkeypatch.setattr(readers_module, "STUCK_S", -1.0)
    watch = ReaderWatch(store, os.getpid())

    with store.read() as view:
        commit(store, 1)
        watch.look()
        watch.look()

        assert view.head().catalogue_version == 0
