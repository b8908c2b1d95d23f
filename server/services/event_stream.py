"""One stream of events: each is written once, and acknowledged in its turn."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from rankstream.kernels.cells import IN_HISTORY
from rankstream.proto.v1 import events_pb2
from rankstream.server.boundary import status_of
from rankstream.server.clock import now_ms
from rankstream.server.errors import RankstreamError
from rankstream.server.profiles.interaction import record_bytes
from rankstream.server.profiles.presence import Presence, read_presence
from rankstream.server.services.event_intake import EventIntake, Prepared
from rankstream.server.store import Store
from rankstream.server.stream.event_codec import interactions_of
from rankstream.server.stream.publisher import Outcome, Written
from rankstream.server.stream.token import pack_token
from rankstream.server.types import Position

_Ack = events_pb2.EventAck


@dataclass(slots=True, eq=False)
class Fate:
    """What became of an event; outlives it, so that a repetition can be told.

    Attributes:
        outcome: where the log has it, or why it does not; None: not written (yet).
    """

    outcome: Outcome | None = None


@dataclass(slots=True, eq=False)
class Entry:
    """One event of the stream.

    Attributes:
        event: the message; its id is assigned by now.
        prepared: the record it becomes, or what is wrong with it.
        fate: its own, or that of the event that it repeats.
        repeated: whether it is another's, which is answered before this one.
        retained: a profile holds it.
        late: it changes no profile.
    """

    event: events_pb2.Event
    prepared: Prepared | RankstreamError
    fate: Fate
    repeated: bool = False
    retained: bool = False
    late: bool = False

    @property
    def is_new(self) -> bool:
        """Whether it must be written."""
        return isinstance(self.prepared, Prepared) and not (self.repeated or self.retained)


class EventStream:
    """What one stream's handler knows: which events it has met lately.

    Args:
        intake: checks and writes.
        store: read for what profiles hold.
        topic_id: of the events topic.
    """

    def __init__(self, intake: EventIntake, store: Store, topic_id: bytes) -> None:
        self._intake = intake
        self._store = store
        self._topic_id = topic_id
        self._met: OrderedDict[bytes, Fate] = OrderedDict()

    async def write(self, batch: Sequence[events_pb2.Event | RankstreamError]) -> list[Entry]:
        """Writes what is new of a batch.

        Batches may be in flight side by side; each is begun behind the one before it.
        """
        entries = [self._enter(message) for message in batch]
        self._look_up([entry for entry in entries if entry.is_new])
        new = [entry for entry in entries if entry.is_new]
        outcomes = await self._intake.write([entry.prepared for entry in new], patient=True)
        for entry, outcome in zip(new, outcomes, strict=True):
            entry.fate.outcome = outcome
        return entries

    def acknowledge(self, entry: Entry) -> events_pb2.EventAck:
        """The answer to an event; those before it have theirs."""
        outcome = entry.fate.outcome
        error = entry.prepared if isinstance(entry.prepared, RankstreamError) else outcome
        ack = _Ack(event_id=entry.event.event_id)
        if isinstance(entry.prepared, Prepared):
            ack.event_id_assigned = entry.prepared.assigned
        if isinstance(error, RankstreamError):
            ack.outcome = _Ack.REJECTED
            ack.status.CopyFrom(status_of(error))
        elif entry.retained or entry.repeated:
            ack.outcome = _Ack.DUPLICATE
        else:
            ack.outcome = _Ack.LATE if entry.late else _Ack.ACCEPTED
        if isinstance(outcome, Written):
            place = Position("events", self._topic_id, outcome.partition, outcome.offset + 1)
            ack.token = pack_token([place])
        return ack

    def _enter(self, message: events_pb2.Event | RankstreamError) -> Entry:
        if isinstance(message, RankstreamError):
            return Entry(events_pb2.Event(), message, Fate())
        try:
            prepared = self._intake.prepare(message)
        except RankstreamError as error:
            return Entry(message, error, Fate())
        entry = Entry(message, prepared, Fate())
        if not prepared.assigned:
            self._remember(entry, prepared)
        return entry

    def _remember(self, entry: Entry, prepared: Prepared) -> None:
        """Finds the event that this one repeats, if it has not failed; else keeps this one."""
        value = prepared.record.value or b""
        content = hashlib.blake2b(value, digest_size=16).digest()
        met = self._met.get(content)
        if met is not None and not isinstance(met.outcome, RankstreamError):
            entry.fate, entry.repeated = met, True
            return
        self._met[content] = entry.fate
        self._met.move_to_end(content)
        if len(self._met) > self._intake.limits.max_stream_remembered:
            self._met.popitem(last=False)

    def _look_up(self, entries: Sequence[Entry]) -> None:
        """Compares events with what their users' profiles hold."""
        users: dict[bytes, int] = {}
        for entry in entries:
            users.setdefault(entry.event.user_id.encode(), len(users))
        if not users:
            return
        with self._store.read() as view:
            presence = read_presence(self._intake.fold, view, list(users))
            for entry in entries:
                self._compare(entry, presence, users[entry.event.user_id.encode()])

    def _compare(self, entry: Entry, presence: Presence, user: int) -> None:
        event, prepared = entry.event, entry.prepared
        assert isinstance(prepared, Prepared)
        timed = event.HasField("event_time_ms")
        at = event.event_time_ms if timed else now_ms()
        classes = self._intake.fold.rules.classes
        in_history = bool(classes[prepared.admission.type_id] & IN_HISTORY)
        entry.late = presence.is_late(user, at, in_history=in_history)
        if not prepared.assigned and presence.stored[user]:
            found = interactions_of(event, prepared.admission, event.event_id, at, 0)
            entry.retained = all(
                presence.holds(user, record_bytes(*one[1:6], one.ext), at_any_time=not timed)
                for one in found
            )
