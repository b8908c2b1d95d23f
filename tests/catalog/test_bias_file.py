"""The bias on disk: written when there is something new, one file at a time."""

import contextlib
import resource

import numpy as np
import pytest
from small_server import item

from rankstream.server.catalog.bias_file import BiasFile


@pytest.fixture
def file(server):
    return BiasFile(
        server.store,
        server.segments.segments,
        server.popularity,
        server.page,
        server.folder / "segments",
    )


def files(server):
    return sorted(path.name for path in (server.folder / "segments").glob("*/bias-*"))


def bias(server):
    """As a new worker reads it."""
    catalogue = server.new_catalogue()
    with server.store.read() as view:
        catalogue.sync(view, server.page.bias_sequence)
    return catalogue.bias.tolist()


def test_a_worker_reads_what_was_counted(server, file):
    server.put(item("i0", "a"), item("i1", "b"))
    server.events(("ann", "i1", 10, "click", 1.0))

    file.refresh()

    assert bias(server) == [0.0, np.float32(0.3)]


def test_nothing_new_is_not_written_again(server, file):
    server.put(item("i0", "a"))
    file.refresh()
    before = (server.page.bias_sequence, files(server))

    file.refresh()

    assert (server.page.bias_sequence, files(server)) == before


def test_new_rows_and_new_counts_replace_the_file(server, file):
    server.put(item("i0", "a"))
    file.refresh()
    first = server.page.bias_sequence
    server.put(item("i1", "b"))
    file.refresh()
    second = server.page.bias_sequence
    assert bias(server) == [0.0, 0.0]

    server.events(("ann", "i0", 10, "click", 1.0))
    file.refresh()

    assert first < second < server.page.bias_sequence
    assert len(files(server)) == 1
    assert bias(server) == [np.float32(0.3), 0.0]


def test_a_new_process_takes_a_greater_number(server, file):
    server.put(item("i0", "a"))
    file.refresh()
    before = server.page.bias_sequence
    server.put(item("i1", "b"))
    parts = (server.store, server.segments.segments, server.popularity, server.page)

    BiasFile(*parts, server.folder / "segments").refresh()

    assert server.page.bias_sequence > before


@contextlib.contextmanager
def room(most_bytes):
    """No file may be longer: what a write meets is what it meets on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_the_disk_refuses_is_written_the_next_time_and_the_old_file_serves_on(server, file):
    server.put(item("i0", "a"), item("i1", "b"))
    file.refresh()
    before = (server.page.bias_sequence, files(server))
    server.events(("ann", "i1", 10, "click", 1.0))

    with room(most_bytes=6):
        file.refresh()

    assert (server.page.bias_sequence, files(server)) == before
    assert file.refused
    assert 0 <= server.page.refusal_age_ms < 10_000
    file.refresh()
    assert not file.refused
    assert bias(server) == [0.0, np.float32(0.3)]
    assert len(files(server)) == 1


def test_an_item_that_is_gone_weighs_on_nobody(server, file):
    """Whether its row is there depends on how the log was cut, and what was compacted away."""
    server.put(item("i0", "a"), item("i1", "b"))
    server.events(*(("ann", "i0", at, "click", 1.0) for at in range(9)))
    server.events(("ann", "i1", 10, "click", 1.0))
    file.refresh()
    assert bias(server)[1] < 0.1

    server.put(delete=["i0"])
    file.refresh()

    assert bias(server)[1] == np.float32(0.3)
