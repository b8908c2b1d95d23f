"""Imports, patches, deletions and lists over a whole server, and the encoder's stream."""

import asyncio

import grpc
import numpy as np
import pytest
from requests_to import (
    TITLES,
    after,
    catalogue,
    ids_of,
    info,
    log_of,
    rank,
    refused,
    rows_of,
    upsert,
)

from rankstream.proto.v1 import catalog_pb2, catalog_pb2_grpc, common_pb2, encoder_pb2

StatusCode = grpc.StatusCode


@pytest.fixture(scope="module")
def server(serve_shared):
    started = serve_shared(vectors="image:3:0.5").start()
    upsert(started, catalogue())
    yield started
    assert "Traceback" not in started.log


def imports(server, *requests):
    sent = (catalog_pb2.ImportItemsRequest(items=items) for items in requests)
    return list(server.catalog.ImportItems(sent, timeout=60))


def small(*names):
    """Items without a text of their own, so that many are encoded at once."""
    return [catalog_pb2.Item(item_id=name, title="one and the same") for name in names]


def get(server, item_id, token=b""):
    request = catalog_pb2.GetItemRequest(item_id=item_id, read_after=after(token))
    return server.catalog.GetItem(request, timeout=20)


def patch(server, item, *paths, **fields):
    request = catalog_pb2.PatchItemRequest(item=item, update_mask={"paths": paths}, **fields)
    return server.catalog.PatchItem(request, timeout=20)


def delete(server, *item_ids):
    request = catalog_pb2.DeleteItemsRequest(item_ids=item_ids)
    return server.catalog.DeleteItems(request, timeout=20)


def listed(server, **fields):
    return list(server.catalog.ListItems(catalog_pb2.ListItemsRequest(**fields), timeout=20))


def priced(item_id, price):
    return catalog_pb2.Item(item_id=item_id, price=price)


def test_an_import_can_be_read_behind_its_last_report(server):
    names = [f"import-{n}" for n in range(3000)]
    bad = catalog_pb2.Item(item_id="import-bad", price=-1)
    requests = [small(*names[start : start + 300]) for start in range(0, 3000, 300)]

    *reports, last = imports(server, *requests[:4], [bad], *requests[4:])

    assert [r.accepted + r.rejected for r in reports] == [
        300, 600, 900, 1200, 1201, 1501, 1801, 2101, 2401, 2701, 3001
    ]  # fmt: skip
    assert (last.accepted, last.rejected, len(last.failures)) == (3000, 1, 0)
    (failure,) = reports[4].failures
    assert (failure.index, failure.item_id) == (1200, "import-bad")
    assert get(server, names[-1], last.token).item.title == "one and the same"
    every = {found.item.item_id for found in listed(server)}
    assert set(names) <= every
    assert "import-bad" not in every


def test_what_was_acknowledged_stays_when_the_sender_goes(server):
    async def scenario():
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            call = catalog_pb2_grpc.CatalogStub(channel).ImportItems()
            await call.write(catalog_pb2.ImportItemsRequest(items=small("gone-1", "gone-2")))
            report = await call.read()
            await call.write(catalog_pb2.ImportItemsRequest(items=small("gone-3")))
            call.cancel()
            return report

    report = asyncio.run(scenario())

    assert report.accepted == 2
    assert get(server, "gone-2", report.token).item.item_id == "gone-2"


def test_a_sender_that_reads_nothing_is_held_back_and_nothing_is_lost(server):
    bad = [catalog_pb2.Item(item_id="x" * 250 + "\0") for _ in range(20)]
    request, most = catalog_pb2.ImportItemsRequest(items=bad), 20_000

    async def scenario():
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            call = catalog_pb2_grpc.CatalogStub(channel).ImportItems()
            sent, held = 0, None
            while held is None and sent < most:
                writing = asyncio.ensure_future(call.write(request))
                _, pending = await asyncio.wait({writing}, timeout=2)
                sent, held = sent + 1, pending.pop() if pending else None
            reports = []
            reading = asyncio.ensure_future(take(call, reports))
            if held is not None:
                await held
            await call.done_writing()
            await reading
            return sent, reports

    sent, reports = asyncio.run(scenario())

    assert sent < most
    assert len(reports) == sent + 1
    assert reports[-1].rejected == 20 * sent


async def take(call, reports):
    async for report in call:
        reports.append(report)


def test_a_request_of_too_many_items_ends_the_import(server):
    with refused(StatusCode.INVALID_ARGUMENT, "1001 items from 1 on", field="items"):
        imports(server, small("first"), small(*map(str, range(1001))))


def test_patches_one_after_the_other_all_survive(server):
    upsert(server, [catalog_pb2.Item(item_id="patched", title="A lake", brand="b", tags=["t"])])
    before = get(server, "patched")

    first = patch(server, priced("patched", 5), "price")
    behind = patch(
        server,
        catalog_pb2.Item(item_id="patched", category="water"),
        "category",
        "tags",
        read_after=after(first.token),
    )
    # Without a token, through the same worker.
    last = patch(server, catalog_pb2.Item(item_id="patched"), "brand")

    found = get(server, "patched", last.token)
    assert found.item == last.item
    assert found.item == catalog_pb2.Item(
        item_id="patched", title="A lake", price=5, category="water"
    )
    assert behind.item.brand == "b"
    assert found.version >= before.version > 10**12


def test_a_patch_of_an_older_version_is_refused(server):
    upsert(server, small("versioned"))
    seen = get(server, "versioned")
    changed = patch(server, priced("versioned", 1), "price", if_version=seen.version)
    now = get(server, "versioned", changed.token)

    with refused(StatusCode.FAILED_PRECONDITION, f"version {now.version}, not 1:"):
        patch(server, priced("versioned", 2), "price", if_version=1)
    patch(server, priced("versioned", 3), "price", if_version=now.version)


