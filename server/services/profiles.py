"""Profiles: what the state knows of a user."""

from __future__ import annotations

import numpy as np

from rankstream.proto.v1 import profiles_pb2, profiles_pb2_grpc
from rankstream.server.announce import Announcements
from rankstream.server.config import Limits
from rankstream.server.engine import item_ids
from rankstream.server.freshness import Freshness
from rankstream.server.interceptors import Context, deadline_of
from rankstream.server.profiles.stored import ProfileStore
from rankstream.server.store import Store
from rankstream.server.stream.codec import check_id
from rankstream.server.wire import Names, freshness_to_pb, read_after_from_pb


class ProfilesService(profiles_pb2_grpc.ProfilesServicer):
    """Reads profiles from the state."""

    def __init__(
        self,
        store: Store,
        profiles: ProfileStore,
        freshness: Freshness,
        page: Announcements,
        names: Names,
        limits: Limits,
    ) -> None:
        self._store = store
        self._profiles = profiles
        self._freshness = freshness
        self._page = page
        self._names = names
        self._limits = limits

    async def GetProfile(  # noqa: N802 - the name that gRPC gives
        self, request: profiles_pb2.GetProfileRequest, context: Context
    ) -> profiles_pb2.GetProfileResponse:
        """One user's history, newest first; an unknown user is an empty one."""
        check_id(request.user_id, "user_id", self._limits.max_id_bytes)
        deadline = deadline_of(context, self._limits.default_timeout_s)
        stale = await self._freshness.wait(
            read_after_from_pb(request.read_after, self._limits), deadline
        )
        user = request.user_id.encode()
        with self._store.read() as view:
            profile = self._profiles.read(view, [user])
            found = profile.histories
            seen = self._profiles.seen_targets(view, user)
            count = len(found.target_keys)
            shown = request.max_interactions if request.HasField("max_interactions") else count
            newest = np.arange(count)[::-1][:shown]
            names = item_ids(view, found.target_keys[newest])
            positions, version = view.positions(), view.head().catalogue_version
        fresh = freshness_to_pb(positions, self._page, self._names.topics, version)
        fresh.profile_updated_at_ms, fresh.stale = max(0, int(profile.updated_at_ms[0])), stale
        response = profiles_pb2.GetProfileResponse(
            user_id=request.user_id,
            known=bool(profile.known[0]),
            history_size=count,
            seen_size=len(seen),
            freshness=fresh,
        )
        if profile.watermark_ms[0] >= 0:
            response.watermark_ms = int(profile.watermark_ms[0])
        for t, name in zip(newest.tolist(), names, strict=True):
            response.interactions.add(
                item_id=name,
                item_key=int(found.target_keys[t]),
                type=self._names.types.get(int(found.types[t]), ""),
                event_time_ms=int(found.event_times_ms[t]),
                weight=float(found.weights[t]),
            )
        return response
