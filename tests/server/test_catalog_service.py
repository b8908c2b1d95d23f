"""The catalogue's RPCs over real state and a log in memory that is applied at once, or later."""

import asyncio
import itertools
import os

import pytest
from google.rpc import code_pb2
from small_server import ITEMS_ID, TEMPLATE, item

from rankstream.proto.v1 import catalog_pb2, common_pb2
from rankstream.server.config import Limits
from rankstream.server.errors import (
    InvalidArgument,
    NotFound,
    StaleState,
    Unavailable,
    VersionMismatch,
)
from rankstream.server.freshness import Freshness
from rankstream.server.services.catalog import CatalogService
from rankstream.server.stream.indexer import ItemRecordIn
from rankstream.server.stream.item_codec import decode_item
from rankstream.server.stream.publisher import Written
from rankstream.server.stream.token import pack_token, unpack_token
from rankstream.server.types import Position, item_key

LIMITS = Limits(
    max_id_bytes=32,
    max_items=4,
    max_text_chars=50,
    max_record_bytes=400,
    max_import_in_flight=6,
)


class AppliedLog:
    """What ``Publisher`` and ingest are to a service: a record is in the state at once, or when
    ``apply`` is called."""

    def __init__(self, server, bell):
        self.server = server
        self.bell = bell
        self.records = []
        self.patient = set()
        self.applied = 0
        self.at_once = True
        self.away = 0
        self.gate = None
        self.running = 0

    async def publish(self, topic, records, *, patient=False):
        self.patient.add(patient)
        self.running += 1
        try:
            if self.gate is not None:
                await self.gate.acquire()
            await asyncio.sleep(0)
        finally:
            self.running -= 1
        if self.away:
            self.away -= 1
            msg = "no broker"
            raise Unavailable(msg)
        first = len(self.records)
        self.records += records
        if self.at_once:
            self.apply()
        return [Written(0, 100 + first + n) for n in range(len(records))]

    def apply(self):
        """Folds the next records into the state, and rings the bell."""
        for record in self.records[self.applied :]:
            self.applied += 1
            made = None
            if record.value is not None:
                blocks = self.server.layout.vectors
                made = decode_item(record.key, record.value, LIMITS, blocks, TEMPLATE)
            key, at = item_key(record.key.decode()), 1000 + self.applied
            position = Position("items", ITEMS_ID, 0, 100 + self.applied)
            commit = self.server.indexer.index(
                [ItemRecordIn(key, made, record.value or b"", at)], position
            )
            with self.server.store.write() as txn:
                commit.apply(txn)
        os.write(self.bell, b"!")


class Call:
    def __init__(self, left=None):
        self.left = left

    def time_remaining(self):
        return self.left


class Catalog:
    def __init__(self, server):
        self.server = server
        self.bell, rung = os.pipe()
        os.set_blocking(self.bell, False)
        self.rung = rung
        self.log = AppliedLog(server, rung)
        self.freshness = Freshness(server.store, self.bell, LIMITS.default_wait_ms / 1000)
        self.service = CatalogService(
            self.log,
            self.freshness,
            server.store,
            server.engine,
            server.layout,
            TEMPLATE,
            "i",
            LIMITS,
        )

    def run(self, scenario):
        async def heard():
            loop = asyncio.get_running_loop()
            self.freshness.listen(loop)
            try:
                found = await scenario
                assert asyncio.all_tasks() == {asyncio.current_task()}
                return found
            finally:
                loop.remove_reader(self.bell)

        return asyncio.run(heard())

    def patch(self, item, *paths, left=None, **fields):
        request = catalog_pb2.PatchItemRequest(item=item, update_mask={"paths": paths}, **fields)
        return self.service.PatchItem(request, Call(left))

    def get(self, item_id):
        request = catalog_pb2.GetItemRequest(item_id=item_id)
        return self.run(self.service.GetItem(request, Call()))

    def close(self):
        os.close(self.bell)
        os.close(self.rung)


@pytest.fixture
def catalog(server):
    server.put(item("sea", "the sea", category="nature"), item("sky", "the sky"))
    made = Catalog(server)
    yield made
    made.close()


def priced(item_id, price):
    return catalog_pb2.Item(item_id=item_id, price=price)