def test_a_vector_and_an_attribute_are_patched_alone(server):
    vector = common_pb2.Vector(
        data=np.array([1, 2, 3], "<f4").tobytes(), dtype=common_pb2.Vector.FLOAT32, shape=[3]
    )
    red, large = (common_pb2.AttributeValue(text=t) for t in ("red", "large"))
    upsert(server, [catalog_pb2.Item(item_id="parts", attributes={"colour": red, "size": large})])

    patch(
        server,
        catalog_pb2.Item(item_id="parts", vectors={"image": vector}),
        "vectors.image",
        "attributes.size",
    )

    found = patch(server, catalog_pb2.Item(item_id="parts", title="t"), "title").item
    assert dict(found.attributes) == {"colour": red}
    assert dict(found.vectors) == {"image": vector}


@pytest.mark.parametrize(
    ("item", "paths", "code", "field"),
    [
        (priced("toy", 1), [], StatusCode.INVALID_ARGUMENT, "update_mask"),
        (priced("toy", 1), ["cost"], StatusCode.INVALID_ARGUMENT, "update_mask.paths[0]"),
        (priced("toy", 1), ["item_id"], StatusCode.INVALID_ARGUMENT, "update_mask.paths[0]"),
        (priced("toy", -1), ["price"], StatusCode.INVALID_ARGUMENT, "item.price"),
        (priced("", 1), ["price"], StatusCode.INVALID_ARGUMENT, "item.item_id"),
        (priced("nobody", 1), ["price"], StatusCode.NOT_FOUND, ""),
    ],
)
def test_a_patch_that_is_wrong_is_refused(server, item, paths, code, field):
    with refused(code, field=field):
        patch(server, item, *paths)


def test_what_is_deleted_is_gone_behind_the_token(server):
    upsert(server, small("doomed-1", "doomed-2"))

    answer = delete(server, "doomed-1", "", "never was", "doomed-2")

    invalid = StatusCode.INVALID_ARGUMENT.value[0]
    assert [r.status.code for r in answer.results] == [0, invalid, 0, 0]
    left = rank(server, "d", ["toy", "doomed-1", "doomed-2"], answer.token)
    assert ids_of(left) == ["toy"]
    assert list(left.missing_item_ids) == ["doomed-1", "doomed-2"]
    with refused(StatusCode.NOT_FOUND, "doomed-1"):
        get(server, "doomed-1")
    with refused(StatusCode.NOT_FOUND, "doomed-2"):
        patch(server, priced("doomed-2", 1), "price")
    tombs = [r.key for r in log_of(server, "items") if r.value is None]
    assert {b"doomed-1", b"doomed-2", b"never was"} <= set(tombs)


def test_what_was_deleted_can_come_again(server):
    upsert(server, small("phoenix"))
    token = delete(server, "phoenix").token
    assert list(rank(server, "d", ["phoenix"], token).missing_item_ids) == ["phoenix"]

    upsert(server, small("phoenix"))

    assert ids_of(rank(server, "d", ["phoenix"])) == ["phoenix"]


def test_the_list_is_whole_in_order_and_goes_on_anywhere(server):
    whole = listed(server)
    names = [found.item.item_id for found in whole]

    assert set(TITLES) <= set(names)
    assert len(set(names)) == len(names) == info(server).items
    begun = listed(server, limit=3)
    rest = listed(server, resume_token=begun[-1].resume_token)
    assert begun + rest == whole
    with refused(StatusCode.INVALID_ARGUMENT, "resume_token", field="resume_token"):
        listed(server, resume_token=b"L1nonsense")


def test_a_list_that_is_cancelled_ends(server):
    imports(server, small(*(f"listed-{n}" for n in range(1000))))
    call = server.catalog.ListItems(catalog_pb2.ListItemsRequest(), timeout=20)
    assert next(call).item.item_id
    call.cancel()

    with refused(StatusCode.CANCELLED):
        list(call)
    assert len(listed(server, limit=5)) == 5


def test_the_encoders_stream_answers_as_embed_does(server):
    requests = [encoder_pb2.EmbedRequest(texts=[f"text {n}", title]) for n, (title, _) in
                enumerate(TITLES.values())]  # fmt: skip
    bad = encoder_pb2.EmbedRequest(texts=["x"] * 513)

    *answers, refused_one, last = server.encoder.EmbedStream(
        iter([*requests, bad, requests[0]]), timeout=60
    )

    for answer, request in zip([*answers, last], [*requests, requests[0]], strict=True):
        alone = server.encoder.Embed(request, timeout=20)
        assert rows_of(answer) == pytest.approx(rows_of(alone), abs=0.02)
        assert [r.tokens for r in answer.results] == [r.tokens for r in alone.results]
    invalid = StatusCode.INVALID_ARGUMENT.value[0]
    assert {r.status.code for r in refused_one.results} == {invalid}


def test_texts_are_tokenized_as_the_encoder_reads_them(server):
    texts = ["a film", "", "word " * 2000, "Amélie 🎬"]

    answer = server.encoder.Tokenize(encoder_pb2.TokenizeRequest(texts=texts), timeout=20)

    embedded = server.encoder.Embed(encoder_pb2.EmbedRequest(texts=texts), timeout=20)
    assert [len(t.token_ids) for t in answer.texts] == [r.tokens for r in embedded.results]
    assert [t.truncated for t in answer.texts] == [False, False, True, False]
    assert list(answer.texts[0].tokens) == ["[CLS]", "a", "film", "[SEP]"]
    assert all(len(t.tokens) == len(t.token_ids) for t in answer.texts)
