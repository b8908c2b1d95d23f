"""What the Profiles service writes to the log: users, resets, merges, purges.

The log alone decides, so each of these is records like any other. Where what is written depends on
what is stored, a reset to the beginning of time is written first, which changes nothing: once it is
applied, so is all that the same users had in the log before.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rankstream.proto.v1 import events_pb2, profiles_pb2
from rankstream.server.clock import now_ms
from rankstream.server.config import Limits
from rankstream.server.freshness import Freshness
from rankstream.server.profiles.stored import ProfileStore
from rankstream.server.profiles.users import find_person, user_record
from rankstream.server.services.outcomes import positions_of, written_or_raise
from rankstream.server.store import Store
from rankstream.server.stream.checks import check_size
from rankstream.server.stream.codec import MERGE, RESET
from rankstream.server.stream.publisher import Outgoing, Publisher
from rankstream.server.stream.user_codec import validate_user
from rankstream.server.types import Lane, Position, ReadAfter

# Interactions in one record of a merge: 32 bytes each, well below what a record may be.
_MOVED_AT_ONCE = 4_000


class UserWriter:
    """Writes what concerns whole users.

    Args:
        publisher: to the log.
        store: read for what is there.
        profiles: reads it.
        freshness: waits until it is there.
        topics: names by lane.
        limits: bounds.
    """

    def __init__(
        self,
        publisher: Publisher,
        store: Store,
        profiles: ProfileStore,
        freshness: Freshness,
        topics: Mapping[str, str],
        limits: Limits,
    ) -> None:
        self._publisher = publisher
        self._store = store
        self._profiles = profiles
        self._freshness = freshness
        self._topics = topics
        self._limits = limits

    async def upsert(self, user: profiles_pb2.User) -> list[Position]:
        """Writes a whole user.

        Raises:
            InvalidArgument: it is not valid.
        """
        validate_user(user, self._limits, "user.")
        value = user.SerializeToString(deterministic=True)
        check_size(value, self._limits, "user")
        return await self._write("users", [Outgoing(user.user_id.encode(), value)])

    async def reset(self, user: bytes, deadline: float) -> tuple[int, list[Position]]:
        """Forgets the interactions of a person; the time up to which, and where that is written."""
        ids = self._ids(user)
        watermark = await self._newest(ids, deadline)
        return watermark, await self._forget(ids, watermark)

    async def merge(self, guest: bytes, into: bytes, deadline: float) -> tuple[int, list[Position]]:
        """Gives a guest's interactions to a user, and forgets them under the guest.

        What the user has forgotten by a reset is not given again.
        """
        await self._settle([guest, into], deadline)
        with self._store.read() as view:
            records = self._profiles.retained(view, guest)
            watermark_ms = int(self._profiles.read(view, [into]).watermark_ms[0])
        records = records[records["event_time_ms"] > watermark_ms]
        if not len(records):
            return 0, []
        parts = [
            _merge_event(into, records[start : start + _MOVED_AT_ONCE])
            for start in range(0, len(records), _MOVED_AT_ONCE)
        ]
        written = await self._write("events", parts)
        # Only now: where this fails, all of it can be merged again. What the guest has done since
        # is later, and stays.
        written += await self._forget([guest], int(records["event_time_ms"].max()))
        return len(records), written

    async def purge(self, user: bytes, deadline: float) -> tuple[int, list[Position]]:
        """Forgets a person: the interactions of all their ids, and what they said of themselves."""
        ids = self._ids(user)
        watermark = await self._newest(ids, deadline)
        written = await self._forget(ids, watermark)
        # Who lists the others goes last: where this fails, the next try still finds them.
        others = [Outgoing(name, None) for name in ids[1:]]
        written += await self._write("users", others)
        written += await self._write("users", [Outgoing(ids[0], None)])
        return watermark, written

    def _ids(self, user: bytes) -> list[bytes]:
        """Every id of a person and of the user asked for; the person first."""
        with self._store.read() as view:
            person, own = find_person(view, user), user_record(view, user)
        listed = own.identities if own is not None else ()
        return list(dict.fromkeys((*person.ids, user, *listed)))

    async def _newest(self, ids: Sequence[bytes], deadline: float) -> int:
        """Now, or the time of the newest interaction, where a clock was ahead."""
        await self._settle(ids, deadline)
        newest = now_ms()
        with self._store.read() as view:
            for name in ids:
                times = self._profiles.retained(view, name)["event_time_ms"]
                newest = max(newest, int(times.max(initial=0)))
        return newest

    async def _settle(self, users: Iterable[bytes], deadline: float) -> None:
        """Waits until all that the log has of these users by now is applied."""
        written = await self._forget(users, 0)
        left = max(0.0, deadline - time.monotonic())
        await self._freshness.wait(ReadAfter(tuple(written), left, allow_stale=False), deadline)

    async def _forget(self, users: Iterable[bytes], watermark_ms: int) -> list[Position]:
        events = [
            events_pb2.Event(user_id=user.decode(), type=RESET, event_time_ms=watermark_ms)
            for user in users
        ]
        records = [Outgoing(e.user_id.encode(), e.SerializeToString()) for e in events]
        return await self._write("events", records)

    async def _write(self, lane: Lane, records: Sequence[Outgoing]) -> list[Position]:
        """Writes records of one lane, all of them."""
        topic_id = self._freshness.topic_id(lane)
        outcomes = await self._publisher.publish(self._topics[lane], records)
        return positions_of(lane, topic_id, written_or_raise(outcomes))


def _merge_event(into: bytes, records: NDArray[np.void]) -> Outgoing:
    event = events_pb2.Event(user_id=into.decode(), type=MERGE)
    event.event_time_ms = int(records["event_time_ms"].max())
    moved = event.moved
    moved.event_keys.extend(records["event_key"].tolist())
    moved.target_keys.extend(records["target_key"].tolist())
    moved.event_times_ms.extend(records["event_time_ms"].tolist())
    moved.weights.extend(records["weight"].tolist())
    kinds = records["type"].astype(np.uint32) | records["ext"].astype(np.uint32) << 16
    moved.kinds.extend(kinds.tolist())
    return Outgoing(into, event.SerializeToString())
