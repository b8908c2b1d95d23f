"""What a server says of itself, and whether it serves."""

from __future__ import annotations

import grpc
import pytest

from rankstream.client import FailedPrecondition, RankQuery, Unavailable


def test_server_info_and_lag(client):
    info = client.server_info()
    lag = client.consumer_lag()

    assert info.limits["max_k"].value == 1000
    assert info.limits["max_k"].unit == "items"
    assert (info.encoder.model, info.blocks[0].name, info.event_types[0].name) == (
        "MiniLM", "text", "click",
    )  # fmt: skip
    assert (info.items, info.users) == (1682, 943)
    assert lag.healthy
    assert (lag.partitions[0].lag, lag.partitions[0].state) == (2, "running")


def test_wait_ready(running, client):
    running.set_health(True)

    client.wait_ready(timeout_s=10)


def test_wait_ready_says_what_it_last_heard(running, client):
    running.set_health(False)

    with pytest.raises(Unavailable, match=r"not SERVING after 1 s: NOT_SERVING"):
        client.wait_ready(timeout_s=1.0)


def test_a_closed_client_says_so(client):
    client.close()

    with pytest.raises(FailedPrecondition, match="closed"):
        client.rank("u1")
    with pytest.raises(FailedPrecondition, match="closed"):
        client.batch_rank([RankQuery("u1")])
    with pytest.raises(FailedPrecondition, match="closed"):
        client.wait_ready(1)


def test_a_change_is_followed_to_its_end(client, fake):
    steps = list(client.reindex("/models/e5", settings={"precision": "f32"}))

    assert [s.phase for s in steps] == ["loading", "encoding", "starting", "draining", "done"]
    assert [s.ended for s in steps] == [False] * 4 + [True]
    assert (steps[-1].generation, steps[-1].items_total, steps[-1].eta_s) == (4, 6, 3.0)
    (request,) = fake.requests["Reindex"]
    assert (request.model, dict(request.settings)) == ("/models/e5", {"precision": "f32"})
    assert len(request.id) == 32


def test_a_change_is_followed_over_a_change_of_workers(client, fake):
    fake.breaks_after += [2, 0, 0, 1]

    steps = list(client.reindex("/models/e5", id="mine"))

    assert [s.phase for s in steps] == ["loading", "encoding", "starting", "draining", "done"]
    assert {request.id for request in fake.requests["Reindex"]} == {"mine"}
    assert len(fake.requests["Reindex"]) == 5


def test_what_is_refused_is_not_asked_again(client, fake, make_status):
    fake.fail("Reindex", make_status(grpc.StatusCode.FAILED_PRECONDITION, "another is under way"))

    with pytest.raises(FailedPrecondition, match="another is under way"):
        list(client.reindex("/models/e5"))

    assert len(fake.requests["Reindex"]) == 1


def test_back_watched_given_up_and_dropped(client, fake):
    phases = list(fake.phases)
    assert next(iter(client.watch_reindex())).phase == "loading"
    fake.phases[:] = phases
    assert {step.kind for step in client.rollback_reindex(id="back")} == {"rollback"}
    assert fake.requests["RollbackReindex"][0].id == "back"
    assert client.cancel_reindex().phase == "cancelled"
    assert client.drop_generation() == 2
    client.drop_generation(2)
    assert [r.generation for r in fake.requests["DropGeneration"]] == [0, 2]
    assert client.server_info().generations[0].number == 3
