"""Batches of rankings: how they are split, and what a part that failed costs."""

from __future__ import annotations

import numpy as np
import pytest

from rankstream.client import FailedPrecondition, InvalidArgument, RankQuery


def test_batches_are_split_by_the_servers_limit(client, fake):
    fake.max_batch = 4

    rankings = client.batch_rank([RankQuery(f"u{n}", request_id=str(n)) for n in range(10)])

    assert [ranking.request_id for ranking in rankings] == [str(n) for n in range(10)]
    sizes = sorted(len(request.requests) for request in fake.requests["BatchRank"])
    assert sizes == [2, 4, 4]
    assert len(fake.requests["GetServerInfo"]) == 1


def test_batches_are_split_by_the_own_limit_where_the_server_names_none(running, fake):
    fake.max_batch = None

    with running.client(max_batch_rank_entries=3) as client:
        client.batch_rank([RankQuery("u")] * 4)

    assert sorted(len(request.requests) for request in fake.requests["BatchRank"]) == [1, 3]


def test_batches_are_split_by_bytes(client, fake):
    fake.max_batch = 1000
    large = RankQuery("u", np.arange(600_000, dtype=np.uint64))

    assert len(client.batch_rank([large] * 3)) == 3

    assert [len(request.requests) for request in fake.requests["BatchRank"]] == [1, 1, 1]


def test_a_bad_entry_is_an_error_in_its_place(client):
    queries = [RankQuery("u1", request_id="0"), RankQuery(""), RankQuery("u2", k=-5)]

    answers = client.batch_rank([*queries, RankQuery("u3", request_id="3")])

    assert answers[0].request_id == "0"
    assert isinstance(answers[1], InvalidArgument)
    assert str(answers[1]) == "user_id: is empty"
    assert isinstance(answers[2], InvalidArgument)
    assert str(answers[2]).startswith("k: is -5")
    assert answers[3].request_id == "3"


def test_no_queries_are_no_answers(client, fake):
    assert client.batch_rank([]) == []
    assert not fake.requests["BatchRank"]


def test_of_a_split_batch_only_the_failed_call_is_lost(running, fake, make_status):
    import grpc

    fake.max_batch = 2
    fake.fail("BatchRank", make_status(grpc.StatusCode.INTERNAL, "broke"))
    with running.client(connections=1) as client:
        answers = client.batch_rank([RankQuery(f"u{n}") for n in range(4)])

    assert [getattr(answer, "code", "OK") for answer in answers] == ["INTERNAL"] * 2 + ["OK"] * 2


def test_a_batch_of_which_nothing_was_answered_raises(client, fake, make_status):
    import grpc

    fake.max_batch = 100
    fake.fail("BatchRank", make_status(grpc.StatusCode.FAILED_PRECONDITION, "not mine"))

    with pytest.raises(FailedPrecondition, match="not mine"):
        client.batch_rank([RankQuery("u1"), RankQuery("u2")])
