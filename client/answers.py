"""What writes and the encoder answer, and items as they are stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rankstream.client.errors import RankstreamError, error_from_status
from rankstream.client.mirror import mirror
from rankstream.client.rankings import ServedBy, Timing
from rankstream.client.records import Item, item_from_pb
from rankstream.client.vectors import vector_from_pb
from rankstream.proto.v1 import catalog_pb2, encoder_pb2, events_pb2

if TYPE_CHECKING:
    from google.rpc import status_pb2


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
    """``results`` in the order of the events; a read that carries ``token`` sees them.

    ``applied``: whether the state had them in time, where ``wait_applied`` was asked for.
    """

    token: bytes
    results: tuple[EventResult, ...]
    applied: bool


@dataclass(frozen=True, slots=True)
class Upserted:
    """``results`` in the order of the items; a read that carries ``token`` sees them."""

    token: bytes
    results: tuple[ItemResult, ...]


@dataclass(frozen=True, slots=True)
class Deleted:
    """``results`` in the order of the ids; a read that carries ``token`` misses the items."""

    token: bytes
    results: tuple[ItemResult, ...]


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item as it can be ranked; ``text`` is what the encoder read, ``bias`` its popularity.

    ``version`` is what ``patch_item`` takes as ``if_version``.
    """

    item: Item
    item_row: int
    text: str
    bias: float
    generation: int
    catalogue_version: int
    version: int


@dataclass(frozen=True, slots=True)
class Patched:
    """The whole item as it was written; a read that carries ``token`` sees it."""

    item: Item
    token: bytes


@dataclass(frozen=True, slots=True)
class ListedItem:
    """One item of a list; a list that is given ``resume_token`` begins behind it."""

    item: Item
    resume_token: bytes


@dataclass(frozen=True, slots=True)
class EventAck:
    """What became of one event of a stream.

    Attributes:
        outcome: ACCEPTED, DUPLICATE (not written again), LATE (in the log, but too old to change
            the profile) or REJECTED.
        event_id: its id.
        token: for a read that has to see it.
        error: why it was rejected; None: it was not.
    """

    outcome: str
    event_id: str
    token: bytes
    error: RankstreamError | None


@dataclass(frozen=True, slots=True, eq=False)
class TokenizedText:
    """What the model reads of one text.

    Attributes:
        token_ids: uint32 [T].
        tokens: their T texts.
        truncated: whether the text was longer than the model reads.
        error: None where the others hold.
    """

    token_ids: NDArray[np.uint32]
    tokens: tuple[str, ...]
    truncated: bool
    error: RankstreamError | None


def embeddings_from_pb(response: encoder_pb2.EmbedResponse) -> Embeddings:
    """Our form of an answer to ``Embed``."""
    results = (EmbedResult(r.tokens, r.truncated, _error_of(r.status)) for r in response.results)
    return Embeddings(
        vectors=vector_from_pb(response.embeddings),
        results=tuple(results),
        served_by=mirror(ServedBy, response.served_by),
        timing=mirror(Timing, response.timing),
    )


def recorded_from_pb(response: events_pb2.RecordEventsResponse) -> Recorded:
    """Our form of an answer to ``RecordEvents``."""
    results = (EventResult(r.event_id, _error_of(r.status)) for r in response.results)
    return Recorded(response.token, tuple(results), response.applied)


def upserted_from_pb(response: catalog_pb2.UpsertItemsResponse) -> Upserted:
    """Our form of an answer to ``UpsertItems``."""
    return Upserted(response.token, _item_results(response.results))


def deleted_from_pb(response: catalog_pb2.DeleteItemsResponse) -> Deleted:
    """Our form of an answer to ``DeleteItems``."""
    return Deleted(response.token, _item_results(response.results))


def stored_item_from_pb(response: catalog_pb2.GetItemResponse) -> StoredItem:
    """Our form of an answer to ``GetItem``."""
    return StoredItem(
        item=item_from_pb(response.item),
        item_row=response.item_row,
        text=response.text,
        bias=response.bias,
        generation=response.generation,
        catalogue_version=response.catalogue_version,
        version=response.version,
    )


def patched_from_pb(response: catalog_pb2.PatchItemResponse) -> Patched:
    """Our form of an answer to ``PatchItem``."""
    return Patched(item_from_pb(response.item), response.token)


def listed_item_from_pb(response: catalog_pb2.ListedItem) -> ListedItem:
    """Our form of one answer to ``ListItems``."""
    return ListedItem(item_from_pb(response.item), response.resume_token)


def ack_from_pb(response: events_pb2.EventAck) -> EventAck:
    """Our form of one answer to ``StreamEvents``."""
    return EventAck(
        outcome=events_pb2.EventAck.Outcome.Name(response.outcome),
        event_id=response.event_id,
        token=response.token,
        error=_error_of(response.status),
    )


def tokenized_from_pb(response: encoder_pb2.TokenizeResponse) -> list[TokenizedText]:
    """Our form of an answer to ``Tokenize``."""
    return [
        TokenizedText(
            token_ids=np.array(text.token_ids, np.uint32),
            tokens=tuple(text.tokens),
            truncated=text.truncated,
            error=_error_of(text.status),
        )
        for text in response.texts
    ]


def _item_results(results: Iterable[catalog_pb2.ItemResult]) -> tuple[ItemResult, ...]:
    return tuple(ItemResult(r.item_id, _error_of(r.status)) for r in results)


def _error_of(status: status_pb2.Status) -> RankstreamError | None:
    return error_from_status(status) if status.code else None
