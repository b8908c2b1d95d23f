"""A score taken apart: by block, by what the subject's vector is made of, and the bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rankstream.client.mirror import mirror
from rankstream.client.rankings import Freshness, Reason, ServedBy, Timing, freshness_from_pb
from rankstream.proto.v1 import ranking_pb2


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one thing adds to a score; ``blocks`` add up to ``reason.contribution``.

    ``reason`` is an interaction, or has the type "$query", "$vector" or "$profile".
    """

    reason: Reason
    blocks: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ExplainedItem:
    """One item: ``blocks`` and ``bias`` add up to ``score``, ``contributions`` to the blocks."""

    item_id: str
    score: float
    blocks: Mapping[str, float]
    bias: float
    contributions: tuple[Contribution, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Items in the order they were asked for, without those that are missing."""

    request_id: str
    items: tuple[ExplainedItem, ...]
    missing_item_ids: tuple[str, ...]
    served_by: ServedBy
    freshness: Freshness
    timing: Timing


def explanation_from_pb(response: ranking_pb2.ExplainResponse) -> Explanation:
    """Our form of an answer to ``Explain``."""
    names = tuple(response.block_names)
    return Explanation(
        request_id=response.request_id,
        items=tuple(_explained_item(item, names) for item in response.items),
        missing_item_ids=tuple(response.missing_item_ids),
        served_by=mirror(ServedBy, response.served_by),
        freshness=freshness_from_pb(response.freshness),
        timing=mirror(Timing, response.timing),
    )


def _explained_item(item: ranking_pb2.ExplainedItem, block_names: Sequence[str]) -> ExplainedItem:
    return ExplainedItem(
        item_id=item.item_id,
        score=item.score,
        blocks=dict(zip(block_names, item.parts.blocks, strict=True)),
        bias=item.parts.bias,
        contributions=tuple(
            Contribution(
                reason=mirror(Reason, contribution.reason),
                blocks=dict(zip(block_names, contribution.blocks, strict=True)),
            )
            for contribution in item.contributions
        ),
    )
