"""What a server says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
from fake_state import Fake

from rankstream.proto.v1 import admin_pb2, admin_pb2_grpc


class FakeAdmin(admin_pb2_grpc.AdminServicer):
    def __init__(self, fake: Fake) -> None:
        self.fake = fake

    def GetServerInfo(self, request: Any, context: Any) -> Any:
        self.fake.enter("GetServerInfo", request, context)
        limits = [admin_pb2.Limit(name="max_k", value=1000, unit="items", description="most k")]
        if self.fake.max_batch is not None:
            limits.append(admin_pb2.Limit(name="max_batch_rank_entries", value=self.fake.max_batch))
        encoder = admin_pb2.EncoderInfo(
            model="MiniLM", backend="openvino", dimensions=384, prompts=["document", "query"],
            query_prompt="query",
        )  # fmt: skip
        return admin_pb2.GetServerInfoResponse(
            server_version="0.1.0",
            worker="w0",
            limits=limits,
            encoder=encoder,
            blocks=[admin_pb2.BlockInfo(name="text", dimensions=384, weight=1.0)],
            event_types=[admin_pb2.EventTypeInfo(name="click", pooling_weight=1.0)],
            items=1682,
            users=943,
            started_at_ms=1_700_000_000_000,
            generations=[admin_pb2.GenerationInfo(number=3, state="served", items=1682)],
        )

    def Reindex(self, request: Any, context: Any) -> Any:
        yield from self._follow("Reindex", "reindex", request, context)

    def RollbackReindex(self, request: Any, context: Any) -> Any:
        yield from self._follow("RollbackReindex", "rollback", request, context)

    def WatchReindex(self, request: Any, context: Any) -> Any:
        yield from self._follow("WatchReindex", "reindex", request, context)

    def CancelReindex(self, request: Any, context: Any) -> Any:
        self.fake.enter("CancelReindex", request, context)
        progress = admin_pb2.ReindexProgress(id="some", kind="reindex", phase="cancelled")
        return admin_pb2.CancelReindexResponse(progress=progress)

    def DropGeneration(self, request: Any, context: Any) -> Any:
        self.fake.enter("DropGeneration", request, context)
        return admin_pb2.DropGenerationResponse(generation=2)

    def _follow(self, method: str, kind: str, request: Any, context: Any) -> Iterator[Any]:
        """The phases that are left; the first of ``breaks_after`` ends the stream behind some."""
        self.fake.enter(method, request, context)
        limit = self.fake.breaks_after.pop(0) if self.fake.breaks_after else None
        for count in range(len(self.fake.phases)):
            if count == limit:
                context.abort(grpc.StatusCode.UNAVAILABLE, "this worker is being replaced")
            phase = self.fake.phases.pop(0)
            problem = "too little memory" if phase == "failed" else ""
            yield admin_pb2.ReindexProgress(
                id="some", kind=kind, phase=phase, problem=problem, generation=4, items=5,
                items_total=6, texts=7, texts_total=8, elapsed_s=1.5, rate=2.0, eta_s=3.0,
                waiting="the disk is full" if phase == "encoding" else "",
            )  # fmt: skip

    def GetConsumerLag(self, request: Any, context: Any) -> Any:
        self.fake.enter("GetConsumerLag", request, context)
        partition = admin_pb2.PartitionLag(
            topic="rankstream.events", partition=2, next_offset=40, highwater=42, lag=2,
            state="running",
        )  # fmt: skip
        return admin_pb2.GetConsumerLagResponse(
            partitions=[partition], last_fetch_age_ms=4, dead_letters=1, healthy=True
        )
