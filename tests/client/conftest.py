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
    users: dict[str, Any] = field(default_factory=dict)
    fallback: str = ""
    max_batch: int | None = 4
    # Streams break off after so many answers, once for each entry of the list.
    breaks_after: list[int] = field(default_factory=list)
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

    def StreamRank(self, requests: Any, context: Any) -> Any:
        for request in self.fake.streamed("StreamRank", requests, context):
            yield self.entry(request)

    def SimilarItems(self, request: Any, context: Any) -> Any:
        self.fake.enter("SimilarItems", request, context)
        if request.item_id not in self.fake.catalogue:
            context.abort(grpc.StatusCode.NOT_FOUND, f"item {request.item_id} is not known")
        asked = ranking_pb2.RankRequest(request_id=request.request_id)
        if request.HasField("k"):
            asked.k = request.k
        return self.answer(asked)

    def Explain(self, request: Any, context: Any) -> Any:
        self.fake.enter("Explain", request, context)
        asked = list(request.request.item_ids.item_ids)
        missing = [item_id for item_id in asked if item_id not in self.fake.catalogue]
        return ranking_pb2.ExplainResponse(
            request_id=request.request.request_id,
            items=[self.explained(item_id) for item_id in asked if item_id not in missing],
            missing_item_ids=missing,
            served_by=SERVED_BY,
            freshness=FRESHNESS,
            timing=TIMING,
            block_names=["text", "attributes"],
        )

    def explained(self, item_id: str) -> Any:
        clicked = ranking_pb2.Reason(
            item_id="toy", type="click", event_time_ms=1_700_000_000_000, contribution=0.5
        )
        searched = ranking_pb2.Reason(type="search", text="red shoes", contribution=-0.25)
        return ranking_pb2.ExplainedItem(
            item_id=item_id,
            score=0.5,
            parts=ranking_pb2.ScoreParts(blocks=[0.125, 0.125], bias=0.25),
            contributions=[
                ranking_pb2.Contribution(reason=clicked, blocks=[0.25, 0.25]),
                ranking_pb2.Contribution(reason=searched, blocks=[-0.125, -0.125]),
            ],
        )

    def entry(self, request: Any) -> Any:
        if request.user_id == "" and not request.HasField("query"):
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
        return events_pb2.RecordEventsResponse(
            results=results, token=b"\x00\xfftoken", applied=request.wait_applied
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
            yield kinds(outcome=outcome, event_id=event.event_id, token=b"\x00\xfftoken")

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
            accepted=accepted, rejected=len(failures), failures=failures, token=b"\x00\xfftoken"
        )


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
            version=99,
        )

    def ImportItems(self, requests: Any, context: Any) -> Any:
        accepted = rejected = 0
        for request in self.fake.streamed("ImportItems", requests, context):
            failures = []
            for item in request.items:
                if not item.item_id or item.item_id in self.fake.refused_items:
                    bad = status(grpc.StatusCode.INVALID_ARGUMENT, "item_id: bad")
                    index = accepted + rejected
                    failures.append(
                        catalog_pb2.ItemFailure(index=index, item_id=item.item_id, status=bad)
                    )
                    rejected += 1
                else:
                    accepted += 1
            yield catalog_pb2.ImportItemsProgress(
                accepted=accepted, rejected=rejected, failures=failures, token=b"\x00\xfftoken"
            )

    def PatchItem(self, request: Any, context: Any) -> Any:
        self.fake.enter("PatchItem", request, context)
        return catalog_pb2.PatchItemResponse(item=request.item, token=b"\x00\xfftoken")

    def DeleteItems(self, request: Any, context: Any) -> Any:
        self.fake.enter("DeleteItems", request, context)
        results = [catalog_pb2.ItemResult(item_id=item_id) for item_id in request.item_ids]
        for result in results:
            if result.item_id in self.fake.refused_items:
                result.status.CopyFrom(status(grpc.StatusCode.INVALID_ARGUMENT, "item_id: bad"))
        return catalog_pb2.DeleteItemsResponse(results=results, token=b"\x00\xfftoken")

    def ListItems(self, request: Any, context: Any) -> Any:
        self.fake.enter("ListItems", request, context)
        limit = self.fake.breaks_after.pop(0) if self.fake.breaks_after else None
        ids = sorted(self.fake.catalogue)
        start = ids.index(request.resume_token.decode()) + 1 if request.resume_token else 0
        wanted = ids[start:][: request.limit if request.HasField("limit") else None]
        for count, item_id in enumerate(wanted):
            if count == limit:
                context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
            item = item_to_pb(self.fake.catalogue[item_id])
            yield catalog_pb2.ListedItem(item=item, resume_token=item_id.encode())


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
            user=self.fake.users.get(request.user_id),
        )

    def UpsertUser(self, request: Any, context: Any) -> Any:
        self.fake.enter("UpsertUser", request, context)
        self.fake.users[request.user.user_id] = request.user
        return profiles_pb2.UpsertUserResponse(token=b"\x00\xfftoken")

    def MergeProfiles(self, request: Any, context: Any) -> Any:
        self.fake.enter("MergeProfiles", request, context)
        return profiles_pb2.MergeProfilesResponse(moved=7, token=b"\x00\xfftoken")

    def ResetProfile(self, request: Any, context: Any) -> Any:
        self.fake.enter("ResetProfile", request, context)
        return profiles_pb2.ResetProfileResponse(watermark_ms=500, token=b"\x00\xfftoken")

    def ExportUser(self, request: Any, context: Any) -> Any:
        self.fake.enter("ExportUser", request, context)
        if request.user_id in self.fake.users:
            yield profiles_pb2.ExportedRecord(user=self.fake.users[request.user_id])
        for item_id in ("toy", "b"):
            if self.fake.breaks_after:
                self.fake.breaks_after.pop()
                context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
            known = profiles_pb2.Interaction(item_id=item_id, type="click", weight=1.0)
            yield profiles_pb2.ExportedRecord(interaction=known)

    def PurgeUser(self, request: Any, context: Any) -> Any:
        self.fake.enter("PurgeUser", request, context)
        remains = [profiles_pb2.Remainder(place="log", description="until retention")]
        return profiles_pb2.PurgeUserResponse(
            watermark_ms=500, token=b"\x00\xfftoken", remains=remains
        )


class FakeEncoder(encoder_pb2_grpc.EncoderServicer):
    def __init__(self, fake: Fake) -> None:
        self.fake = fake

    def Embed(self, request: Any, context: Any) -> Any:
        self.fake.enter("Embed", request, context)
        return self.embedded(request)

    def EmbedStream(self, requests: Any, context: Any) -> Any:
        for request in self.fake.streamed("EmbedStream", requests, context):
            yield self.embedded(request)

    def Tokenize(self, request: Any, context: Any) -> Any:
        self.fake.enter("Tokenize", request, context)
        texts = [
            encoder_pb2.TokenizedText(token_ids=range(len(text.split())), tokens=text.split())
            for text in request.texts
        ]
        for text, asked in zip(texts, request.texts, strict=True):
            if not asked:
                text.status.CopyFrom(status(grpc.StatusCode.INVALID_ARGUMENT, "texts: is empty"))
        return encoder_pb2.TokenizeResponse(texts=texts)

    def embedded(self, request: Any) -> Any:
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
