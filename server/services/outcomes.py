"""From what the log acknowledged to the token that a read can wait for."""

from __future__ import annotations

from collections.abc import Sequence

from rankstream.server.stream.publisher import Outcome, Written
from rankstream.server.stream.token import pack_token
from rankstream.server.types import Lane, Position


def token_of(lane: Lane, topic_id: bytes, outcomes: Sequence[Outcome]) -> bytes:
    """The token of a write's acknowledged records; empty where there are none."""
    written = [o for o in outcomes if isinstance(o, Written)]
    if not written:
        return b""
    return pack_token(Position(lane, topic_id, w.partition, w.offset + 1) for w in written)
