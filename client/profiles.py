"""What is remembered of a user, and what the calls that change it answer."""

from __future__ import annotations

from dataclasses import dataclass

from rankstream.client.errors import DataLoss
from rankstream.client.mirror import mirror
from rankstream.client.rankings import Freshness, freshness_from_pb
from rankstream.client.records import User, user_from_pb
from rankstream.proto.v1 import profiles_pb2


@dataclass(frozen=True, slots=True)
class Interaction:
    """One remembered interaction.

    ``item_id`` is empty while the catalogue lacks the item, and where the interaction is with a
    text: ``text`` is its beginning. ``position``: where the item stood in a list; 0: not known.
    """

    item_id: str
    item_key: int
    type: str
    event_time_ms: int
    weight: float
    text: str = ""
    position: int = 0


@dataclass(frozen=True, slots=True)
class Profile:
    """What is remembered of one user, newest first.

    Attributes:
        known: False: nothing was ever applied.
        history_size: interactions that are kept.
        seen_size: distinct items that exclude_seen leaves out.
        watermark_ms: interactions at or before it are ignored; None: there is none.
        user: what ``upsert_user`` wrote; None: nothing.
        canonical_user_id: the user whose identity this one is; empty: none.
    """

    user_id: str
    known: bool
    interactions: tuple[Interaction, ...]
    history_size: int
    seen_size: int
    watermark_ms: int | None
    freshness: Freshness
    user: User | None
    canonical_user_id: str


@dataclass(frozen=True, slots=True)
class Merged:
    """How many interactions were given; a read that carries ``token`` sees them moved."""

    moved: int
    token: bytes


@dataclass(frozen=True, slots=True)
class Reset:
    """Interactions at or before ``watermark_ms`` are ignored from now on."""

    watermark_ms: int
    token: bytes


@dataclass(frozen=True, slots=True)
class Remainder:
    """What still holds something of a purged user, and what removes it."""

    place: str
    description: str


@dataclass(frozen=True, slots=True)
class Purged:
    """The receipt of a purge."""

    watermark_ms: int
    token: bytes
    remains: tuple[Remainder, ...]


def profile_from_pb(response: profiles_pb2.GetProfileResponse) -> Profile:
    """Our form of an answer to ``GetProfile``."""
    return Profile(
        user_id=response.user_id,
        known=response.known,
        interactions=tuple(mirror(Interaction, i) for i in response.interactions),
        history_size=response.history_size,
        seen_size=response.seen_size,
        watermark_ms=response.watermark_ms if response.HasField("watermark_ms") else None,
        freshness=freshness_from_pb(response.freshness),
        user=user_from_pb(response.user) if response.HasField("user") else None,
        canonical_user_id=response.canonical_user_id,
    )


def exported_from_pb(response: profiles_pb2.ExportedRecord) -> User | Interaction:
    """Our form of one answer to ``ExportUser``.

    Raises:
        DataLoss: it is of a kind that is not known here.
    """
    kind = response.WhichOneof("record")
    if kind == "user":
        return user_from_pb(response.user)
    if kind == "interaction":
        return mirror(Interaction, response.interaction)
    message = "the answer holds a record of an unknown kind; is this client older than the server?"
    raise DataLoss(message)


def purged_from_pb(response: profiles_pb2.PurgeUserResponse) -> Purged:
    """Our form of an answer to ``PurgeUser``."""
    remains = tuple(mirror(Remainder, remainder) for remainder in response.remains)
    return Purged(response.watermark_ms, response.token, remains)
