"""Events: validated, given an id where they have none, written to the log."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from rankstream.proto.v1 import events_pb2, events_pb2_grpc
from rankstream.server.boundary import Context, deadline_of, status_of
from rankstream.server.errors import InvalidArgument, NotOwned, Overloaded, RankstreamError
from rankstream.server.freshness import Freshness
from rankstream.server.services.event_intake import EventIntake, Prepared
from rankstream.server.services.event_stream import EventStream
from rankstream.server.services.gathered import gathered
from rankstream.server.services.outcomes import positions_of
from rankstream.server.services.streams import ordered
from rankstream.server.store import Store
from rankstream.server.stream.publisher import Outcome
from rankstream.server.stream.token import pack_token
from rankstream.server.types import Position, ReadAfter

# Of one stream: while one is on its way, the next one gathers what comes.
_BATCHES = 2

# An event that is larger than this counts as several of those that may be in flight.
_USUAL_BYTES = 4096


class EventsService(events_pb2_grpc.EventsServicer):
    """Three ways to hand over events: some and an answer, a stream of both, many and an answer."""

    def __init__(self, intake: EventIntake, freshness: Freshness, store: Store) -> None:
        self._intake = intake
        self._freshness = freshness
        self._store = store
        self._limits = intake.limits

    async def RecordEvents(  # noqa: N802 - the name that gRPC gives
        self, request: events_pb2.RecordEventsRequest, context: Context
    ) -> events_pb2.RecordEventsResponse:
        """Writes each valid event; answers when the log has them, or the state, where asked."""
        count, limit = len(request.events), self._limits.max_events
        if count > limit:
            raise InvalidArgument(field="events", problem=f"{count} events, the limit is {limit}")
        wait_s = self._wait_s(request)
        deadline = deadline_of(context, self._limits.default_timeout_s)
        topic_id = self._freshness.topic_id("events")
        prepared = self._prepare(request.events)
        outcomes = await self._intake.write(prepared)
        written = positions_of("events", topic_id, outcomes)
        response = events_pb2.RecordEventsResponse(token=pack_token(written) if written else b"")
        for event, known, outcome in zip(request.events, prepared, outcomes, strict=True):
            status = status_of(outcome) if isinstance(outcome, RankstreamError) else None
            assigned = isinstance(known, Prepared) and known.assigned
            response.results.add(status=status, event_id=event.event_id, event_id_assigned=assigned)
        if request.wait_applied:
            response.applied = await self._applied(written, wait_s, deadline)
        return response

    async def StreamEvents(  # noqa: N802 - the name that gRPC gives
        self, request_iterator: AsyncIterator[events_pb2.Event], context: Context
    ) -> AsyncGenerator[events_pb2.EventAck, None]:
        """Acknowledges each event when the log has it, in the order of the events."""
        stream = EventStream(self._intake, self._store, self._freshness.topic_id("events"))
        # As many as are in flight wait to be taken up, and to be acknowledged, at most.
        share = max(1, self._limits.max_stream_events // (2 * _BATCHES))
        async with (
            aclosing(gathered(request_iterator, share, _weigh)) as batches,
            aclosing(ordered(batches, stream.write, most=_BATCHES)) as done,
        ):
            async for entries in done:
                for entry in entries:
                    yield stream.acknowledge(entry)

    async def ImportEvents(  # noqa: N802 - the name that gRPC gives
        self, request_iterator: AsyncIterator[events_pb2.ImportEventsRequest], context: Context
    ) -> events_pb2.ImportEventsResponse:
        """Writes each valid event of many; answers when the log has them all."""
        topic_id = self._freshness.topic_id("events")
        response = events_pb2.ImportEventsResponse()
        furthest: dict[int, Position] = {}
        parts = _parts(request_iterator, max(1, self._limits.max_stream_events // 2))
        most = self._limits.max_stream_events
        async with (
            aclosing(parts),
            aclosing(ordered(parts, self._import, most=most, weigh=_weigh_part)) as done,
        ):
            async for outcomes in done:
                self._add(response, outcomes)
                for position in positions_of("events", topic_id, outcomes):
                    known = furthest.setdefault(position.partition, position)
                    furthest[position.partition] = max(known, position)
        response.token = pack_token(furthest.values()) if furthest else b""
        return response

    def _prepare(
        self, events: Sequence[events_pb2.Event], first: int = 0
    ) -> list[Prepared | RankstreamError]:
        prepared: list[Prepared | RankstreamError] = []
        for index, event in enumerate(events, first):
            try:
                prepared.append(self._intake.prepare(event, f"events[{index}]"))
            except RankstreamError as error:
                prepared.append(error)
        return prepared

    async def _import(self, part: tuple[int, Sequence[events_pb2.Event]]) -> list[Outcome]:
        first, events = part
        return await self._intake.write(self._prepare(events, first), patient=True)

    def _add(self, response: events_pb2.ImportEventsResponse, outcomes: Sequence[Outcome]) -> None:
        """Counts a part of an import, which begins behind what is counted already."""
        first = response.accepted + response.rejected
        for index, outcome in enumerate(outcomes, first):
            if not isinstance(outcome, RankstreamError):
                response.accepted += 1
                continue
            response.rejected += 1
            if len(response.failures) < self._limits.max_import_failures:
                response.failures.add(index=index, status=status_of(outcome))

    def _wait_s(self, request: events_pb2.RecordEventsRequest) -> float | None:
        if request.max_wait_ms > self._limits.max_wait_ms:
            problem = f"{request.max_wait_ms}, the limit is {self._limits.max_wait_ms}"
            raise InvalidArgument(field="max_wait_ms", problem=problem)
        return request.max_wait_ms / 1000 if request.HasField("max_wait_ms") else None

    async def _applied(
        self, written: Sequence[Position], wait_s: float | None, deadline: float
    ) -> bool:
        """Waits for the state; False where it is not there in time, or nothing was written."""
        after = ReadAfter(tuple(written), wait_s, allow_stale=True)
        try:
            return bool(written) and not await self._freshness.wait(after, deadline)
        except (NotOwned, Overloaded):
            # The events are in the log, whoever folds them, and whoever waits.
            return False


async def _parts(
    requests: AsyncIterator[events_pb2.ImportEventsRequest], most: int
) -> AsyncGenerator[tuple[int, Sequence[events_pb2.Event]], None]:
    """The events of an import in parts, each with the number of its first event."""
    first = 0
    async for request in requests:
        for start in range(0, len(request.events), most):
            part = request.events[start : start + most]
            yield first, part
            first += len(part)


def _weigh(event: events_pb2.Event) -> int:
    return 1 + event.ByteSize() // _USUAL_BYTES


def _weigh_part(part: tuple[int, Sequence[events_pb2.Event]]) -> int:
    return sum(map(_weigh, part[1]))
