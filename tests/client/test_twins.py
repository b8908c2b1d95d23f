"""``Client`` and ``AsyncClient`` are one set of calls."""

from __future__ import annotations

import asyncio
import inspect
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import rankstream.client
from rankstream.client import (
    AsyncClient,
    Client,
    Event,
    FailedPrecondition,
    Filter,
    InvalidArgument,
    Item,
    Pooling,
    RankQuery,
    Unavailable,
    User,
)
from rankstream.client.connections import NOT_RETRIED

SERVICES = ("admin", "catalog", "encoder", "events", "profiles", "ranking")

EXPORTED = """
AppliedOffset AsyncClient BadRecord BlockInfo Cancelled Client ConsumerLag Contribution DataLoss
DeadlineExceeded Deleted DeliveryFailed EmbedResult Embeddings EncoderInfo Event EventAck
EventProducer EventResult EventTypeInfo ExplainedItem Explanation FailedPrecondition FieldViolation
Filter Freshness ImportFailure ImportProgress Imported Interaction Internal InvalidArgument Item
ItemResult Limit ListedItem Merged NotFound PartitionLag Patched Pooling Profile Purged RankQuery
RankedItem Ranking RankstreamError Reason RecordReader Recorded Remainder Reset ResourceExhausted
Sent ServedBy ServerInfo StoredItem Timing TokenizedText Unavailable Unimplemented Upserted User
item_key item_keys read_events read_items
"""

METHODS = """
batch_rank close consumer_lag delete_items embed embed_stream explain export_user get_item
get_profile import_events import_items list_items merge_profiles patch_item purge_user rank
record_events reset_profile server_info similar_items stream_events stream_rank tokenize
upsert_items upsert_user wait_ready
"""

STREAMS = {"embed_stream", "export_user", "list_items", "stream_events", "stream_rank"}


def public_methods(kind):
    found = inspect.getmembers(kind, inspect.isfunction)
    ours = {"answering", "streaming"}
    return {name: made for name, made in found if not name.startswith("_") and name not in ours}


def test_what_is_exported_is_what_is_written_here():
    assert rankstream.client.__all__ == sorted(EXPORTED.split())


def test_both_clients_have_the_methods_written_here():
    assert sorted(public_methods(Client)) == sorted(METHODS.split())
    assert sorted(public_methods(AsyncClient)) == sorted(METHODS.split())


@pytest.mark.parametrize("name", ["__init__", *METHODS.split()])
def test_a_method_has_the_same_parameters_in_both(name):
    blocking = inspect.signature(getattr(Client, name))
    awaited = inspect.signature(getattr(AsyncClient, name))

    assert blocking.parameters == awaited.parameters
    assert all(p.annotation is not p.empty for p in list(blocking.parameters.values())[1:])
    if name in STREAMS:
        assert f"Async{blocking.return_annotation}" == awaited.return_annotation
        assert awaited.return_annotation.startswith("AsyncIterator[")
    else:
        assert blocking.return_annotation == awaited.return_annotation


@pytest.mark.parametrize("name", METHODS.split())
def test_a_method_is_documented_and_awaited(name):
    blocking, awaited = getattr(Client, name), getattr(AsyncClient, name)

    assert inspect.getdoc(blocking)
    assert inspect.getdoc(blocking) == inspect.getdoc(awaited)
    assert blocking.__name__ == awaited.__name__ == name
    assert inspect.iscoroutinefunction(awaited) == (name not in STREAMS)
    assert not inspect.iscoroutinefunction(blocking)


def test_a_description_is_told_apart_from_what_does_it():
    """Seen through the class that describes it, a method is the description itself."""
    from rankstream.client.calls.ranking import RankingCalls

    assert inspect.signature(RankingCalls.rank).return_annotation == "Answer[Ranking]"
    assert inspect.signature(Client.rank).return_annotation == "Ranking"
    assert "Ranks candidates" in inspect.getdoc(RankingCalls.rank)


