"""What the other calls answer: embeddings, writes, stored items, profiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankstream.client.errors import RankstreamError, error_from_status
from rankstream.client.mirror import mirror
from rankstream.client.rankings import Freshness, ServedBy, Timing, freshness_from_pb
from rankstream.client.records import Item, item_from_pb
from rankstream.client.vectors import vector_from_pb
from rankstream.proto.v1 import catalog_pb2, encoder_pb2, events_pb2, profiles_pb2


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """What became of one text; ``error`` is None where its row holds its embedding."""

    tokens: int
    truncated: bool
    error: RankstreamError | None


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Embeddings of B texts: ``vectors`` float32 [B, D], the row of a failed text is zero."""

    vectors: NDArray[np.float32]
    results: tuple[EmbedResult, ...]
    served_by: ServedBy
    timing: Timing


@dataclass(frozen=True, slots=True)
class EventResult:
    """What became of one event; ``error`` is None where the log has it."""

    event_id: str
    error: RankstreamError | None


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What became of one item; ``error`` is None where the log has it."""

    item_id: str
    error: RankstreamError | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """``results`` in the order of the events; a read that carries ``token`` sees them."""

    token: bytes
    results: tuple[EventResult, ...]


@dataclass(frozen=True, slots=True)
class Upserted:
    """``results`` in the order of the items; a read that carries ``token`` sees them."""

    token: bytes
    results: tuple[ItemResult, ...]


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item as it can be ranked; ``text`` is what the encoder read, ``bias`` its popularity."""

    item: Item
    item_row: int
    text: str
    bias: float
    generation: int
    catalogue_version: int


@dataclass(frozen=True, slots=True)
class Interaction:
    """One remembered interaction; ``item_id`` is empty while the catalogue lacks the item."""

    item_id: str
    item_key: int
    type: str
    event_time_ms: int
    weight: float


@dataclass(frozen=True, slots=True)
class Profile:
    """What is remembered of one user, newest first; ``known`` False: nothing was ever applied."""

    user_id: str
    known: bool
    interactions: tuple[Interaction, ...]
    history_size: int
    seen_size: int
    watermark_ms: int | None
    freshness: Freshness


def embeddings_from_pb(response: encoder_pb2.EmbedResponse) -> Embeddings:
    """Our form of an answer to ``Embed``."""
    results = (
        EmbedResult(r.tokens, r.truncated, error_from_status(r.status) if r.status.code else None)
        for r in response.results
    )
    return Embeddings(
        vectors=vector_from_pb(response.embeddings),
        results=tuple(results),
        served_by=mirror(ServedBy, response.served_by),
        timing=mirror(Timing, response.timing),
    )


def recorded_from_pb(response: events_pb2.RecordEventsResponse) -> Recorded:
    """Our form of an answer to ``RecordEvents``."""
    results = (
        EventResult(r.event_id, error_from_status(r.status) if r.status.code else None)
        for r in response.results
    )
    return Recorded(response.token, tuple(results))


def upserted_from_pb(response: catalog_pb2.UpsertItemsResponse) -> Upserted:
    """Our form of an answer to ``UpsertItems``."""
    results = (
        ItemResult(r.item_id, error_from_status(r.status) if r.status.code else None)
        for r in response.results
    )
    return Upserted(response.token, tuple(results))


def stored_item_from_pb(response: catalog_pb2.GetItemResponse) -> StoredItem:
    """Our form of an answer to ``GetItem``."""
    return StoredItem(
        item=item_from_pb(response.item),
        item_row=response.item_row,
        text=response.text,
        bias=response.bias,
        generation=response.generation,
        catalogue_version=response.catalogue_version,
    )


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
    )
