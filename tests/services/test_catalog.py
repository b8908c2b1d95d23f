"""Patches, deletions and lists of items."""

import asyncio

import pytest
from catalog_case import attributed, priced
from google.rpc import code_pb2
from service_calls import Call, codes
from small_server import ITEMS_ID, item

from rankstream.proto.v1 import catalog_pb2, common_pb2
from rankstream.server.errors import (
    InvalidArgument,
    NotFound,
    StaleState,
    Unavailable,
    VersionMismatch,
)
from rankstream.server.stream.token import pack_token, unpack_token
from rankstream.server.types import Position


def test_a_patch_is_of_the_whole_item_and_answers_it(catalog):
    answer = catalog.run(catalog.patch(priced("sea", 3), "price"))

    assert answer.item == item("sea", "the sea", category="nature", price=3)
    assert catalog.get("sea").item == answer.item
    (record,) = catalog.log.records
    assert (record.key, catalog_pb2.Item.FromString(record.value)) == (b"sea", answer.item)
    assert unpack_token(answer.token) == [Position("items", ITEMS_ID, 0, 101)]


def test_only_a_patch_of_the_text_is_encoded(catalog):
    texts = catalog.server.encoder.texts
    texts.clear()

    catalog.run(catalog.patch(priced("sea", 3), "price"))
    catalog.run(catalog.patch(attributed("sea", "x"), "attributes.x"))
    assert texts == []
    catalog.run(catalog.patch(item("sea", "a lake"), "title"))

    assert texts == ["a lake. nature"]


def test_patches_at_one_moment_all_survive(catalog):
    catalog.log.at_once = False

    async def scenario():
        patches = [catalog.patch(attributed("sea", f"a{n}"), f"attributes.a{n}") for n in range(9)]
        patching = asyncio.gather(*patches)
        while not patching.done():
            await asyncio.sleep(0.002)
            catalog.log.apply()
        return await patching

    answers = catalog.run(scenario())

    assert [len(answer.item.attributes) for answer in answers] == list(range(1, 10))
    assert len(catalog.get("sea").item.attributes) == 9


def test_a_patch_is_of_what_this_worker_wrote_before(catalog):
    catalog.log.at_once = False

    async def scenario():
        request = catalog_pb2.UpsertItemsRequest(items=[item("sea", "new", price=1)])
        await catalog.service.UpsertItems(request, Call())
        patching = asyncio.create_task(catalog.patch(priced("sea", 2), "price"))
        await asyncio.sleep(0.002)
        catalog.log.apply()
        return await patching

    assert catalog.run(scenario()).item == item("sea", "new", price=2)


def test_a_patch_of_a_write_that_is_not_applied_in_time_is_refused(catalog):
    catalog.log.at_once = False

    async def scenario():
        await catalog.patch(priced("sea", 1), "price")
        with pytest.raises(StaleState, match="earlier write of 'sea' is not applied yet"):
            await catalog.patch(priced("sea", 2), "price", left=0.05)
        # Of another item nothing is waited for.
        await catalog.patch(priced("sky", 2), "price")

    catalog.run(scenario())
    assert len(catalog.log.records) == 2


def test_a_patch_waits_for_its_token(catalog):
    token = pack_token([Position("items", ITEMS_ID, 0, 101)])
    after = common_pb2.ReadAfter(min_token=token, max_wait_ms=20)

    async def scenario():
        with pytest.raises(StaleState, match="read_after.min_token"):
            await catalog.patch(priced("sea", 1), "price", read_after=after)

    catalog.run(scenario())
    assert catalog.log.records == []


def test_a_patch_of_another_version_is_refused(catalog):
    version = catalog.get("sea").version
    assert version == 7

    async def scenario():
        await catalog.patch(priced("sea", 1), "price", if_version=version)
        with pytest.raises(VersionMismatch, match="'sea' has version 1001, not 7"):
            await catalog.patch(priced("sea", 2), "price", if_version=version)
        await catalog.patch(priced("sea", 3), "price", if_version=1001)

    catalog.run(scenario())
    assert catalog.get("sea").item.price == 3


