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


def token_of(lane: Lane, topic_id: bytes, outcomes: Iterable[Outcome]) -> bytes:
    """The token of a write's acknowledged records; empty where there are none."""
    written = positions_of(lane, topic_id, outcomes)
    return pack_token(written) if written else b""


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
