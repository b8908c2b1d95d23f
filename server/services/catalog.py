"""Catalog: whole items in, one item out."""

from __future__ import annotations

from rankstream.proto.v1 import catalog_pb2, catalog_pb2_grpc
from rankstream.server.catalog.blocks import Layout
from rankstream.server.config import Limits
from rankstream.server.encoder.text import ItemTemplate
from rankstream.server.engine import Engine
from rankstream.server.errors import InvalidArgument, NotFound, RankstreamError
from rankstream.server.freshness import Freshness
from rankstream.server.interceptors import Context, deadline_of, status_of
from rankstream.server.services.outcomes import token_of
from rankstream.server.store import Store
from rankstream.server.stream.codec import check_id, check_size
from rankstream.server.stream.item_codec import item_text, validate_item
from rankstream.server.stream.publisher import Outgoing, Publisher
from rankstream.server.types import item_key
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
        self._publisher = publisher
        self._freshness = freshness
        self._store = store
        self._engine = engine
        self._layout = layout
        self._template = template
        self._topic = topic
        self._limits = limits

    async def UpsertItems(  # noqa: N802 - the name that gRPC gives
        self, request: catalog_pb2.UpsertItemsRequest, context: Context
    ) -> catalog_pb2.UpsertItemsResponse:
        """Writes each valid item; answers when the log has them."""
        count, limit = len(request.items), self._limits.max_items
        if count > limit:
            raise InvalidArgument(field="items", problem=f"{count} items, the limit is {limit}")
        topic_id = self._freshness.topic_id("items")
        prepared = [self._prepare(i, item) for i, item in enumerate(request.items)]
        records = [p for p in prepared if isinstance(p, Outgoing)]
        outcomes = await self._publisher.publish(self._topic, records)
        response = catalog_pb2.UpsertItemsResponse(token=token_of("items", topic_id, outcomes))
        left = iter(outcomes)
        for item, known in zip(request.items, prepared, strict=True):
            outcome = next(left) if isinstance(known, Outgoing) else known
            status = status_of(outcome) if isinstance(outcome, RankstreamError) else None
            response.results.add(status=status, item_id=item.item_id)
        return response

    async def GetItem(  # noqa: N802
        self, request: catalog_pb2.GetItemRequest, context: Context
    ) -> catalog_pb2.GetItemResponse:
        """One live item, as it is ranked."""
        check_id(request.item_id, "item_id", self._limits.max_id_bytes)
        deadline = deadline_of(context, self._limits.default_timeout_s)
        await self._freshness.wait(read_after_from_pb(request.read_after, self._limits), deadline)
        with self._store.read() as view:
            record, head = view.item(item_key(request.item_id)), view.head()
        if record is None or record.item_id != request.item_id:
            msg = f"item_id: the catalogue does not hold {request.item_id!r} (yet)"
            raise NotFound(msg)
        item = catalog_pb2.Item.FromString(record.payload)
        return catalog_pb2.GetItemResponse(
            item=item,
            item_row=record.row,
            text=item_text(item, self._template),
            bias=self._engine.bias_of(record.row),
            generation=head.generation,
            catalogue_version=head.catalogue_version,
        )

    def _prepare(self, index: int, item: catalog_pb2.Item) -> Outgoing | RankstreamError:
        field = f"items[{index}]."
        try:
            validate_item(item, self._limits, self._layout.vectors, field)
            # Deterministic, so that the same item is the same bytes whichever worker wrote it.
            value = item.SerializeToString(deterministic=True)
            check_size(value, self._limits, f"items[{index}]")
        except RankstreamError as error:
            return error
        return Outgoing(item.item_id.encode(), value)
