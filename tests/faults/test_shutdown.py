"""SIGTERM under load: what was asked is answered, nothing new is taken, the exit status is 0."""

import signal
import socket

import grpc
import pytest
from requests_to import (
    TITLES,
    WHOLE,
    after,
    beyond,
    catalogue,
    event,
    profile,
    rank,
    record,
    upsert,
)
from restless_threads import RestlessThreads
from server_process import alive, wait_for

from rankstream.proto.v1 import ranking_pb2

CALLERS = 4


@pytest.fixture
def server(serve):
    started = serve(drain_s=10.0).start()
    upsert(started, catalogue())
    return started


def test_sigterm_under_load_drains(server):
    pids = list(server.children().values())
    token = record(server, event("u", "toy"))
    profile(server, "u", token)
    never = after(beyond(token), 2000, allow_stale=True)
    held = ranking_pb2.RankRequest(user_id="u", whole_catalogue=WHOLE, read_after=never)
    with Callers(server) as callers:
        wait_for(lambda: callers.answered > 100, "a load")
        waiting = server.ranking.Rank.future(held, timeout=20)
        rank(server, "u", ["toy"])  # behind it on the same connection

        server.process.send_signal(signal.SIGTERM)

        # It was in flight, so it is answered, however long it waits.
        assert waiting.result().freshness.stale
        assert server.process.wait(30) == 0
    # gRPC's core cancels what has reached it and was not yet handed to a handler.
    refused = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert callers.outcomes <= {grpc.StatusCode.OK, *refused}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=1)
    assert not any(map(alive, pids))

    server.start()
    assert profile(server, "u").history_size == 1


def test_sigterm_while_it_starts(serve):
    server = serve().launch()
    wait_for(lambda: "worker-0" in server.children(), "its processes")
    pids = list(server.children().values())

    assert server.stop() == 0
    assert not any(map(alive, pids))


def test_processes_end_with_their_supervisor(server):
    pids = server.children()
    assert len(pids) == 2

    server.kill_supervisor()

    server.start()
    assert set(server.children().values()).isdisjoint(pids.values())


class Callers(RestlessThreads):
    """Rank without pause until the server is gone; what became of each call."""

    def __init__(self, server):
        super().__init__(CALLERS)
        self.answered = 0
        self.outcomes = set()
        self._server = server

    def run(self):
        while not self.stopping.is_set():
            try:
                rank(self._server, "u", list(TITLES))
                self.answered += 1
                self.outcomes.add(grpc.StatusCode.OK)
            except grpc.RpcError as error:
                self.outcomes.add(error.code())
                self.stopping.wait(0.01)
