"""Imports of items: what is reported, refused, held back and kept."""

import asyncio
import itertools

import pytest
from catalog_case import priced
from google.rpc import code_pb2
from service_calls import Call, Requests
from small_server import item

from rankstream.proto.v1 import catalog_pb2
from rankstream.server.errors import InvalidArgument
from rankstream.server.stream.token import unpack_token


def sent(*requests):
    """The stream of requests with these items."""
    return Requests(*(catalog_pb2.ImportItemsRequest(items=items) for items in requests))


async def imported(catalog, *requests):
    return [step async for step in catalog.service.ImportItems(sent(*requests), Call())]


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
        requests = sent([item("a")], [item("x")] * 5, [item("b")])
        async for report in catalog.service.ImportItems(requests, Call()):
            reports.append(report)

    with pytest.raises(InvalidArgument, match="items: 5 items from 1 on, the limit is 4"):
        catalog.run(scenario())
    assert counts(reports) == [(1, 0)]
    assert catalog.get("a").item == item("a")


@pytest.mark.parametrize("size", [1, 3])
def test_a_fast_sender_is_held_back(catalog, size):
    names = map(str, itertools.count())
    requests = sent(*([item(next(names)) for _ in range(size)] for _ in range(30)))
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
        stream = catalog.service.ImportItems(sent(*[[item(f"i{n}")] for n in range(9)]), Call())
        report = await anext(stream)
        await stream.aclose()
        return report

    assert catalog.run(scenario()).accepted == 1
    assert catalog.get("i0").item == item("i0")