@pytest.mark.parametrize(
    ("patch", "paths", "error", "message"),
    [
        (priced("", 1), ["price"], InvalidArgument, "item.item_id: empty"),
        (priced("x" * 33, 1), ["price"], InvalidArgument, "item.item_id: longer than 32"),
        (priced("sea", 1), [], InvalidArgument, "update_mask: empty"),
        (priced("sea", 1), ["cost"], InvalidArgument, "update_mask.paths"),
        (priced("sea", 1), ["item_id"], InvalidArgument, "item_id cannot change"),
        (priced("sea", -1), ["price"], InvalidArgument, "item.price: -1.0"),
        (priced("sea", float("nan")), ["price"], InvalidArgument, "item.price: nan"),
        (item("sea", "t" * 51), ["title"], InvalidArgument, "item.title: 51 characters"),
        (item("sea", image=[1]), ["vectors.image"], InvalidArgument, "item.vectors\\['image'\\]"),
        (item("sea", tags=["x" * 30] * 20), ["tags"], InvalidArgument, "item: .* limit is 400"),
        (priced("never", 1), ["price"], NotFound, "does not hold 'never'"),
    ],
)
def test_a_patch_that_is_wrong_is_refused_and_nothing_is_written(
    catalog, patch, paths, error, message
):
    with pytest.raises(error, match=message):
        catalog.run(catalog.patch(patch, *paths))

    assert catalog.log.records == []


def test_a_patch_without_a_broker_says_so(catalog):
    catalog.log.away = 1

    with pytest.raises(Unavailable):
        catalog.run(catalog.patch(priced("sea", 1), "price"))
    catalog.run(catalog.patch(priced("sea", 2), "price"))


def test_each_deletion_has_its_own_result(catalog):
    request = catalog_pb2.DeleteItemsRequest(item_ids=["sea", "", "never", "a\0"])

    answer = catalog.run(catalog.service.DeleteItems(request, Call()))

    assert [r.item_id for r in answer.results] == ["sea", "", "never", "a\0"]
    invalid = code_pb2.INVALID_ARGUMENT
    assert codes(answer.results) == [code_pb2.OK, invalid, code_pb2.OK, invalid]
    assert answer.results[1].status.message.startswith("item_ids[1]: empty")
    assert [(r.key, r.value) for r in catalog.log.records] == [(b"sea", None), (b"never", None)]
    assert unpack_token(answer.token) == [Position("items", ITEMS_ID, 0, 102)]
    with pytest.raises(NotFound):
        catalog.get("sea")
    with pytest.raises(NotFound):
        catalog.run(catalog.patch(priced("sea", 1), "price"))


def test_too_many_deletions_are_refused(catalog):
    request = catalog_pb2.DeleteItemsRequest(item_ids=["x"] * 5)

    with pytest.raises(InvalidArgument, match="item_ids: 5 items, the limit is 4"):
        catalog.run(catalog.service.DeleteItems(request, Call()))


def test_items_are_listed_and_resumed(catalog):
    async def listed(**fields):
        call = catalog.service.ListItems(catalog_pb2.ListItemsRequest(**fields), Call())
        return [catalog_pb2.ListedItem.FromString(found) async for found in call]

    catalog.server.put(*(item(f"i{n}") for n in range(200)))
    whole = catalog.run(listed())
    begun = catalog.run(listed(limit=70))
    rest = catalog.run(listed(resume_token=begun[-1].resume_token))

    assert len({found.item.item_id for found in whole}) == len(whole) == 202
    assert begun + rest == whole
    assert catalog.run(listed(limit=0)) == []
    assert catalog.run(listed(resume_token=whole[-1].resume_token)) == []
    with pytest.raises(InvalidArgument, match="resume_token"):
        catalog.run(listed(resume_token=b"x"))
