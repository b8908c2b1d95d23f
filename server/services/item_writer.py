"""Items to the log: checked, encoded, written, and remembered as this worker's own."""

from __future__ import annotations

from collections.abc import Sequence

from rankstream.proto.v1 import catalog_pb2
from rankstream.server.catalog.blocks import Layout
from rankstream.server.config import Limits
from rankstream.server.errors import RankstreamError
from rankstream.server.services.own_writes import OwnWrites
from rankstream.server.stream.checks import check_id, check_size
from rankstream.server.stream.item_codec import validate_item
from rankstream.server.stream.publisher import Outcome, Outgoing, Publisher, Written
from rankstream.server.types import Position

Prepared = Outgoing | RankstreamError


class ItemWriter:
    """Writes items and deletions.

    Args:
        publisher: to the log.
        topic: the items topic.
        layout: which vectors an item may have.
        limits: bounds.
    """

    def __init__(self, publisher: Publisher, topic: str, layout: Layout, limits: Limits) -> None:
        self.own = OwnWrites()
        self._publisher = publisher
        self._topic = topic
        self._layout = layout
        self._limits = limits

    def prepare(self, index: int, item: catalog_pb2.Item) -> Prepared:
        """The record of ``items[index]``, or what is wrong with it."""
        try:
            return self.record(item, f"items[{index}]")
        except RankstreamError as error:
            return error

    def record(self, item: catalog_pb2.Item, field: str) -> Outgoing:
        """The record of an item that stands at ``field``.

        Raises:
            InvalidArgument: it is not one that the log takes.
        """
        validate_item(item, self._limits, self._layout.vectors, field + ".")
        # Deterministic, so that the same item is the same bytes whichever worker wrote it.
        value = item.SerializeToString(deterministic=True)
        check_size(value, self._limits, field)
        return Outgoing(item.item_id.encode(), value)

    def prepare_deletion(self, index: int, item_id: str) -> Prepared:
        """The record that deletes ``item_ids[index]``, or what is wrong with it."""
        try:
            check_id(item_id, f"item_ids[{index}]", self._limits.max_id_bytes)
        except RankstreamError as error:
            return error
        return Outgoing(item_id.encode(), None)

    async def write(
        self, prepared: Sequence[Prepared], topic_id: bytes, *, patient: bool = False
    ) -> list[Outcome]:
        """Writes what is right; one outcome each, in order.

        Raises:
            Overloaded: too many bytes wait for the broker. With ``patient``, that is an outcome.
            Unavailable: the broker did not answer. With ``patient``, that is an outcome.
        """
        records = [p for p in prepared if isinstance(p, Outgoing)]
        try:
            written = await self._publisher.publish(self._topic, records, patient=patient)
        except RankstreamError as error:
            if not patient:
                raise
            written = [error] * len(records)
        for record, outcome in zip(records, written, strict=True):
            if isinstance(outcome, Written):
                place = Position("items", topic_id, outcome.partition, outcome.offset + 1)
                self.own.add(record.key.decode(), place)
        left = iter(written)
        return [next(left) if isinstance(p, Outgoing) else p for p in prepared]
