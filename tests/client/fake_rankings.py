"""Rankings and explanations, as a server answers them."""

from __future__ import annotations

from typing import Any

import grpc
from fake_state import FRESHNESS, SERVED_BY, TIMING, Fake, status

from rankstream.client import item_key
from rankstream.proto.v1 import common_pb2, ranking_pb2, ranking_pb2_grpc


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
        for message in self.fake.streamed("StreamRank", requests, context):
            entries = [self.entry(asked) for asked in message.requests]
            # A part of a message at a time, as a server may.
            for start in range(0, len(entries), 2):
                yield ranking_pb2.BatchRankResponse(entries=entries[start : start + 2])

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
