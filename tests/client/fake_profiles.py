"""Profiles and users, as a server takes and gives them."""

from __future__ import annotations

from typing import Any

import grpc
from fake_state import FRESHNESS, TOKEN, Fake

from rankstream.client import item_key
from rankstream.proto.v1 import profiles_pb2, profiles_pb2_grpc


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
        return profiles_pb2.UpsertUserResponse(token=TOKEN)

    def MergeProfiles(self, request: Any, context: Any) -> Any:
        self.fake.enter("MergeProfiles", request, context)
        return profiles_pb2.MergeProfilesResponse(moved=7, token=TOKEN)

    def ResetProfile(self, request: Any, context: Any) -> Any:
        self.fake.enter("ResetProfile", request, context)
        return profiles_pb2.ResetProfileResponse(watermark_ms=500, token=TOKEN)

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
        return profiles_pb2.PurgeUserResponse(watermark_ms=500, token=TOKEN, remains=remains)
