"""What the fake services know, were asked, and are told to do."""

from __future__ import annotations

import base64
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import status_pb2
from grpc_status import rpc_status

from rankstream.client import Item
from rankstream.proto.v1 import common_pb2

SERVED_BY = common_pb2.ServedBy(
    server_version="0.1.0", worker="w0", space_fingerprint="f00d", generation=3
)
FRESHNESS = common_pb2.Freshness(
    profile_updated_at_ms=1_700_000_000_000,
    applied=[common_pb2.AppliedOffset(topic="events", partition=1, next_offset=7, lag=-1)],
    catalogue_version=5,
)
TOKEN = b"\x00\xfftoken"
# As the command line shows and takes it.
PRINTED_TOKEN = base64.urlsafe_b64encode(TOKEN).decode()
TIMING = common_pb2.Timing(queue_us=1, score_us=20, total_us=1500, batch_size=2)


def status(code: grpc.StatusCode, message: str, *details: Message) -> status_pb2.Status:
    """A rich status as a server sends it."""
    packed = []
    for detail in details:
        packed.append(AnyMessage())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=code.value[0], message=message, details=packed)


@dataclass
class Fake:
    """What the fake services know and were asked."""

    catalogue: dict[str, Item] = field(default_factory=dict)
    requests: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    # Of each call, its path and what it says beside its request.
    metadata: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    peers: set[str] = field(default_factory=set)
    deadlines_s: dict[str, float] = field(default_factory=dict)
    failures: dict[str, list[status_pb2.Status]] = field(default_factory=lambda: defaultdict(list))
    refused_items: set[str] = field(default_factory=set)
    users: dict[str, Any] = field(default_factory=dict)
    fallback: str = ""
    max_batch: int | None = 4
    # Streams break off after so many answers, once for each entry of the list.
    breaks_after: list[int] = field(default_factory=list)
    # Of a change of generations, as it is told.
    phases: list[str] = field(
        default_factory=lambda: ["loading", "encoding", "starting", "draining", "done"]
    )
    # A stream of these ends without an error, though not all is answered.
    ends_after: int | None = None
    taken: int = 0
    # Cleared: every call waits until the test has ended.
    answers: threading.Event = field(default_factory=threading.Event)

    def fail(self, method: str, *statuses: status_pb2.Status) -> None:
        """The next calls of ``method`` end with these."""
        self.failures[method] += statuses

    def streamed(self, method: str, requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        """The requests of a stream, which breaks off where the test said so."""
        limit = self.breaks_after.pop(0) if self.breaks_after else None
        self.enter(method, [], context)
        for count, request in enumerate(requests):
            if count == limit:
                context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
            if count == self.ends_after:
                return
            self.taken += 1
            self.requests[method][-1].append(request)
            yield request

    def enter(self, method: str, request: Any, context: grpc.ServicerContext) -> None:
        """Remembers a call; fails or waits where the test said so."""
        self.requests[method].append(request)
        self.peers.add(context.peer())
        self.deadlines_s[method] = context.time_remaining()
        if self.failures[method]:
            context.abort_with_status(rpc_status.to_status(self.failures[method].pop(0)))
        self.answers.wait()
