"""Rankings and explanations: what travels, what comes back, and wrong arguments."""

from __future__ import annotations

import numpy as np
import pytest
from fake_state import TOKEN

from rankstream.client import Event, Filter, InvalidArgument, Pooling, item_keys


def test_rank_of_the_whole_catalogue(client, fake):
    ranking = client.rank("u1", k=2, exclude_seen=True, exclude_item_ids=["x"], request_id="r-1")

    assert ranking.item_ids == ["toy", "b"]
    assert ranking.scores.dtype == np.float32
    assert ranking.scores.tolist() == [1.0, 0.875]
    assert ranking.request_id == "r-1"
    assert ranking.items[0].blocks == {"text": 0.75}
    assert ranking.items[0].bias == 0.25
    assert ranking.items[0].reasons == ()
    assert ranking.served_by.worker == "w0"
    assert ranking.served_by.generation == 3
    assert ranking.freshness.applied[0].next_offset == 7
    assert ranking.freshness.applied[0].lag == -1
    assert ranking.timing.total_us == 1500
    request = fake.requests["Rank"][0]
    assert request.WhichOneof("candidates") == "whole_catalogue"
    assert request.exclude_seen
    assert list(request.exclude_item_ids) == ["x"]
    assert not request.HasField("read_after")
    assert not request.HasField("explain")


def test_rank_of_given_ids_tells_which_are_missing(client):
    ranking = client.rank("u1", ["c", "no such"])

    assert ranking.item_ids == ["c"]
    assert ranking.missing_item_ids == ("no such",)


def test_rank_of_an_array_of_strings(client):
    assert client.rank("u1", np.array(["c", "toy"])).item_ids == ["c", "toy"]


def test_rank_of_keys(client, fake):
    unknown = 2**64 - 1
    keys = np.append(item_keys(["b", "toy"]), np.uint64(unknown))

    ranking = client.rank("u1", keys)

    assert ranking.item_ids == ["b", "toy"]
    assert ranking.missing_item_keys == (unknown,)
    assert fake.requests["Rank"][0].WhichOneof("candidates") == "item_keys"


def test_no_candidates_are_not_the_whole_catalogue(client, fake):
    ranking = client.rank("u1", [])

    assert ranking.items == ()
    assert ranking.scores.shape == (0,)
    assert fake.requests["Rank"][0].WhichOneof("candidates") == "item_ids"


def test_a_read_after_a_write_and_reasons_travel(client, fake):
    token = client.record_events([Event("u1", "click", "toy")]).token

    ranking = client.rank("u1", min_token=token, max_wait_ms=70, allow_stale=True, reasons=2)

    request = fake.requests["Rank"][0]
    assert request.read_after.min_token == token == TOKEN
    assert request.read_after.max_wait_ms == 70
    assert request.read_after.allow_stale
    assert request.explain.reasons == 2
    assert not request.explain.HasField("items")
    assert ranking.items[0].reasons[0].contribution == 0.12


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"k": -1}, "k"),
        ({"k": 2**32}, "k"),
        ({"k": True}, "k"),
        ({"explain_items": 1.5}, "explain_items"),
        ({"candidates": "abc"}, "candidates"),
        ({"candidates": ["a", 3]}, r"candidates\[1\]"),
        ({"candidates": ["a", "\ud800"]}, r"candidates\[1\]"),
        ({"candidates": np.array([1, 2])}, "candidates"),
        ({"candidates": np.zeros((2, 2), np.uint64)}, "candidates"),
        ({"exclude_item_ids": "abc"}, "exclude_item_ids"),
        ({"min_token": "text"}, "min_token"),
        ({"user_id": 7}, "user_id"),
    ],
)
def test_a_wrong_argument_is_named_and_nothing_is_sent(client, fake, arguments, field):
    with pytest.raises(InvalidArgument, match=f"^{field}: .*expected"):
        client.rank(**{"user_id": "u1"} | arguments)

    assert not fake.requests["Rank"]


