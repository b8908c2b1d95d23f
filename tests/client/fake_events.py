"""Events, as a server takes them."""

from __future__ import annotations

from typing import Any

import grpc
from fake_state import TOKEN, Fake, status

from rankstream.proto.v1 import events_pb2, events_pb2_grpc


class FakeEvents(events_pb2_grpc.EventsServicer):
    def __init__(self, fake: Fake) -> None:
        self.fake = fake

    def RecordEvents(self, request: Any, context: Any) -> Any:
        self.fake.enter("RecordEvents", request, context)
        results = [events_pb2.EventResult(event_id=event.event_id) for event in request.events]
        for result, event in zip(results, request.events, strict=True):
            if event.item_id in self.fake.refused_items:
                bad = status(grpc.StatusCode.INVALID_ARGUMENT, f"item_id: {event.item_id} is bad")
                result.status.CopyFrom(bad)
        return events_pb2.RecordEventsResponse(
            results=results, token=TOKEN, applied=request.wait_applied
        )

    def StreamEvents(self, requests: Any, context: Any) -> Any:
        kinds = events_pb2.EventAck
        seen: set[str] = set()
        for event in self.fake.streamed("StreamEvents", requests, context):
            if not event.user_id or event.item_id in self.fake.refused_items:
                bad = status(grpc.StatusCode.INVALID_ARGUMENT, f"item_id: {event.item_id} is bad")
                yield kinds(outcome=kinds.REJECTED, event_id=event.event_id, status=bad)
                continue
            outcome = kinds.DUPLICATE if event.event_id in seen else kinds.ACCEPTED
            seen.add(event.event_id)
            yield kinds(outcome=outcome, event_id=event.event_id, token=TOKEN)

    def ImportEvents(self, requests: Any, context: Any) -> Any:
        accepted, failures, index = 0, [], 0
        for request in self.fake.streamed("ImportEvents", requests, context):
            for event in request.events:
                if not event.user_id or event.item_id in self.fake.refused_items:
                    bad = status(grpc.StatusCode.INVALID_ARGUMENT, f"item_id: {event.item_id} bad")
                    failures.append(events_pb2.ImportFailure(index=index, status=bad))
                else:
                    accepted += 1
                index += 1
        return events_pb2.ImportEventsResponse(
            accepted=accepted, rejected=len(failures), failures=failures, token=TOKEN
        )
