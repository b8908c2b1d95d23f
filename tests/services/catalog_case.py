"""The catalogue's service over real state and a log in memory that is applied at once, or later."""

import asyncio
import os

import pytest
from service_calls import Call
from small_server import ITEMS_ID, TEMPLATE, item

from rankstream.proto.v1 import catalog_pb2, common_pb2
from rankstream.server.config import Limits
from rankstream.server.errors import Unavailable
from rankstream.server.freshness import Freshness
from rankstream.server.services.catalog import CatalogService
from rankstream.server.stream.indexer import ItemRecordIn
from rankstream.server.stream.item_codec import decode_item
from rankstream.server.stream.publisher import Written
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


class Catalog:
    """The catalogue's service, its log, and the bell between them."""

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
    """The catalogue's service over two items."""
    server.put(item("sea", "the sea", category="nature"), item("sky", "the sky"))
    made = Catalog(server)
    yield made
    made.close()


def priced(item_id, price):
    return catalog_pb2.Item(item_id=item_id, price=price)


def attributed(item_id, name):
    value = common_pb2.AttributeValue(text=name)
    return catalog_pb2.Item(item_id=item_id, attributes={name: value})
