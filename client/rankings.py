"""A ranking as it is answered: items, scores, reasons, freshness and timing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankstream.client.errors import RankstreamError, error_from_status
from rankstream.client.mirror import mirror
from rankstream.proto.v1 import common_pb2, ranking_pb2


@dataclass(frozen=True, slots=True)
class AppliedOffset:
    """How far one partition was applied; ``lag`` records are behind it, -1: not known."""

    topic: str
    partition: int
    next_offset: int
    lag: int


@dataclass(frozen=True, slots=True)
class Freshness:
    """What the answer knows: see ``common.proto``. ``stale``: ``min_token`` was not reached."""

    profile_updated_at_ms: int
    applied: tuple[AppliedOffset, ...]
    catalogue_version: int
    stale: bool


@dataclass(frozen=True, slots=True)
class Timing:
    """Microseconds the server spent in each stage, and how many entries it computed together."""

    queue_us: int
    gather_us: int
    pool_us: int
    score_us: int
    present_us: int
    encode_us: int
    total_us: int
    batch_size: int


@dataclass(frozen=True, slots=True)
class ServedBy:
    """Who answered. ``fallback`` says why the answer is not personal; empty: it is."""

    server_version: str
    worker: str
    space_fingerprint: str
    fallback: str
    generation: int


@dataclass(frozen=True, slots=True)
class Reason:
    """A past interaction and what it adds to the score: exact, may be negative.

    ``item_id`` is empty where it is with a text: ``text`` is its beginning.
    """

    item_id: str
    type: str
    event_time_ms: int
    contribution: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class RankedItem:
    """One item of a ranking; ``rank`` 1 is best; ``blocks`` and ``bias`` add up to ``score``."""

    item_id: str
    rank: int
    score: float
    blocks: Mapping[str, float]
    bias: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """K items, best first, and how the answer came about.

    Attributes:
        items: the K items.
        missing_item_ids: candidates that the catalogue does not hold.
        missing_item_keys: the same for candidates given as keys.
    """

    request_id: str
    items: tuple[RankedItem, ...]
    missing_item_ids: tuple[str, ...]
    missing_item_keys: tuple[int, ...]
    served_by: ServedBy
    freshness: Freshness
    timing: Timing

    @property
    def item_ids(self) -> list[str]:
        """The K item ids, best first."""
        return [item.item_id for item in self.items]

    @property
    def scores(self) -> NDArray[np.float32]:
        """float32 [K], never increasing."""
        return np.fromiter((i.score for i in self.items), np.float32, count=len(self.items))


def ranking_from_pb(response: ranking_pb2.RankResponse) -> Ranking:
    """Our form of an answer to ``Rank``."""
    names = tuple(response.block_names)
    return Ranking(
        request_id=response.request_id,
        items=tuple(_ranked_item(item, names) for item in response.items),
        missing_item_ids=tuple(response.missing_item_ids),
        missing_item_keys=tuple(response.missing_item_keys),
        served_by=mirror(ServedBy, response.served_by),
        freshness=freshness_from_pb(response.freshness),
        timing=mirror(Timing, response.timing),
    )


def entry_from_pb(entry: ranking_pb2.BatchRankEntry) -> Ranking | RankstreamError:
    """One entry of a batch, or why it failed."""
    if entry.status.code:
        return error_from_status(entry.status)
    return ranking_from_pb(entry.response)


def _ranked_item(item: ranking_pb2.RankedItem, block_names: Sequence[str]) -> RankedItem:
    return RankedItem(
        item_id=item.item_id,
        rank=item.rank,
        score=item.score,
        blocks=dict(zip(block_names, item.parts.blocks, strict=True)),
        bias=item.parts.bias,
        reasons=tuple(mirror(Reason, reason) for reason in item.reasons),
    )


def freshness_from_pb(message: common_pb2.Freshness) -> Freshness:
    """Our form of an answer's freshness."""
    return Freshness(
        profile_updated_at_ms=message.profile_updated_at_ms,
        applied=tuple(mirror(AppliedOffset, offset) for offset in message.applied),
        catalogue_version=message.catalogue_version,
        stale=message.stale,
    )