def test_help_shows_signatures_and_docstrings():
    import pydoc

    for kind in (Client, AsyncClient):
        text = pydoc.render_doc(kind.rank, renderer=pydoc.plaintext)
        assert "rank(self, user_id: 'str' = ''" in text
        assert "Ranks candidates, or retrieves" in text
        assert "list_items(self, *, limit" in pydoc.render_doc(kind, renderer=pydoc.plaintext)


def test_every_rpc_of_the_protocol_has_a_method():
    """Each path is written once in the package, and nowhere a path that does not exist."""
    folder = Path(rankstream.client.__file__).parent
    sources = [*(folder / "calls").glob("*.py"), folder / "imports.py"]
    together = "\n".join(path.read_text() for path in sources)
    for service in SERVICES:
        module = import_module(f"rankstream.proto.v1.{service}_pb2")
        for described in module.DESCRIPTOR.services_by_name.values():
            for rpc in described.methods:
                assert together.count(f'"{described.name}/{rpc.name}"') == 1, rpc.full_name


def test_what_is_not_retried_exists():
    for service, method in NOT_RETRIED:
        module = import_module(f"rankstream.proto.v1.{service.split('.')[-1].lower()}_pb2")
        services = module.DESCRIPTOR.services_by_name
        assert method in services[service.split(".")[-1]].methods_by_name


@pytest.mark.parametrize("call", ["merge_profiles", "patch_item"])
def test_what_would_answer_otherwise_is_not_retried(client, fake, make_status, call):
    import grpc

    method = {"merge_profiles": "MergeProfiles", "patch_item": "PatchItem"}[call]
    fake.fail(method, make_status(grpc.StatusCode.UNAVAILABLE, "restarting"))

    with pytest.raises(Unavailable):
        getattr(client, call)(*("guest", "ann")[: 2 if call == "merge_profiles" else 1])
    assert len(fake.requests[method]) == 1


def test_type_checkers_see_what_is_answered(tmp_path, monkeypatch):
    """The descriptors say to mypy what each class answers."""
    api = pytest.importorskip("mypy.api")
    snippet = tmp_path / "snippet.py"
    snippet.write_text(
        "from collections.abc import AsyncIterator, Iterator\n"
        "from typing import assert_type\n"
        "from rankstream.client import AsyncClient, Client, Imported, Item, ListedItem, Ranking\n"
        "def blocking(client: Client) -> None:\n"
        "    assert_type(client.rank('u', ['a'], k=3), Ranking)\n"
        "    assert_type(client.list_items(limit=3), Iterator[ListedItem])\n"
        "    assert_type(client.import_items([Item('a')]), Imported)\n"
        "    client.rank(k='many')\n"
        "async def awaited(client: AsyncClient) -> None:\n"
        "    assert_type(await client.rank('u', ['a'], k=3), Ranking)\n"
        "    assert_type(client.list_items(limit=3), AsyncIterator[ListedItem])\n"
        "    assert_type(await client.import_items([Item('a')]), Imported)\n"
        "    await client.similar_items()\n"
    )

    (tmp_path / "rankstream").symlink_to(Path(rankstream.client.__file__).resolve().parents[1])
    monkeypatch.setenv("MYPYPATH", str(tmp_path))
    flags = ["--strict", "--follow-imports=silent", "--ignore-missing-imports"]
    bases = ["--explicit-package-bases", "--config-file=", f"--cache-dir={tmp_path / 'cache'}"]
    out, err, _ = api.run([*flags, *bases, str(snippet)])

    ours = [line for line in out.splitlines() if "snippet.py" in line and ": error: " in line]
    assert len(ours) == 2, out + err
    assert ":8: error: " in ours[0]
    assert ":13: error: " in ours[1]


def run_async(running, use, **options):
    async def with_client():
        target = running.target
        async with AsyncClient(target, admin_target=target, **options) as client:
            return await use(client)

    return asyncio.run(with_client())


