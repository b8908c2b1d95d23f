"""The Events service."""

from __future__ import annotations

from collections.abc import Iterable

from rankstream.client.answers import EventAck, Recorded, ack_from_pb, recorded_from_pb
from rankstream.client.calls.methods import Answer, Stream, answers, streams
from rankstream.client.calls.shapes import Unary
from rankstream.client.calls.streams import Exchange, Source
from rankstream.client.errors import InvalidArgument
from rankstream.client.host import Host
from rankstream.client.imports import EventImport, Imported
from rankstream.client.queries import count_or_none
from rankstream.client.records import Event, event_to_pb
from rankstream.proto.v1 import events_pb2


class EventCalls(Host):
    """What users did. Events without an event_id get one here, so that a retry is harmless."""

    @answers
    def record_events(
        self,
        events: Iterable[Event],
        *,
        wait_applied: bool = False,
        max_wait_ms: int | None = None,
        timeout_s: float | None = None,
    ) -> Answer[Recorded]:
        """Writes events to the log; answers when the log has them.

        Args:
            events: few enough for one message; ``import_events`` takes any number.
            wait_applied: answer when the state that serves has applied them, or the wait has
                ended; ``applied`` of the answer says which.
            max_wait_ms: longest such wait; None: the server's default.
            timeout_s: deadline, in seconds.
        """
        request = events_pb2.RecordEventsRequest(
            events=[event_to_pb(event) for event in events],
            wait_applied=wait_applied,
            max_wait_ms=count_or_none("max_wait_ms", max_wait_ms),
        )
        return Unary("Events/RecordEvents", request, recorded_from_pb, timeout_s, max_wait_ms)

    @streams
    def stream_events(
        self,
        events: Source[Event],
        *,
        max_in_flight: int = 1024,
        timeout_s: float | None = None,
    ) -> Stream[EventAck]:
        """Writes one event after the other; an acknowledgement each, in order.

        A bad event is REJECTED, in its place. Where the stream breaks off, send the events that
        were not acknowledged again under their event_ids: those that the log has count once.

        Args:
            events: any number, as many as come; taken as the server takes them, on a thread of
                its own where this client blocks.
            max_in_flight: events without an acknowledgement at most.
            timeout_s: deadline of the whole stream, in seconds; None: none.

        Raises:
            RankstreamError: the stream broke off; ``answered`` says after how many answers.
        """
        return Exchange(
            path="Events/StreamEvents",
            source=events,
            timeout_s=timeout_s,
            window=max_in_flight,
            write=event_to_pb,
            read=ack_from_pb,
            refused=_rejected,
            placeholder=events_pb2.Event,
        )

    @answers
    def import_events(
        self, events: Source[Event], *, timeout_s: float | None = None
    ) -> Answer[Imported]:
        """Writes any number of events over one stream; answers at the end. Bad ones fail alone.

        Args:
            events: taken as the server takes them, on a thread of its own where this client
                blocks.
            timeout_s: deadline of the whole stream, in seconds; None: none.

        Raises:
            RankstreamError: the stream broke off. Import again: with event_ids of your own, what
                the log has counts once.
        """
        return EventImport(events, timeout_s)


def _rejected(problem: InvalidArgument) -> EventAck:
    return EventAck("REJECTED", event_id="", token=b"", error=problem)