def attributed(item_id, name):
    value = common_pb2.AttributeValue(text=name)
    return catalog_pb2.Item(item_id=item_id, attributes={name: value})


def codes(entries):
    return [entry.status.code for entry in entries]


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


class Stream:
    """Requests of an import; counts how many were read."""

    def __init__(self, *requests):
        self.left = iter(requests)
        self.read = 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        try:
            items = next(self.left)
        except StopIteration:
            raise StopAsyncIteration from None
        self.read += 1
        return catalog_pb2.ImportItemsRequest(items=items)


async def imported(catalog, *requests):
    return [step async for step in catalog.service.ImportItems(Stream(*requests), Call())]


def counts(reports):
    return [(r.accepted, r.rejected) for r in reports]


def test_an_import_reports_what_is_in_the_log_and_ends_with_all_of_it(catalog):
    reports = catalog.run(
        imported(catalog, [item("a"), item("b")], [item("c")], [], [item("d"), item("e")])
    )

    assert counts(reports) == [(2, 0), (3, 0), (3, 0), (5, 0), (5, 0)]
    offsets = [unpack_token(r.token)[0].next_offset for r in reports]
    assert offsets == [102, 103, 103, 105, 105]
    assert [r.key for r in catalog.log.records] == [b"a", b"b", b"c", b"d", b"e"]
    assert catalog.log.patient == {True}
    assert catalog.get("e").item == item("e")


def test_an_empty_import_is_reported_once(catalog):
    (only,) = catalog.run(imported(catalog))

    assert only == catalog_pb2.ImportItemsProgress()


def test_a_bad_item_is_a_failure_with_its_place_in_the_stream(catalog):
    reports = catalog.run(
        imported(
            catalog,
            [item("a"), item(""), item("b")],
            [priced("c", -1)],
            [item("d"), item("e", "t" * 51)],
        )
    )

    assert counts(reports) == [(2, 1), (2, 2), (3, 3), (3, 3)]
    failures = [[(f.index, f.item_id) for f in r.failures] for r in reports]
    assert failures == [[(1, "")], [(3, "c")], [(5, "e")], []]
    assert reports[1].failures[0].status.code == code_pb2.INVALID_ARGUMENT
    assert reports[1].failures[0].status.message.startswith("items[0].price: ")


def test_an_import_goes_on_where_the_broker_was_away_for_a_time(catalog):
    catalog.log.away = 1

    reports = catalog.run(imported(catalog, [item("a")], [item("b"), item("c")]))

    assert counts(reports) == [(0, 1), (2, 1), (2, 1)]
    assert reports[0].failures[0].status.code == code_pb2.UNAVAILABLE
    assert reports[0].token == b""


def test_too_many_items_in_a_request_end_the_import_behind_what_came_before(catalog):
    reports = []

    async def scenario():
        requests = Stream([item("a")], [item("x")] * 5, [item("b")])
        async for report in catalog.service.ImportItems(requests, Call()):
            reports.append(report)

    with pytest.raises(InvalidArgument, match="items: 5 items from 1 on, the limit is 4"):
        catalog.run(scenario())
    assert counts(reports) == [(1, 0)]
    assert catalog.get("a").item == item("a")


@pytest.mark.parametrize("size", [1, 3])
def test_a_fast_sender_is_held_back(catalog, size):
    names = map(str, itertools.count())
    requests = Stream(*([item(next(names)) for _ in range(size)] for _ in range(30)))
    catalog.log.gate = asyncio.Semaphore(0)

    async def scenario():
        stream = catalog.service.ImportItems(requests, Call())
        reading = asyncio.create_task(anext(stream))
        await asyncio.sleep(0.01)
        held = requests.read
        catalog.log.gate.release()
        await reading
        await stream.aclose()
        return held, catalog.log.running

    # What is in flight weighs 6: one a request of one item, three a request of three.
    assert catalog.run(scenario()) == (6 // size, 0)


def test_what_was_acknowledged_stays_when_the_sender_goes(catalog):
    async def scenario():
        stream = catalog.service.ImportItems(Stream(*[[item(f"i{n}")] for n in range(9)]), Call())
        report = await anext(stream)
        await stream.aclose()
        return report

    assert catalog.run(scenario()).accepted == 1
    assert catalog.get("i0").item == item("i0")


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
