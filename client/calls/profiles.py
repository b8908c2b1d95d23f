"""The Profiles service."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from rankstream.client import checks
from rankstream.client.calls.methods import Answer, Stream, answers, streams
from rankstream.client.calls.shapes import Unary
from rankstream.client.calls.streams import Listing
from rankstream.client.host import Host
from rankstream.client.mirror import mirror
from rankstream.client.profiles import (
    Interaction,
    Merged,
    Profile,
    Purged,
    Reset,
    exported_from_pb,
    profile_from_pb,
    purged_from_pb,
)
from rankstream.client.queries import count_or_none, read_after
from rankstream.client.records import User, user_to_pb
from rankstream.proto.v1 import profiles_pb2


class ProfileCalls(Host):
    """What is remembered of users."""

    @answers
    def upsert_user(self, user: User, *, timeout_s: float | None = None) -> Answer[bytes]:
        """Writes what is known of a user, whole, to the log; returns the write's token."""
        request = profiles_pb2.UpsertUserRequest(user=user_to_pb(user))
        return Unary("Profiles/UpsertUser", request, lambda a: bytes(a.token), timeout_s)

    @answers
    def get_profile(
        self,
        user_id: str,
        *,
        max_interactions: int | None = None,
        min_token: bytes = b"",
        max_wait_ms: int | None = None,
        allow_stale: bool = False,
        timeout_s: float | None = None,
    ) -> Answer[Profile]:
        """What is remembered of one user; an unknown one has ``known`` False."""
        request = profiles_pb2.GetProfileRequest(
            user_id=checks.text("user_id", user_id),
            max_interactions=count_or_none("max_interactions", max_interactions),
            read_after=read_after(min_token, max_wait_ms, allow_stale),
        )
        return Unary("Profiles/GetProfile", request, profile_from_pb, timeout_s, max_wait_ms)

    @answers
    def merge_profiles(
        self,
        from_user_id: str,
        into_user_id: str,
        *,
        min_token: bytes = b"",
        max_wait_ms: int | None = None,
        allow_stale: bool = False,
        timeout_s: float | None = None,
    ) -> Answer[Merged]:
        """Gives a guest's interactions to a user, and forgets them under the guest.

        It is not retried: a second time there is nothing left to move. Calling again does no harm.

        Args:
            from_user_id: the guest.
            into_user_id: who they turned out to be.
            min_token: of a write of the guest's that has to be merged, too.
            max_wait_ms: longest wait for it; None: the server's default.
            allow_stale: merge what there is when the wait ends.
            timeout_s: deadline, in seconds.
        """
        request = profiles_pb2.MergeProfilesRequest(
            from_user_id=checks.text("from_user_id", from_user_id),
            into_user_id=checks.text("into_user_id", into_user_id),
            read_after=read_after(min_token, max_wait_ms, allow_stale),
        )
        return Unary("Profiles/MergeProfiles", request, _merged, timeout_s, max_wait_ms)

    @answers
    def reset_profile(self, user_id: str, *, timeout_s: float | None = None) -> Answer[Reset]:
        """Forgets a user's interactions up to now."""
        request = profiles_pb2.ResetProfileRequest(user_id=checks.text("user_id", user_id))
        return Unary("Profiles/ResetProfile", request, lambda a: mirror(Reset, a), timeout_s)

    @streams
    def export_user(
        self,
        user_id: str,
        *,
        min_token: bytes = b"",
        max_wait_ms: int | None = None,
        allow_stale: bool = False,
        timeout_s: float | None = None,
    ) -> Stream[User | Interaction]:
        """Everything that the state holds of a user: what was written, then interactions.

        Interactions come newest first: the history, then what is only remembered as seen.

        Raises:
            RankstreamError: the stream broke off; ``answered`` says after how many records.
        """
        request = profiles_pb2.ExportUserRequest(
            user_id=checks.text("user_id", user_id),
            read_after=read_after(min_token, max_wait_ms, allow_stale),
        )
        return _Export(request, timeout_s)

    @answers
    def purge_user(self, user_id: str, *, timeout_s: float | None = None) -> Answer[Purged]:
        """Forgets a user. The receipt names what remains, and what removes it."""
        request = profiles_pb2.PurgeUserRequest(user_id=checks.text("user_id", user_id))
        return Unary("Profiles/PurgeUser", request, purged_from_pb, timeout_s)


class _Export(Listing["User | Interaction"]):
    """Records of one user."""

    def __init__(self, request: profiles_pb2.ExportUserRequest, timeout_s: float | None) -> None:
        super().__init__("Profiles/ExportUser", timeout_s)
        self._request = request

    def request(self) -> Message:
        return self._request

    def read(self, answer: Any) -> User | Interaction:
        self.answered += 1
        return exported_from_pb(answer)


def _merged(response: profiles_pb2.MergeProfilesResponse) -> Merged:
    return mirror(Merged, response)
