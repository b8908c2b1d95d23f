"""From what the log acknowledged to the token that a read can wait for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rankstream.server.stream.publisher import Outcome, Written
from rankstream.server.stream.token import pack_token
from rankstream.server.types import Lane, Position


def positions_of(lane: Lane, topic_id: bytes, outcomes: Iterable[Outcome]) -> list[Position]:
    """The furthest positions behind a write's acknowledged records, one a partition."""
    furthest: dict[int, int] = {}
    for outcome in outcomes:
        if isinstance(outcome, Written):
            at = outcome.partition
            furthest[at] = max(outcome.offset + 1, furthest.get(at, 0))
    return [Position(lane, topic_id, at, offset) for at, offset in furthest.items()]


def token_of(lane: Lane, topic_id: bytes, outcomes: Sequence[Outcome]) -> bytes:
    """The token of a write's acknowledged records; empty where there are none."""
    written = [o for o in outcomes if isinstance(o, Written)]
    if not written:
        return b""
    return pack_token(Position(lane, topic_id, w.partition, w.offset + 1) for w in written)
