"""What a server says of itself, and whether it serves."""

from __future__ import annotations

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
