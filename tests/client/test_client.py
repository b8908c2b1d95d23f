"""Every method of the client against the fake server."""

from __future__ import annotations

import numpy as np
import pytest

from rankstream.client import (
    DataLoss,
    Event,
    FailedPrecondition,
    InvalidArgument,
    Item,
    NotFound,
    RankQuery,
    Unavailable,
    item_keys,
)


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
    assert request.read_after.min_token == token == b"\x00\xfftoken"
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


def test_embed(client):
    embeddings = client.embed(["ab c", "", "\U0001f600"])

    assert embeddings.vectors.dtype == np.float32
    assert embeddings.vectors.tolist() == [[4.0] * 3, [0.0] * 3, [1.0] * 3]
    assert [result.tokens for result in embeddings.results] == [2, 0, 1]
    assert [result.error is None for result in embeddings.results] == [True, False, True]
    embeddings.vectors[0] = 0


def test_embed_refuses_one_string(client):
    with pytest.raises(InvalidArgument, match="^texts: "):
        client.embed("one")


def test_an_answer_whose_bytes_do_not_fill_its_shape_is_refused():
    from rankstream.client.vectors import vector_from_pb
    from rankstream.proto.v1 import common_pb2

    with pytest.raises(DataLoss, match="7 bytes"):
        vector_from_pb(common_pb2.Vector(data=b"1234567", dtype=1, shape=[2]))
    with pytest.raises(DataLoss, match="dtype 0"):
        vector_from_pb(common_pb2.Vector(data=b"", shape=[0]))


def test_events_get_ids_and_keep_theirs(client, fake):
    recorded = client.record_events(
        [
            Event("u1", "rate", "toy", value=4.0, event_time_ms=5, event_id="mine"),
            Event("u1", "x", "y"),
        ]
    )

    first, second = fake.requests["RecordEvents"][0].events
    assert (first.event_id, first.value, first.event_time_ms) == ("mine", 4.0, 5)
    assert not first.HasField("weight")
    assert not second.HasField("event_time_ms")
    assert len(second.event_id) == 32
    assert recorded.results[1].event_id == second.event_id
    assert recorded.results[1].error is None


def test_a_refused_event_does_not_lose_the_others(client, fake):
    fake.refused_items.add("bad")

    recorded = client.record_events([Event("u", "click", "bad"), Event("u", "click", "good")])

    assert isinstance(recorded.results[0].error, InvalidArgument)
    assert recorded.results[1].error is None


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (Event(3, "click", "i"), "user_id"),
        (Event("u", "click", "\udc80"), "item_id"),
        (Event("u", "click", "i", value="5"), "value"),
        (Event("u", "click", "i", event_time_ms=2**63), "event_time_ms"),
    ],
)
def test_a_wrong_event_is_named(client, event, field):
    with pytest.raises(InvalidArgument, match=f"^{field}: "):
        client.record_events([event])


def test_items_travel_whole(client, fake):
    item = Item("ünï", "T", "D", "C", "B", ("x", "y"), 9.5, {"image": np.array([1, 2])})

    upserted = client.upsert_items([item, Item("free", price=0.0)])

    sent = fake.requests["UpsertItems"][0].items
    assert (sent[0].item_id, list(sent[0].tags), sent[0].price) == ("ünï", ["x", "y"], 9.5)
    assert sent[0].vectors["image"].data == np.array([1, 2], "<f4").tobytes()
    assert list(sent[0].vectors["image"].shape) == [2]
    assert sent[1].HasField("price")
    assert upserted.token == b"items"
    assert [result.item_id for result in upserted.results] == ["ünï", "free"]


@pytest.mark.parametrize(
    ("item", "field"),
    [
        (Item(1), "item_id"),
        (Item("i", tags="ab"), "tags"),
        (Item("i", tags=("a", 2)), r"tags\[1\]"),
        (Item("i", price="1"), "price"),
        (Item("i", vectors={"image": ["a"]}), r"vectors\[image\]"),
        (Item("i", vectors={"image": [float("nan")]}), r"vectors\[image\]"),
        (Item("i", vectors={"image": [1e39]}), r"vectors\[image\]"),
    ],
)
def test_a_wrong_item_is_named(client, item, field):
    with pytest.raises(InvalidArgument, match=f"^{field}: "):
        client.upsert_items([item])


def test_get_item(client, fake):
    stored = client.get_item("toy", min_token=b"t", max_wait_ms=3)

    assert stored.item == Item("toy", "Toy Story", tags=("a", "b"), price=2.5)
    assert (stored.item_row, stored.text, stored.bias) == (11, "toy story", 0.5)
    assert fake.requests["GetItem"][0].read_after.min_token == b"t"


def test_get_item_that_is_not_there(client):
    with pytest.raises(NotFound, match="gone is not known") as caught:
        client.get_item("gone")
    assert caught.value.code == "NOT_FOUND"


def test_get_profile(client, fake):
    profile = client.get_profile("u1", max_interactions=5)

    assert profile.known
    assert profile.interactions[0].item_id == "toy"
    assert profile.interactions[0].item_key == int(item_keys(["toy"])[0])
    assert profile.interactions[0].weight == -0.5
    assert (profile.history_size, profile.seen_size, profile.watermark_ms) == (9, 12, 500)
    assert profile.freshness.catalogue_version == 5
    assert fake.requests["GetProfile"][0].max_interactions == 5
    assert client.get_profile("nobody").watermark_ms is None


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
