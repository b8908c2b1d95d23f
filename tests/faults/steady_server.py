"""A server for what callers may send, and that it stays well whatever that is."""

import pytest
from drafts import MESSAGE_BYTES
from requests_to import catalogue, event, ids_of, profile, rank, record, upsert


@pytest.fixture(scope="module")
def server(serve_shared):
    """A server with a small catalogue that knows one user."""
    started = serve_shared(max_message_bytes=MESSAGE_BYTES, vectors="image:4").start()
    upsert(started, catalogue())
    profile(started, "known", record(started, event("known", "alien", event_id="1")))
    yield started
    assert "Traceback" not in started.log


@pytest.fixture
def next_request_is_right(server):
    """After the test, the processes are the same, and an answer is right."""
    pids = server.children()
    yield
    answer = rank(server, "known", ["toy", "alien"])
    assert ids_of(answer) == ["alien", "toy"]
    assert server.children() == pids