def test_all_of_a_query_travels(client, fake):
    session = [Event("", "view", "toy", event_time_ms=5), Event("", "search", text="wool")]
    client.rank(
        session=session,
        query="warm",
        query_weight=2.0,
        filter=Filter.equals("brand", "Acme"),
        context={"device": "phone", "hour": 9, "new": True},
        block_weights={"text": 0.5},
        pooling=Pooling(60.0, {"view": 2}, profile_text_weight=0.0, ttl_s=3.5),
        as_of_ms=77,
    )

    request = fake.requests["Rank"][0]
    assert request.WhichOneof("subject") == "session"
    assert [(e.type, e.item_id, e.text) for e in request.session.events] == [
        ("view", "toy", ""), ("search", "", "wool"),
    ]  # fmt: skip
    assert not any(event.event_id for event in request.session.events)
    assert (request.query.text, request.query.weight) == ("warm", 2.0)
    assert request.filter.condition.equals.text == "Acme"
    assert request.context["hour"].number == 9.0
    assert request.context["new"].flag
    assert request.block_weights == {"text": 0.5}
    assert (request.pooling.half_life_s, request.as_of_ms) == (60.0, 77)
    assert request.pooling.type_weights == {"view": 2.0}
    assert request.pooling.HasField("profile_text_weight")
    assert request.pooling.ttl_s == 3.5


def test_a_query_may_stand_alone_and_a_vector_for_a_user(client, fake):
    client.rank(query="warm socks")
    client.rank(vector=np.ones(3), candidates=["toy"])
    client.rank(vector=np.ones(3), vector_space="f00d", candidates=["toy"])

    alone, vector, of_space = fake.requests["Rank"]
    assert (vector.vector.space, of_space.vector.space) == ("", "f00d")
    assert alone.WhichOneof("subject") is None
    assert alone.query.text == "warm socks"
    assert not alone.query.HasField("weight")
    assert list(vector.vector.shape) == [3]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"user_id": "u", "session": []}, "subject"),
        ({"session": [], "vector": [1.0]}, "subject"),
        ({"vector": ["a"]}, "vector"),
        ({"vector": [1.0], "vector_space": 7}, "vector_space"),
        ({"user_id": "u", "candidates": ["a"], "filter": Filter.exists("x")}, "candidates"),
        ({"user_id": "u", "filter": "brand=Acme"}, "filter"),
        ({"user_id": "u", "filter": Filter.range("price", max=float("nan"))}, "filter.range.max"),
        ({"user_id": "u", "filter": ~Filter.equals("", 1)}, r"filter.none\[0\].column"),
        ({"user_id": "u", "context": {"a": None}}, r"context\[a\]"),
        ({"user_id": "u", "block_weights": {"text": "1"}}, r"block_weights\[text\]"),
        ({"user_id": "u", "pooling": Pooling(half_life_s=float("inf"))}, "pooling.half_life_s"),
        ({"user_id": "u", "pooling": Pooling(ttl_s="1d")}, "pooling.ttl_s"),
        ({"user_id": "u", "as_of_ms": 1.5}, "as_of_ms"),
        ({"query": "a", "query_weight": "b"}, "query_weight"),
    ],
)
def test_a_wrong_query_is_named(client, fake, arguments, field):
    with pytest.raises(InvalidArgument, match=f"^{field}: "):
        client.rank(**arguments)
    assert not fake.requests["Rank"]


def test_an_explanation(client, fake):
    found = client.explain("u1", ["b", "gone"], block_weights={"text": 2})

    assert found.missing_item_ids == ("gone",)
    (item,) = found.items
    assert (item.item_id, item.score, item.bias) == ("b", 0.5, 0.25)
    assert item.blocks == {"text": 0.125, "attributes": 0.125}
    clicked, searched = item.contributions
    assert (clicked.reason.item_id, clicked.reason.contribution) == ("toy", 0.5)
    assert (searched.reason.text, searched.blocks["text"]) == ("red shoes", -0.125)
    assert fake.requests["Explain"][0].request.block_weights["text"] == 2.0
