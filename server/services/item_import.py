"""One import: items of a stream to the log, each counted, and told of in the order they came."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from rankstream.proto.v1 import catalog_pb2
from rankstream.server.boundary import status_of
from rankstream.server.errors import InvalidArgument, RankstreamError
from rankstream.server.services.item_writer import ItemWriter, Prepared
from rankstream.server.stream.publisher import Outcome, Written
from rankstream.server.stream.token import pack_token
from rankstream.server.types import Position

# Checked and encoded at once: others want the event loop too.
_SLICE = 64
_RECORD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Step:
    """What became of one request: where its first item stands in the stream, and all outcomes."""

    first: int
    items: Sequence[catalog_pb2.Item]
    outcomes: Sequence[Outcome]


class ItemImport:
    """What one stream has come to.

    Args:
        writer: writes to the log.
        topic_id: the items topic's.
        max_items: of one request.
    """

    def __init__(self, writer: ItemWriter, topic_id: bytes, max_items: int) -> None:
        self._writer = writer
        self._topic_id = topic_id
        self._max_items = max_items
        self._preparing = asyncio.Lock()
        self._read = 0
        self._accepted = 0
        self._rejected = 0
        self._furthest: dict[int, int] = {}

    async def write(self, request: catalog_pb2.ImportItemsRequest) -> Step:
        """Writes one request's items, after those of the requests before it.

        Raises:
            InvalidArgument: there are too many of them; none was written.
        """
        items, first = request.items, self._read
        if len(items) > self._max_items:
            problem = f"{len(items)} items from {first} on, the limit is {self._max_items}"
            raise InvalidArgument(field="items", problem=problem)
        self._read += len(items)
        async with self._preparing:
            prepared: list[Prepared] = []
            for start in range(0, len(items), _SLICE):
                if start:
                    await asyncio.sleep(0)
                part = enumerate(items[start : start + _SLICE], start)
                prepared += [self._writer.prepare(i, item) for i, item in part]
        # Nothing waits in between: requests come to the publisher in their order.
        outcomes = await self._writer.write(prepared, self._topic_id, patient=True)
        return Step(first, items, outcomes)

    def report(self, step: Step | None) -> catalog_pb2.ImportItemsProgress:
        """All counts up to a step, and the step's failures; None: at the end."""
        failures = []
        if step is not None:
            numbers = itertools.count(step.first)
            for index, item, outcome in zip(numbers, step.items, step.outcomes, strict=False):
                if isinstance(outcome, Written):
                    self._count(outcome)
                else:
                    failures.append(_failure(index, item, outcome))
            self._rejected += len(failures)
        return catalog_pb2.ImportItemsProgress(
            accepted=self._accepted,
            rejected=self._rejected,
            failures=failures,
            token=self._token(),
        )

    def _count(self, written: Written) -> None:
        self._accepted += 1
        known = self._furthest.get(written.partition, 0)
        self._furthest[written.partition] = max(known, written.offset + 1)

    def _token(self) -> bytes:
        if not self._furthest:
            return b""
        return pack_token(Position("items", self._topic_id, *p) for p in self._furthest.items())


def weight_of(request: catalog_pb2.ImportItemsRequest) -> int:
    """What a request counts for while it waits for the log, in records of at most 4 KiB."""
    return len(request.items) + request.ByteSize() // _RECORD_BYTES


def _failure(index: int, item: catalog_pb2.Item, error: RankstreamError) -> catalog_pb2.ItemFailure:
    return catalog_pb2.ItemFailure(index=index, item_id=item.item_id, status=status_of(error))
