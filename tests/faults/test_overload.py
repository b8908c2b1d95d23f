"""More than the server can do: refused at once with a time to come back, and no crash."""

import itertools
import os
import signal
from contextlib import contextmanager

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from requests_to import TITLES, WHOLE, after, beyond, catalogue, event, ids_of, rank, record, upsert
from server_process import wait_for

from rankstream.proto.v1 import encoder_pb2, ranking_pb2

QUEUED = 8
StatusCode = grpc.StatusCode


@pytest.fixture(scope="module")
def server(serve_shared):
    batches = {"max_batch_requests": 2, "max_batch_rank_entries": QUEUED, "max_texts": QUEUED}
    started = serve_shared(max_queued=QUEUED, default_timeout_s=2.0, **batches).start()
    upsert(started, catalogue())
    return started


@pytest.fixture(autouse=True)
def _the_same_processes_answer_afterwards(server):
    pids = server.children()
    yield
    assert set(ids_of(rank(server, "after", list(TITLES)))) == set(TITLES)
    assert server.children() == pids


@contextmanager
def stopped(server):
    """The worker is stopped meanwhile, so that all that is asked meets it at once."""
    worker = server.children()["worker-0"]
    os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


def ask(server, **fields):
    return ranking_pb2.RankRequest(user_id="crowd", whole_catalogue=WHOLE, **fields)


def crowd(server, method, make_request, count):
    """Calls that met the worker together, with their codes; some of them did not fit."""

    def meet():
        with stopped(server):
            calls = [method.future(make_request(), timeout=20) for _ in range(count)]
        codes = [call.code() for call in calls]
        assert set(codes) <= {StatusCode.OK, StatusCode.RESOURCE_EXHAUSTED}
        return len(set(codes)) == 2 and (calls, codes)

    # A client that is slow to send may spread them.
    return wait_for(meet, "calls that met the worker together")


def test_a_full_queue_refuses_with_a_time_to_retry(server):
    calls, codes = crowd(server, server.ranking.Rank, lambda: ask(server), 400)

    refused = calls[codes.index(StatusCode.RESOURCE_EXHAUSTED)]
    assert f"its limit is {QUEUED}" in refused.details()
    retry = error_details_pb2.RetryInfo()
    assert rpc_status.from_call(refused).details[0].Unpack(retry)
    assert 0 < retry.retry_delay.ToMilliseconds() < 5000


def test_batches_that_do_not_fit_are_refused_whole(server):
    batch = ranking_pb2.BatchRankRequest(requests=[ask(server)] * QUEUED)
    numbers = itertools.count()

    def fresh_texts():
        # Texts that are known, or on their way already, take no place.
        texts = [f"text {next(numbers)}" for _ in range(QUEUED)]
        return encoder_pb2.EmbedRequest(texts=texts)

    ranked, codes = crowd(server, server.ranking.BatchRank, lambda: batch, 50)
    crowd(server, server.encoder.Embed, fresh_texts, 50)

    answered = ranked[codes.index(StatusCode.OK)].result()
    assert [entry.status.code for entry in answered.entries] == [0] * QUEUED


def test_deadlines_that_pass_while_nobody_looks(server):
    with stopped(server):
        calls = [server.ranking.Rank.future(ask(server), timeout=0.1) for _ in range(100)]
        assert {call.code() for call in calls} == {StatusCode.DEADLINE_EXCEEDED}


def test_callers_that_go_away(server):
    with stopped(server):
        calls = [server.ranking.Rank.future(ask(server), timeout=20) for _ in range(100)]
        for call in calls:
            call.cancel()
    assert {call.code() for call in calls} == {StatusCode.CANCELLED}


def test_callers_that_go_away_while_they_wait_for_a_token(server):
    never = beyond(record(server, event("crowd", "toy")))
    calls = [
        server.ranking.Rank.future(ask(server, read_after=after(never)), timeout=20)
        for _ in range(50)
    ]
    rank(server, "crowd", ["toy"])
    for call in calls:
        call.cancel()
    assert {call.code() for call in calls} == {StatusCode.CANCELLED}


@pytest.mark.parametrize("timeout", [1e-6, 0.0, -1.0])
def test_no_time_at_all(server, timeout):
    # Of what could be answered at once, an answer may overtake the client's clock.
    never = beyond(record(server, event("crowd", "toy")))

    with pytest.raises(grpc.RpcError) as caught:
        server.ranking.Rank(ask(server, read_after=after(never)), timeout=timeout)

    assert caught.value.code() == StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("timeout", [None, 1e9])
def test_all_the_time_there_is(server, timeout):
    assert server.ranking.Rank(ask(server), timeout=timeout).items


def test_no_deadline_is_given_one(server):
    never = beyond(record(server, event("crowd", "toy")))
    request = ask(server, read_after=after(never, 9_999))

    call = server.ranking.Rank.future(request)

    # The server's own 2 s end it before the 9,999 ms that the request would wait.
    wait_for(call.done, "an answer", 8)
    assert call.code() == StatusCode.DEADLINE_EXCEEDED
