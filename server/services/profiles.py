"""Profiles: what the state knows of users, and what they say of themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import numpy as np
from numpy.typing import NDArray

from rankstream.proto.v1 import common_pb2, profiles_pb2, profiles_pb2_grpc
from rankstream.server.announce import Announcements
from rankstream.server.boundary import Context, deadline_of
from rankstream.server.config import Limits
from rankstream.server.errors import InvalidArgument
from rankstream.server.freshness import Freshness
from rankstream.server.profiles.interaction import POSITION, TEXT
from rankstream.server.profiles.stored import ProfileStore
from rankstream.server.profiles.texts import text_of
from rankstream.server.profiles.users import Person, find_person, user_record
from rankstream.server.services.user_writer import UserWriter
from rankstream.server.store import Store, View, item_ids
from rankstream.server.stream.checks import check_id
from rankstream.server.stream.publisher import Publisher
from rankstream.server.stream.token import pack_token
from rankstream.server.wire import Names, freshness_to_pb, read_after_from_pb

_EXPORTED_AT_ONCE = 256
_REMAINS = {
    "log": "records of the events and users topics under this key, until the topics' retention "
    "removes them; delete them with kafka-delete-records.sh, or give --events-retention-ms",
    "dead_letters": "records that could not be folded, in the dead-letter topic, until its "
    "retention removes them",
    "counters": "what the interactions added to the items' popularity: sums that name nobody",
    "texts": "what was searched for or written, without the name of whom, until newer texts take "
    "its place",
}


class ProfilesService(profiles_pb2_grpc.ProfilesServicer):
    """Reads profiles from the state, writes users to the log."""

    def __init__(
        self,
        publisher: Publisher,
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
        topics = names.topics
        self._writer = UserWriter(publisher, store, profiles, freshness, topics, limits)

    async def UpsertUser(  # noqa: N802 - the name that gRPC gives
        self, request: profiles_pb2.UpsertUserRequest, context: Context
    ) -> profiles_pb2.UpsertUserResponse:
        """Writes a whole user; answers when the log has it."""
        written = await self._writer.upsert(request.user)
        return profiles_pb2.UpsertUserResponse(token=pack_token(written))

    async def GetProfile(  # noqa: N802
        self, request: profiles_pb2.GetProfileRequest, context: Context
    ) -> profiles_pb2.GetProfileResponse:
        """One person's history, newest first; an unknown user has an empty one."""
        check_id(request.user_id, "user_id", self._limits.max_id_bytes)
        deadline = deadline_of(context, self._limits.default_timeout_s)
        stale = await self._freshness.wait(
            read_after_from_pb(request.read_after, self._limits), deadline
        )
        user = request.user_id.encode()
        with self._store.read() as view:
            person = find_person(view, user)
            found = self._profiles.person(view, person.ids)
            profile = self._profiles.read(view, [user])
            seen = [self._profiles.seen_targets(view, name) for name in person.ids]
            count = len(found.target_keys)
            shown = request.max_interactions if request.HasField("max_interactions") else count
            interactions = self._described(view, found.records()[::-1][:shown])
            positions, version = view.positions(), view.head().catalogue_version
        fresh = freshness_to_pb(positions, self._page, self._names.topics, version)
        fresh.profile_updated_at_ms, fresh.stale = max(0, int(found.headers[0, 1])), stale
        response = profiles_pb2.GetProfileResponse(
            user_id=request.user_id,
            known=bool((found.headers[0] != -1).any()) or person.record is not None,
            history_size=count,
            seen_size=len(np.unique(np.concatenate(seen))),
            interactions=interactions,
            freshness=fresh,
            user=_stored_user(person),
        )
        if person.user != user:
            response.canonical_user_id = person.user.decode()
        if profile.watermark_ms[0] >= 0:
            response.watermark_ms = int(profile.watermark_ms[0])
        return response

    async def MergeProfiles(  # noqa: N802
        self, request: profiles_pb2.MergeProfilesRequest, context: Context
    ) -> profiles_pb2.MergeProfilesResponse:
        """Gives a guest's interactions to a user."""
        for name in ("from_user_id", "into_user_id"):
            check_id(getattr(request, name), name, self._limits.max_id_bytes)
        if request.from_user_id == request.into_user_id:
            raise InvalidArgument(field="into_user_id", problem="is from_user_id")
        deadline = await self._fresh(request.read_after, context)
        guest, into = request.from_user_id.encode(), request.into_user_id.encode()
        moved, written = await self._writer.merge(guest, into, deadline)
        token = pack_token(written) if written else b""
        return profiles_pb2.MergeProfilesResponse(moved=moved, token=token)

    async def ResetProfile(  # noqa: N802
        self, request: profiles_pb2.ResetProfileRequest, context: Context
    ) -> profiles_pb2.ResetProfileResponse:
        """Writes a reset; the profile is empty once it is applied."""
        check_id(request.user_id, "user_id", self._limits.max_id_bytes)
        deadline = await self._fresh(request.read_after, context)
        watermark, written = await self._writer.reset(request.user_id.encode(), deadline)
        return profiles_pb2.ResetProfileResponse(watermark_ms=watermark, token=pack_token(written))

    async def ExportUser(  # noqa: N802
        self, request: profiles_pb2.ExportUserRequest, context: Context
    ) -> AsyncIterator[profiles_pb2.ExportedRecord]:
        """All that the state holds of one user, newest first."""
        check_id(request.user_id, "user_id", self._limits.max_id_bytes)
        await self._fresh(request.read_after, context)
        with self._store.read() as view:
            ids = find_person(view, request.user_id.encode()).ids
            records = [user_record(view, name) for name in ids]
        for name, record in zip(ids, records, strict=True):
            if record is not None:
                yield profiles_pb2.ExportedRecord(user=profiles_pb2.User.FromString(record.payload))
            for interaction in self._exported(name):
                yield profiles_pb2.ExportedRecord(interaction=interaction)

    async def PurgeUser(  # noqa: N802
        self, request: profiles_pb2.PurgeUserRequest, context: Context
    ) -> profiles_pb2.PurgeUserResponse:
        """Forgets a person, and says what remains."""
        check_id(request.user_id, "user_id", self._limits.max_id_bytes)
        deadline = await self._fresh(request.read_after, context)
        watermark, written = await self._writer.purge(request.user_id.encode(), deadline)
        response = profiles_pb2.PurgeUserResponse(watermark_ms=watermark, token=pack_token(written))
        for place, description in _REMAINS.items():
            response.remains.add(place=place, description=description)
        return response

    async def _fresh(self, message: common_pb2.ReadAfter, context: Context) -> float:
        """Waits for what a request asks for; the call's deadline.

        Raises:
            InvalidArgument: it would take a stale state for what is to be changed.
        """
        after = read_after_from_pb(message, self._limits)
        if message.allow_stale:
            problem = "set; what is read here is taken away or given, so it must be all"
            raise InvalidArgument(field="read_after.allow_stale", problem=problem)
        deadline = deadline_of(context, self._limits.default_timeout_s)
        await self._freshness.wait(after, deadline)
        return deadline

    def _exported(self, user: bytes) -> Iterator[profiles_pb2.Interaction]:
        """All that is retained of one id; no transaction is held while somebody reads slowly."""
        with self._store.read() as view:
            records = self._profiles.retained(view, user)[::-1]
        for start in range(0, len(records), _EXPORTED_AT_ONCE):
            with self._store.read() as view:
                described = self._described(view, records[start : start + _EXPORTED_AT_ONCE])
            yield from described

    def _described(self, view: View, records: NDArray[np.void]) -> list[profiles_pb2.Interaction]:
        """Records as messages, ``RECORD [n]``."""
        names = item_ids(view, records["target_key"])
        made = []
        for name, record in zip(names, records.tolist(), strict=True):
            time_ms, _, key, weight, type_id, ext = record
            made.append(
                profiles_pb2.Interaction(
                    item_id="" if ext & TEXT else name,
                    item_key=0 if ext & TEXT else key,
                    text=text_of(view, key) if ext & TEXT else "",
                    position=ext & POSITION,
                    type=self._names.types.get(type_id, ""),
                    event_time_ms=time_ms,
                    weight=weight,
                )
            )
        return made


def _stored_user(person: Person) -> profiles_pb2.User | None:
    if person.record is None:
        return None
    return profiles_pb2.User.FromString(person.record.payload)