def test_every_single_answer_awaited(running, fake):
    """The same answers as of the blocking client, from the same requests."""

    async def use(client):
        return [
            await client.rank("u1", ["toy"], request_id="r"),
            await client.similar_items("toy", k=1),
            await client.explain("u1", ["toy"]),
            await client.get_item("toy"),
            await client.get_profile("u1"),
            await client.delete_items(["toy"]),
            await client.merge_profiles("guest", "u1"),
            await client.reset_profile("u1"),
            await client.purge_user("u1"),
            await client.upsert_user(User("u1")),
            await client.server_info(),
            await client.consumer_lag(),
        ]

    awaited = run_async(running, use)
    with running.client() as client:
        blocking = [
            client.rank("u1", ["toy"], request_id="r"),
            client.similar_items("toy", k=1),
            client.explain("u1", ["toy"]),
            client.get_item("toy"),
            client.get_profile("u1"),
            client.delete_items(["toy"]),
            client.merge_profiles("guest", "u1"),
            client.reset_profile("u1"),
            client.purge_user("u1"),
            client.upsert_user(User("u1")),
            client.server_info(),
            client.consumer_lag(),
        ]

    # The user was written between the two: all else is equal.
    assert awaited[:4] + awaited[5:] == blocking[:4] + blocking[5:]
    for method, asked in fake.requests.items():
        assert asked[0] == asked[1], method


def test_a_batch_awaited(running, fake):
    async def use(client):
        return await client.batch_rank([RankQuery(f"u{n}", request_id=str(n)) for n in range(10)])

    rankings = run_async(running, use)

    assert [ranking.request_id for ranking in rankings] == [str(n) for n in range(10)]
    assert sorted(len(r.requests) for r in fake.requests["BatchRank"]) == [2, 4, 4]


def test_a_failed_call_of_a_batch_awaited(running, fake, make_status):
    import grpc

    fake.max_batch = 2
    fake.fail("BatchRank", make_status(grpc.StatusCode.INTERNAL, "broke"))

    async def use(client):
        return await client.batch_rank([RankQuery(f"u{n}") for n in range(4)])

    answers = run_async(running, use, connections=1)

    assert [getattr(answer, "code", "OK") for answer in answers] == ["INTERNAL"] * 2 + ["OK"] * 2


def test_errors_awaited(running, fake, make_status):
    import grpc

    fake.fail("Rank", *[make_status(grpc.StatusCode.UNAVAILABLE, "restarting")] * 2)

    async def use(client):
        assert (await client.rank("u")).item_ids == ["toy", "b", "c"]
        with pytest.raises(InvalidArgument, match="^k: "):
            await client.rank("u", k=-1)
        with pytest.raises(Unavailable, match="not SERVING after 0.3 s: NOT_SERVING"):
            await client.wait_ready(timeout_s=0.3)

    running.set_health(False)
    run_async(running, use)
    assert len(fake.requests["Rank"]) == 3


def test_ready_awaited(running):
    running.set_health(True)

    run_async(running, lambda client: client.wait_ready(10))


def test_a_closed_client_awaited(running):
    async def use(client):
        await client.close()
        for call in (client.rank("u"), client.batch_rank([RankQuery("u")]), client.wait_ready(1)):
            with pytest.raises(FailedPrecondition, match="closed"):
                await call

    run_async(running, use)


