"""``Client`` and ``AsyncClient`` are one set of calls."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import pytest

import rankstream.client
from rankstream.client import AsyncClient, Client, Unavailable
from rankstream.client.connections import NOT_RETRIED

SERVICES = ("admin", "catalog", "encoder", "events", "profiles", "ranking")
EXPORTED = """
AppliedOffset AsyncClient BadRecord BlockInfo Cancelled Client ConsumerLag Contribution
Credentials DataLoss DeadlineExceeded Deleted DeliveryFailed EmbedResult Embeddings EncoderInfo
EncoderWork Event EventAck EventProducer EventResult EventTypeInfo ExplainedItem Explanation
FailedPrecondition FieldViolation Filter Freshness GenerationInfo ImportFailure ImportProgress
Imported Interaction Internal InvalidArgument Item ItemResult Limit ListedItem Merged NotFound
PartitionLag Patched PermissionDenied Pooling Profile Purged RankQuery RankedItem Ranking
RankstreamError Reason RecordReader Recorded ReindexProgress Remainder Reset ResourceExhausted
Sent ServedBy ServerInfo StoredItem Timing TokenizedText Unauthenticated Unavailable Unimplemented
Upserted User item_key item_keys read_events read_items
"""
METHODS = """
batch_rank cancel_reindex close consumer_lag delete_items drop_generation embed embed_stream
explain export_user get_item get_profile import_events import_items list_items merge_profiles
patch_item purge_user rank record_events reindex reset_profile rollback_reindex server_info
similar_items stream_events stream_rank tokenize upsert_items upsert_user wait_ready watch_reindex
"""
STREAMS = {
    *("embed_stream", "export_user", "list_items", "stream_events", "stream_rank"),
    *("reindex", "rollback_reindex", "watch_reindex"),
}


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
