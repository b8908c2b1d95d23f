"""A real gRPC server on loopback with small fake services behind it."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from rankstream.client import Client, Item, item_key
from rankstream.client.records import item_to_pb
from rankstream.proto.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    common_pb2,
    encoder_pb2,
    encoder_pb2_grpc,
    events_pb2,
    events_pb2_grpc,
    profiles_pb2,
    profiles_pb2_grpc,
    ranking_pb2,
    ranking_pb2_grpc,
)

SERVED_BY = common_pb2.ServedBy(
    server_version="0.1.0", worker="w0", space_fingerprint="f00d", generation=3
)
FRESHNESS = common_pb2.Freshness(
    profile_updated_at_ms=1_700_000_000_000,
    applied=[common_pb2.AppliedOffset(topic="events", partition=1, next_offset=7, lag=-1)],
    catalogue_version=5,
)
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
    peers: set[str] = field(default_factory=set)
    deadlines_s: dict[str, float] = field(default_factory=dict)
    failures: dict[str, list[status_pb2.Status]] = field(default_factory=lambda: defaultdict(list))
    refused_items: set[str] = field(default_factory=set)
    fallback: str = ""
    max_batch: int | None = 4
    # Cleared: every call waits until the test has ended.
    answers: threading.Event = field(default_factory=threading.Event)

    def fail(self, method: str, *statuses: status_pb2.Status) -> None:
        """The next calls of ``method`` end with these."""
        self.failures[method] += statuses

    def enter(self, method: str, request: Any, context: grpc.ServicerContext) -> None:
        """Remembers a call; fails or waits where the test said so."""
        self.requests[method].append(request)
        self.peers.add(context.peer())
        self.deadlines_s[method] = context.time_remaining()
        if self.failures[method]:
            context.abort_with_status(rpc_status.to_status(self.failures[method].pop(0)))
        self.answers.wait()


class FakeRanking(ranking_pb2_grpc.RankingServicer):
    def __init__(self, fake: Fake) -> None:
        self.fake = fake

    def Rank(self, request: Any, context: Any) -> Any:
        self.fake.enter("Rank", request, context)
        return self.answer(request)

    def BatchRank(self, request: Any, context: Any) -> Any:
        self.fake.enter("BatchRank", request, context)
        entries = [self.entry(asked) for asked in request.requests]
        return ranking_pb2.BatchRankResponse(entries=entries)

    def entry(self, request: Any) -> Any:
        if request.user_id == "":
            bad = status(grpc.StatusCode.INVALID_ARGUMENT, "user_id: is empty")
            return ranking_pb2.BatchRankEntry(status=bad)
        return ranking_pb2.BatchRankEntry(response=self.answer(request))

    def answer(self, request: Any) -> Any:
        known = self.fake.catalogue
        by_key = {item_key(item_id): item_id for item_id in known}
        kind = request.WhichOneof("candidates")
        if kind == "item_ids":
            ids = list(request.item_ids.item_ids)
        elif kind == "item_keys":
            ids = [by_key[key] for key in request.item_keys.item_keys if key in by_key]
        else:
            ids = list(known)
        found = [item_id for item_id in ids if item_id in known]
        k = request.k if request.HasField("k") else len(found)
        served_by = common_pb2.ServedBy()
        served_by.CopyFrom(SERVED_BY)
        served_by.fallback = self.fake.fallback
        return ranking_pb2.RankResponse(
            request_id=request.request_id,
            items=[self.item(i, item_id, request) for i, item_id in enumerate(found[:k])],
            missing_item_ids=[item_id for item_id in ids if item_id not in known],
            missing_item_keys=[key for key in request.item_keys.item_keys if key not in by_key],
            served_by=served_by,
            freshness=FRESHNESS,
            timing=TIMING,
            block_names=["text"],
        )

    def item(self, index: int, item_id: str, request: Any) -> Any:
        reason = ranking_pb2.Reason(
            item_id="toy", type="click", event_time_ms=1_700_000_000_000, contribution=0.12
        )
        return ranking_pb2.RankedItem(
            item_id=item_id,
            rank=index + 1,
            score=1.0 - index / 8,
            parts=ranking_pb2.ScoreParts(blocks=[0.75 - index / 8], bias=0.25),
            reasons=[reason] if request.HasField("explain") else [],
        )


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
        return events_pb2.RecordEventsResponse(results=results, token=b"\x00\xfftoken")


class FakeCatalog(catalog_pb2_grpc.CatalogServicer):
    def __init__(self, fake: Fake) -> None:
        self.fake = fake

    def UpsertItems(self, request: Any, context: Any) -> Any:
        self.fake.enter("UpsertItems", request, context)
        results = [catalog_pb2.ItemResult(item_id=item.item_id) for item in request.items]
        for result in results:
            if result.item_id in self.fake.refused_items:
                result.status.CopyFrom(status(grpc.StatusCode.INVALID_ARGUMENT, "item_id: bad"))
        return catalog_pb2.UpsertItemsResponse(results=results, token=b"items")

    def GetItem(self, request: Any, context: Any) -> Any:
        self.fake.enter("GetItem", request, context)
        if request.item_id not in self.fake.catalogue:
            context.abort(grpc.StatusCode.NOT_FOUND, f"item {request.item_id} is not known")
        item = self.fake.catalogue[request.item_id]
        return catalog_pb2.GetItemResponse(
            item=item_to_pb(item),
            item_row=11,
            text=item.title.lower(),
            bias=0.5,
            generation=3,
            catalogue_version=5,
        )


class FakeProfiles(profiles_pb2_grpc.ProfilesServicer):
    def __init__(self, fake: Fake) -> None:
        self.fake = fake

    def GetProfile(self, request: Any, context: Any) -> Any:
        self.fake.enter("GetProfile", request, context)
        if request.user_id == "nobody":
            return profiles_pb2.GetProfileResponse(user_id="nobody", freshness=FRESHNESS)
        clicked = profiles_pb2.Interaction(
            item_id="toy", item_key=item_key("toy"), type="click", event_time_ms=1000, weight=-0.5
        )
        return profiles_pb2.GetProfileResponse(
            user_id=request.user_id,
            known=True,
            interactions=[clicked],
            history_size=9,
            seen_size=12,
            watermark_ms=500,
            freshness=FRESHNESS,
        )


class FakeEncoder(encoder_pb2_grpc.EncoderServicer):
    def __init__(self, fake: Fake) -> None:
        self.fake = fake

    def Embed(self, request: Any, context: Any) -> Any:
        self.fake.enter("Embed", request, context)
        rows = np.zeros((len(request.texts), 3), np.float32)
        results = []
        for row, text in zip(rows, request.texts, strict=True):
            row[:] = len(text)
            results.append(encoder_pb2.EmbedResult(tokens=len(text.split()), truncated=False))
            if not text:
                bad = status(grpc.StatusCode.INVALID_ARGUMENT, "texts: is empty")
                results[-1].status.CopyFrom(bad)
        vector = common_pb2.Vector(
            data=rows.tobytes(), dtype=common_pb2.Vector.FLOAT32, shape=rows.shape
        )
        return encoder_pb2.EmbedResponse(
            results=results, embeddings=vector, served_by=SERVED_BY, timing=TIMING
        )


class FakeAdmin(admin_pb2_grpc.AdminServicer):
    def __init__(self, fake: Fake) -> None:
        self.fake = fake

    def GetServerInfo(self, request: Any, context: Any) -> Any:
        self.fake.enter("GetServerInfo", request, context)
        limits = [admin_pb2.Limit(name="max_k", value=1000, unit="items", description="most k")]
        if self.fake.max_batch is not None:
            limits.append(admin_pb2.Limit(name="max_batch_rank_entries", value=self.fake.max_batch))
        encoder = admin_pb2.EncoderInfo(model="MiniLM", backend="openvino", dimensions=384)
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


@dataclass
class Running:
    """A fake server that runs."""

    fake: Fake
    health: health.HealthServicer
    target: str

    def client(self, **options: Any) -> Client:
        return Client(self.target, admin_target=self.target, **options)

    def set_health(self, serving: bool) -> None:
        kind = health_pb2.HealthCheckResponse
        self.health.set("", kind.SERVING if serving else kind.NOT_SERVING)


@pytest.fixture
def running() -> Iterator[Running]:
    """A fake server with three items, each call of which answers at once."""
    fake = Fake(
        catalogue={item_id: Item(item_id, item_id.title()) for item_id in ("toy", "b", "c")}
    )
    fake.catalogue["toy"] = Item("toy", "Toy Story", tags=("a", "b"), price=2.5)
    fake.answers.set()
    most = [("grpc.max_receive_message_length", 64 << 20)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=most)
    ranking_pb2_grpc.add_RankingServicer_to_server(FakeRanking(fake), server)
    events_pb2_grpc.add_EventsServicer_to_server(FakeEvents(fake), server)
    catalog_pb2_grpc.add_CatalogServicer_to_server(FakeCatalog(fake), server)
    profiles_pb2_grpc.add_ProfilesServicer_to_server(FakeProfiles(fake), server)
    encoder_pb2_grpc.add_EncoderServicer_to_server(FakeEncoder(fake), server)
    admin_pb2_grpc.add_AdminServicer_to_server(FakeAdmin(fake), server)
    healthy = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield Running(fake, healthy, f"127.0.0.1:{port}")
    fake.answers.set()
    server.stop(None).wait()


@pytest.fixture
def fake(running: Running) -> Fake:
    return running.fake


@pytest.fixture
def client(running: Running) -> Iterator[Client]:
    with running.client() as made:
        yield made


@pytest.fixture
def make_status() -> Any:
    return status
