"""The freshness token: which offsets a write reached, opaque to callers.

``R1`` and then, for each partition touched, lane, topic id, partition and next offset. It names the
topic by id, so that a token of a topic that was deleted since is refused, never silently met.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from rankstream.server.errors import InvalidArgument, NotOwned
from rankstream.server.types import Lane, Position

_MAGIC = b"R1"
_ENTRY = struct.Struct("<B16sIq")
_LANES: tuple[Lane, ...] = ("events", "items", "users")
_MAX_ENTRIES = 4096


def pack_token(positions: Iterable[Position]) -> bytes:
    """The token that waits for all of ``positions``."""
    furthest: dict[tuple[Lane, bytes, int], int] = {}
    for p in positions:
        name = (p.lane, p.topic_id, p.partition)
        furthest[name] = max(p.next_offset, furthest.get(name, 0))
    rows = sorted((_LANES.index(n[0]), n[1], n[2], offset) for n, offset in furthest.items())
    return _MAGIC + b"".join(_ENTRY.pack(*row) for row in rows)


def unpack_token(token: bytes, field: str = "read_after.min_token") -> list[Position]:
    """Reads a token.

    Raises:
        InvalidArgument: it is not one of ours.
    """
    body = token[len(_MAGIC) :]
    count, rest = divmod(len(body), _ENTRY.size)
    if token[: len(_MAGIC)] != _MAGIC or rest or count > _MAX_ENTRIES:
        raise InvalidArgument(field, "not a token that a write answered; pass it on unchanged")
    found = []
    for lane, topic_id, partition, offset in _ENTRY.iter_unpack(body):
        if lane >= len(_LANES) or offset < 0:
            raise InvalidArgument(field, "damaged; pass a write's token on unchanged")
        found.append(Position(_LANES[lane], topic_id, partition, offset))
    return found


def is_reached(wanted: Iterable[Position], applied: dict[tuple[Lane, bytes, int], int]) -> bool:
    """Whether the state has every record that a token names.

    Args:
        wanted: the token's positions.
        applied: ``(lane, topic id, partition) -> next offset`` of the state.

    Raises:
        NotOwned: the token names a partition that this replica does not fold.
    """
    reached = True
    for p in wanted:
        at = applied.get((p.lane, p.topic_id, p.partition))
        if at is None:
            msg = (
                f"min_token names partition {p.partition} of the {p.lane} topic "
                f"{p.topic_id.hex()}, which this replica does not fold: ask the replica whose "
                "partitions include murmur2(user_id) mod partitions"
            )
            raise NotOwned(msg)
        reached = reached and at >= p.next_offset
    return reached
