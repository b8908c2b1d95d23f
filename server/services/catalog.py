"""Catalog: whole items in, patches, deletions, and items out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from rankstream.proto.v1 import catalog_pb2, catalog_pb2_grpc
from rankstream.server.boundary import Context, deadline_of, status_of
from rankstream.server.catalog.blocks import Layout
from rankstream.server.config import Limits
from rankstream.server.encoder.text import ItemTemplate
from rankstream.server.engine import Engine
from rankstream.server.errors import (
    InvalidArgument,
    NotFound,
    RankstreamError,
    StaleState,
    VersionMismatch,
)
from rankstream.server.freshness import Freshness
from rankstream.server.item_record import ItemRecord
from rankstream.server.services.item_import import ItemImport, weight_of
from rankstream.server.services.item_list import read_page, unpack_resume
from rankstream.server.services.item_patch import item_paths, patched
from rankstream.server.services.item_writer import ItemWriter
from rankstream.server.services.outcomes import token_of
from rankstream.server.services.streams import message_deadline, ordered
from rankstream.server.store import Store
from rankstream.server.stream.checks import check_id
from rankstream.server.stream.item_codec import item_text
from rankstream.server.stream.publisher import Outcome, Publisher
from rankstream.server.types import Head, ReadAfter, item_key
from rankstream.server.wire import read_after_from_pb


class CatalogService(catalog_pb2_grpc.CatalogServicer):
    """Items are written to the log and read from the state."""

    def __init__(
        self,
        publisher: Publisher,
        freshness: Freshness,
        store: Store,
        engine: Engine,
        layout: Layout,
        template: ItemTemplate,
        topic: str,
        limits: Limits,
    ) -> None:
        self._writer = ItemWriter(publisher, topic, layout, limits)
        self._freshness = freshness
        self._store = store
        self._engine = engine
        self._layout = layout
        self._template = template
        self._limits = limits

    async def UpsertItems(  # noqa: N802 - the name that gRPC gives
        self, request: catalog_pb2.UpsertItemsRequest, context: Context
    ) -> catalog_pb2.UpsertItemsResponse:
        """Writes each valid item; answers when the log has them."""
        self._check_count(request.items, "items")
        topic_id = self._freshness.topic_id("items")
        prepared = [self._writer.prepare(i, item) for i, item in enumerate(request.items)]
        outcomes = await self._writer.write(prepared, topic_id)
        return catalog_pb2.UpsertItemsResponse(
            results=_results([item.item_id for item in request.items], outcomes),
            token=token_of("items", topic_id, outcomes),
        )

    async def DeleteItems(  # noqa: N802
        self, request: catalog_pb2.DeleteItemsRequest, context: Context
    ) -> catalog_pb2.DeleteItemsResponse:
        """Writes a deletion for each valid id, known or not."""
        self._check_count(request.item_ids, "item_ids")
        topic_id = self._freshness.topic_id("items")
        named = enumerate(request.item_ids)
        prepared = [self._writer.prepare_deletion(i, item_id) for i, item_id in named]
        outcomes = await self._writer.write(prepared, topic_id)
        return catalog_pb2.DeleteItemsResponse(
            results=_results(request.item_ids, outcomes),
            token=token_of("items", topic_id, outcomes),
        )

    async def ImportItems(  # noqa: N802
        self, requests: AsyncIterator[catalog_pb2.ImportItemsRequest], context: Context
    ) -> AsyncGenerator[catalog_pb2.ImportItemsProgress, None]:
        """Writes the items of a stream: a report a request, and one at the end."""
        limits, topic_id = self._limits, self._freshness.topic_id("items")
        work = ItemImport(self._writer, topic_id, limits.max_items)
        most = limits.max_import_in_flight
        async with aclosing(ordered(requests, work.write, most=most, weigh=weight_of)) as steps:
            async for step in steps:
                yield work.report(step)
        yield work.report(None)

    async def PatchItem(  # noqa: N802
        self, request: catalog_pb2.PatchItemRequest, context: Context
    ) -> catalog_pb2.PatchItemResponse:
        """Writes an item again, with what the mask names as the request has it."""
        item_id, limits = request.item.item_id, self._limits
        check_id(item_id, "item.item_id", limits.max_id_bytes)
        paths = item_paths(request.update_mask.paths, limits, self._layout.vectors)
        after = read_after_from_pb(request.read_after, limits)
        deadline = deadline_of(context, limits.default_timeout_s)
        topic_id = self._freshness.topic_id("items")
        async with self._writer.own.turn(item_id, deadline):
            await self._freshness.wait(after, deadline)
            await self._wait_for_own(item_id, topic_id, deadline)
            record, _ = self._item(item_id)
            if request.HasField("if_version") and request.if_version != record.updated_at_ms:
                raise VersionMismatch(item_id, record.updated_at_ms, request.if_version)
            item = patched(catalog_pb2.Item.FromString(record.payload), request.item, paths)
            outcomes = await self._writer.write([self._writer.record(item, "item")], topic_id)
        if isinstance(outcomes[0], RankstreamError):
            raise outcomes[0]
        return catalog_pb2.PatchItemResponse(item=item, token=token_of("items", topic_id, outcomes))

    async def GetItem(  # noqa: N802
        self, request: catalog_pb2.GetItemRequest, context: Context
    ) -> catalog_pb2.GetItemResponse:
        """One live item, as it is ranked."""
        check_id(request.item_id, "item_id", self._limits.max_id_bytes)
        deadline = deadline_of(context, self._limits.default_timeout_s)
        await self._freshness.wait(read_after_from_pb(request.read_after, self._limits), deadline)
        record, head = self._item(request.item_id)
        item = catalog_pb2.Item.FromString(record.payload)
        return catalog_pb2.GetItemResponse(
            item=item,
            item_row=record.row,
            text=item_text(item, self._template),
            bias=self._engine.bias_of(record.row),
            generation=head.generation,
            catalogue_version=head.catalogue_version,
            version=record.updated_at_ms,
        )

    async def ListItems(  # noqa: N802
        self, request: catalog_pb2.ListItemsRequest, context: Context
    ) -> AsyncGenerator[Any, None]:
        """All live items, as ``ListedItem``; one that changes meanwhile comes once at most."""
        behind = unpack_resume(request.resume_token)
        after = read_after_from_pb(request.read_after, self._limits)
        deadline = message_deadline(context, self._limits.default_timeout_s)
        await self._freshness.wait(after, deadline)
        left = request.limit if request.HasField("limit") else None
        while page := read_page(self._store, behind, left):
            for record in page:
                yield record.to_pb()
            behind = page[-1].key
            left = None if left is None else left - len(page)

    def _check_count(self, given: Sequence[Any], field: str) -> None:
        if len(given) > self._limits.max_items:
            problem = f"{len(given)} items, the limit is {self._limits.max_items}"
            raise InvalidArgument(field, problem)

    def _item(self, item_id: str) -> tuple[ItemRecord, Head]:
        with self._store.read() as view:
            record, head = view.item(item_key(item_id)), view.head()
        if record is None or record.item_id != item_id:
            msg = f"item_id: the catalogue does not hold {item_id!r} (yet)"
            raise NotFound(msg)
        return record, head

    async def _wait_for_own(self, item_id: str, topic_id: bytes, deadline: float) -> None:
        """Until the state has what this worker wrote of an item before."""
        wanted = self._writer.own.newest(item_id, topic_id)
        wait_s = self._limits.max_wait_ms / 1000
        try:
            await self._freshness.wait(ReadAfter(wanted, wait_s, allow_stale=False), deadline)
        except StaleState:
            msg = f"item.item_id: an earlier write of {item_id!r} is not applied yet; try again"
            raise StaleState(msg) from None


def _results(item_ids: Sequence[str], outcomes: Sequence[Outcome]) -> list[catalog_pb2.ItemResult]:
    return [
        catalog_pb2.ItemResult(
            item_id=item_id,
            status=status_of(outcome) if isinstance(outcome, RankstreamError) else None,
        )
        for item_id, outcome in zip(item_ids, outcomes, strict=True)
    ]
