"""From an event of a request to a record of the log: checked, given an id where it has none."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from rankstream.proto.v1 import events_pb2
from rankstream.server.clock import now_ms
from rankstream.server.config import Limits
from rankstream.server.errors import InvalidArgument, RankstreamError
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.stream.checks import check_size
from rankstream.server.stream.codec import Admission, validate_event
from rankstream.server.stream.publisher import Outcome, Outgoing, Publisher


@dataclass(frozen=True, slots=True)
class Prepared:
    """A valid event, and the record that it becomes.

    Attributes:
        assigned: whether the server made its event_id.
        admission: what the fold will make of it.
        record: on its way to the log.
    """

    assigned: bool
    admission: Admission
    record: Outgoing


@dataclass(frozen=True, slots=True)
class EventIntake:
    """One way in: what comes over gRPC takes the same log as everything else."""

    publisher: Publisher
    topic: str
    fold: FoldSettings
    limits: Limits

    def prepare(self, event: events_pb2.Event, field: str = "") -> Prepared:
        """Checks an event, which gets an id where it has none.

        Args:
            event: the message.
            field: where it stands, as ``events[3]``; "": it is a message of its own.

        Raises:
            InvalidArgument: names the field.
        """
        inside = f"{field}." if field else ""
        admission = validate_event(event, self.fold, self.limits, inside)
        self._check_time(event, inside)
        assigned = not event.event_id
        if assigned:
            event.event_id = uuid.uuid4().hex
        value = event.SerializeToString(deterministic=True)
        check_size(value, self.limits, field or "event")
        return Prepared(assigned, admission, Outgoing(event.user_id.encode(), value))

    async def write(
        self, prepared: Sequence[Prepared | RankstreamError], *, patient: bool = False
    ) -> list[Outcome]:
        """Writes those that are valid; the others keep their errors.

        Args:
            prepared: valid events, and errors of others.
            patient: wait where too much waits for the log, and where the log does not answer, say
                so of each event instead of raising it.

        Raises:
            RankstreamError: the log takes none of them.
        """
        records = [p.record for p in prepared if isinstance(p, Prepared)]
        try:
            outcomes = await self.publisher.publish(self.topic, records, patient=patient)
        except RankstreamError as error:
            if not patient:
                raise
            outcomes = [error] * len(records)
        left = iter(outcomes)
        return [next(left) if isinstance(p, Prepared) else p for p in prepared]

    def _check_time(self, event: events_pb2.Event, field: str) -> None:
        if not event.HasField("event_time_ms"):
            return
        # Half of what the fold allows: the broker's clock, which decides, may be behind ours.
        latest = now_ms() + self.fold.allowed_skew_ms // 2
        if not 0 <= event.event_time_ms <= latest:
            problem = f"{event.event_time_ms}, expected 0 to {latest} (ms since the epoch)"
            raise InvalidArgument(field + "event_time_ms", problem)
