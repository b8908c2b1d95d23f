"""kill -9 at any moment: nothing is lost, nothing counts twice, answers resume by themselves."""

import os
import random
import signal
import time

import pytest
from crash_load import FLAGS, Load, assert_state_is, read_expected
from requests_to import TITLES, WHOLE, catalogue, event, profile, record, upsert
from restless_threads import RestlessThreads
from server_process import alive, wait_for

from rankstream.client import Client, RankstreamError
from rankstream.proto.v1 import ranking_pb2, ranking_pb2_grpc

KILLS = 15


@pytest.fixture(scope="module")
def server(serve_on):
    return serve_on("kill.", **FLAGS, workers=2, longest_backoff_s=0.2).start()


def test_kills_of_ingest_lose_and_double_nothing(server):
    moments = random.Random(1)
    with Load(server, seed=1):
        killed = 0
        for number in range(KILLS):
            killed = wait_for(lambda last=killed: new_ingest(server, last), "a new ingest")
            if number % 4:
                # Else it dies while it starts, opens the state or finds its place in the log.
                reached = server.positions()
                wait_for(lambda last=reached: server.positions() != last, "a commit")
            time.sleep(moments.uniform(0, 0.15 if number % 4 else 1.2))
            os.kill(killed, signal.SIGKILL)
            wait_for(lambda dead=killed: not alive(dead), "the end of ingest")
        server.kill_supervisor()
        server.start()
        reached = server.positions()
        wait_for(lambda: server.positions() != reached, "a commit after the last start")

    expected = read_expected(server)
    wait_for(lambda: server.positions() == expected.ends, "the end of the log")
    assert len(expected.events) > 100
    assert sum(map(len, expected.events.values())) > 2000
    assert_state_is(server, expected)
    server.restart()
    assert_state_is(server, expected)


def test_answers_resume_by_themselves_when_a_worker_is_killed(server):
    token = upsert(server, catalogue())
    token = record(server, event("fan", "alien"))
    profile(server, "fan", token)
    before = server.children()
    with Ranking(server) as ranking:
        ranking.wait_for_more(200)
        for name in ("worker-0", "worker-1"):
            victim = server.children()[name]
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda name=name, dead=victim: new_pid(server, name, dead), f"a new {name}")
            ranking.wait_for_more(200)
            wait_for(lambda: both_answer(server), "answers of both workers")

    assert ranking.errors == []
    after = server.children()
    assert after["ingest"] == before["ingest"]
    assert after["worker-0"] != before["worker-0"]
    assert profile(server, "fan").history_size == 1


class Ranking(RestlessThreads):
    """Rank without pause, each thread with a client as users have it."""

    def __init__(self, server) -> None:
        super().__init__(3)
        self.errors: list[RankstreamError] = []
        self._server = server
        self._answers = 0

    def wait_for_more(self, count):
        """Returns after ``count`` more answers."""
        wanted = self._answers + count
        wait_for(lambda: self._answers >= wanted, f"{count} more answers")

    def run(self):
        with Client(self._server.target, connections=3, timeout_s=10) as client:
            while not self.stopping.is_set():
                try:
                    answer = client.rank("fan", list(TITLES))
                    assert answer.item_ids[0] == "alien"
                    self._answers += 1
                except RankstreamError as error:
                    self.errors.append(error)


def new_ingest(server, last):
    return new_pid(server, "ingest", last)


def new_pid(server, name, last):
    pid = server.children().get(name, last)
    return pid if pid != last else 0


def both_answer(server):
    """Whether new connections reach two processes."""
    reached = set()
    for _ in range(8):
        stub = ranking_pb2_grpc.RankingStub(server.channel())
        request = ranking_pb2.RankRequest(user_id="fan", whole_catalogue=WHOLE)
        reached.add(stub.Rank(request, timeout=10).served_by.worker)
    return len(reached) == 2
