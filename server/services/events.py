"""Events: validated, given an id where they have none, written to the log."""

from __future__ import annotations

import time
import uuid

from rankstream.proto.v1 import events_pb2, events_pb2_grpc
from rankstream.server.config import Limits
from rankstream.server.errors import InvalidArgument, RankstreamError
from rankstream.server.freshness import Freshness
from rankstream.server.interceptors import Context, status_of
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.services.outcomes import token_of
from rankstream.server.stream.codec import check_size, validate_event
from rankstream.server.stream.publisher import Outgoing, Publisher


class EventsService(events_pb2_grpc.EventsServicer):
    """One way in: what comes over gRPC takes the same log as everything else."""

    def __init__(
        self,
        publisher: Publisher,
        freshness: Freshness,
        topic: str,
        fold: FoldSettings,
        limits: Limits,
    ) -> None:
        self._publisher = publisher
        self._freshness = freshness
        self._topic = topic
        self._fold = fold
        self._limits = limits

    async def RecordEvents(  # noqa: N802 - the name that gRPC gives
        self, request: events_pb2.RecordEventsRequest, context: Context
    ) -> events_pb2.RecordEventsResponse:
        """Writes each valid event; answers when the log has them."""
        count, limit = len(request.events), self._limits.max_events
        if count > limit:
            raise InvalidArgument(field="events", problem=f"{count} events, the limit is {limit}")
        topic_id = self._freshness.topic_id("events")
        prepared = [self._prepare(i, event) for i, event in enumerate(request.events)]
        records = [p[0] for p in prepared if isinstance(p, tuple)]
        outcomes = await self._publisher.publish(self._topic, records)
        response = events_pb2.RecordEventsResponse(token=token_of("events", topic_id, outcomes))
        left = iter(outcomes)
        for event, known in zip(request.events, prepared, strict=True):
            outcome = next(left) if isinstance(known, tuple) else known
            status = status_of(outcome) if isinstance(outcome, RankstreamError) else None
            assigned = isinstance(known, tuple) and known[1]
            response.results.add(status=status, event_id=event.event_id, event_id_assigned=assigned)
        return response

    def _prepare(
        self, index: int, event: events_pb2.Event
    ) -> tuple[Outgoing, bool] | RankstreamError:
        field = f"events[{index}]."
        try:
            validate_event(event, self._fold, self._limits, field)
            self._check_time(event, field)
            assigned = not event.event_id
            if assigned:
                event.event_id = uuid.uuid4().hex
            value = event.SerializeToString()
            check_size(value, self._limits, f"events[{index}]")
        except RankstreamError as error:
            return error
        return Outgoing(event.user_id.encode(), value), assigned

    def _check_time(self, event: events_pb2.Event, field: str) -> None:
        if not event.HasField("event_time_ms"):
            return
        # Half of what the fold allows: the broker's clock, which decides, may be behind ours.
        latest = int(time.time() * 1000) + self._fold.allowed_skew_ms // 2
        if not 0 <= event.event_time_ms <= latest:
            problem = f"{event.event_time_ms}, expected 0 to {latest} (ms since the epoch)"
            raise InvalidArgument(field + "event_time_ms", problem)
