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
    return pack_token(positions_of(lane, topic_id, written))


def positions_of(lane: Lane, topic_id: bytes, written: Sequence[Written]) -> list[Position]:
    """Behind each record that was written."""
    return [Position(lane, topic_id, w.partition, w.offset + 1) for w in written]


def written_or_raise(outcomes: Sequence[Outcome]) -> list[Written]:
    """Outcomes of records that belong together.

    Raises:
        RankstreamError: one of them could not be written.
    """
    written = []
    for outcome in outcomes:
        if not isinstance(outcome, Written):
            raise outcome
        written.append(outcome)
    return written
