"""What a server says of itself."""

from __future__ import annotations

from typing import Any

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
        )

    def GetConsumerLag(self, request: Any, context: Any) -> Any:
        self.fake.enter("GetConsumerLag", request, context)
        partition = admin_pb2.PartitionLag(
            topic="rankstream.events", partition=2, next_offset=40, highwater=42, lag=2,
            state="running",
        )  # fmt: skip
        return admin_pb2.GetConsumerLagResponse(
            partitions=[partition], last_fetch_age_ms=4, dead_letters=1, healthy=True
        )