def test_all_of_a_query_travels(client, fake):
    session = [Event("", "view", "toy", event_time_ms=5), Event("", "search", text="wool")]
    client.rank(
        session=session,
        query="warm",
        query_weight=2.0,
        filter=Filter.equals("brand", "Acme"),
        context={"device": "phone", "hour": 9, "new": True},
        block_weights={"text": 0.5},
        pooling=Pooling(half_life_s=60.0, type_weights={"view": 2}, profile_text_weight=0.0),
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


def test_a_query_may_stand_alone_and_a_vector_for_a_user(client, fake):
    client.rank(query="warm socks")
    client.rank(vector=np.ones(3), candidates=["toy"])

    alone, vector = fake.requests["Rank"]
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
        ({"user_id": "u", "candidates": ["a"], "filter": Filter.exists("x")}, "candidates"),
        ({"user_id": "u", "filter": "brand=Acme"}, "filter"),
        ({"user_id": "u", "filter": Filter.range("price", max=float("nan"))}, "filter.range.max"),
        ({"user_id": "u", "filter": ~Filter.equals("", 1)}, r"filter.none\[0\].column"),
        ({"user_id": "u", "context": {"a": None}}, r"context\[a\]"),
        ({"user_id": "u", "block_weights": {"text": "1"}}, r"block_weights\[text\]"),
        ({"user_id": "u", "pooling": Pooling(half_life_s=float("inf"))}, "pooling.half_life_s"),
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


def test_a_patch_names_what_it_changes(client, fake):
    patched = client.patch_item(
        "toy",
        {"price": 3.5, "attributes.colour": "red", "vectors.image": np.ones(2), "tags": ["a"]},
        clear=["brand"],
        if_version=99,
    )

    request = fake.requests["PatchItem"][0]
    assert list(request.update_mask.paths) == [
        *("price", "attributes.colour", "vectors.image", "tags", "brand")
    ]
    assert (request.item.item_id, request.item.price, request.if_version) == ("toy", 3.5, 99)
    assert request.item.attributes["colour"].text == "red"
    assert patched.item.tags == ("a",)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"colour": 1}, r"fields\[colour\]"),
        ({"item_id": "b"}, r"fields\[item_id\]"),
        ({"price.net": 1}, r"fields\[price.net\]"),
        ({"price": "free"}, "price"),
    ],
)
def test_a_wrong_patch_is_named(client, fake, fields, name):
    with pytest.raises(InvalidArgument, match=f"^{name}: "):
        client.patch_item("toy", fields)
    assert not fake.requests["PatchItem"]


def test_users_are_forgotten_and_merged(client, fake):
    assert client.merge_profiles("guest", "ann", min_token=b"t").moved == 7
    assert client.reset_profile("ann").watermark_ms == 500
    receipt = client.purge_user("ann")

    assert (receipt.watermark_ms, receipt.remains[0].place) == (500, "log")
    assert fake.requests["MergeProfiles"][0].read_after.min_token == b"t"


def test_what_is_known_of_a_user_comes_back(client):
    user = User("ann", {"sizes": ("M", "L"), "member": True}, ("wool",), ("app:7",))
    client.upsert_user(user)

    assert client.get_profile("ann").user == user
    assert client.get_profile("bob").user is None


def test_texts_are_tokenized(client):
    words, empty = client.tokenize(["red shoes", ""])

    assert words.token_ids.dtype == np.uint32
    assert (words.tokens, words.error) == (("red", "shoes"), None)
    assert isinstance(empty.error, InvalidArgument)


def test_items_are_deleted(client, fake):
    fake.refused_items.add("bad")

    deleted = client.delete_items(iter(["toy", "bad"]))

    assert [result.error is None for result in deleted.results] == [True, False]
    with pytest.raises(InvalidArgument, match="^item_ids: "):
        client.delete_items("toy")


def test_events_wait_until_they_are_applied(client, fake):
    event = Event(
        "u", "impression", "toy", text="t", position=3, session_id="s", platform="web",
        attributes={"list": "home"},
    )  # fmt: skip
    recorded = client.record_events([event], wait_applied=True, max_wait_ms=20)

    request = fake.requests["RecordEvents"][0]
    assert recorded.applied
    assert (request.wait_applied, request.max_wait_ms) == (True, 20)
    sent = request.events[0]
    assert (sent.position, sent.session_id, sent.platform, sent.text) == (3, "s", "web", "t")
    assert sent.attributes["list"].text == "home"


def test_a_record_makes_the_way_to_protobuf_and_back():
    from rankstream.client.records import event_from_pb, event_to_pb, item_from_pb, item_to_pb

    event = Event("u", "view", "i", 1.0, 2.0, 3, "e", "t", "s", "p", 4, {"a": True, "b": ("c",)})
    item = Item("i", "T", attributes={"stock": 3.0, "colour": "red"})

    assert event_from_pb(event_to_pb(event)) == event
    assert item_from_pb(item_to_pb(item)) == item
