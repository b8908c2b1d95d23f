"""The Python client of rankstream: rank, write events and items, read profiles.

Names are loaded when they are first used: the command line starts without grpc and NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rankstream.client.aio import (
        AsyncClient,
    )
    from rankstream.client.answers import (
        Deleted,
        Embeddings,
        EmbedResult,
        EventAck,
        EventResult,
        ItemResult,
        ListedItem,
        Patched,
        Recorded,
        StoredItem,
        TokenizedText,
        Upserted,
    )
    from rankstream.client.client import (
        Client,
    )
    from rankstream.client.credentials import (
        Credentials,
    )
    from rankstream.client.errors import (
        BadRecord,
        Cancelled,
        DataLoss,
        DeadlineExceeded,
        DeliveryFailed,
        FailedPrecondition,
        FieldViolation,
        Internal,
        InvalidArgument,
        NotFound,
        PermissionDenied,
        RankstreamError,
        ResourceExhausted,
        Unauthenticated,
        Unavailable,
        Unimplemented,
    )
    from rankstream.client.events import (
        EventProducer,
        Sent,
    )
    from rankstream.client.explanations import (
        Contribution,
        ExplainedItem,
        Explanation,
    )
    from rankstream.client.filters import (
        Filter,
    )
    from rankstream.client.imports import (
        Imported,
        ImportFailure,
        ImportProgress,
    )
    from rankstream.client.keys import (
        item_key,
        item_keys,
    )
    from rankstream.client.profiles import (
        Interaction,
        Merged,
        Profile,
        Purged,
        Remainder,
        Reset,
    )
    from rankstream.client.queries import (
        Pooling,
        RankQuery,
    )
    from rankstream.client.rankings import (
        AppliedOffset,
        Freshness,
        RankedItem,
        Ranking,
        Reason,
        ServedBy,
        Timing,
    )
    from rankstream.client.readers import (
        RecordReader,
        read_events,
        read_items,
    )
    from rankstream.client.records import (
        Event,
        Item,
        User,
    )
    from rankstream.client.reindexing import ReindexProgress
    from rankstream.client.status import (
        BlockInfo,
        ConsumerLag,
        EncoderInfo,
        EncoderWork,
        EventTypeInfo,
        GenerationInfo,
        Limit,
        PartitionLag,
        ServerInfo,
    )

_HOMES = {
    "aio": "AsyncClient",
    "answers": "Deleted EmbedResult Embeddings EventAck EventResult ItemResult ListedItem "
    "Patched Recorded StoredItem TokenizedText Upserted",
    "client": "Client",
    "credentials": "Credentials",
    "errors": "BadRecord Cancelled DataLoss DeadlineExceeded DeliveryFailed FailedPrecondition "
    "FieldViolation Internal InvalidArgument NotFound PermissionDenied RankstreamError "
    "ResourceExhausted Unauthenticated Unavailable Unimplemented",
    "events": "EventProducer Sent",
    "explanations": "Contribution ExplainedItem Explanation",
    "filters": "Filter",
    "imports": "ImportFailure ImportProgress Imported",
    "keys": "item_key item_keys",
    "profiles": "Interaction Merged Profile Purged Remainder Reset",
    "queries": "Pooling RankQuery",
    "rankings": "AppliedOffset Freshness RankedItem Ranking Reason ServedBy Timing",
    "readers": "RecordReader read_events read_items",
    "records": "Event Item User",
    "reindexing": "ReindexProgress",
    "status": (
        "BlockInfo ConsumerLag EncoderInfo EncoderWork EventTypeInfo GenerationInfo Limit "
        "PartitionLag ServerInfo"
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "AppliedOffset",
    "AsyncClient",
    "BadRecord",
    "BlockInfo",
    "Cancelled",
    "Client",
    "ConsumerLag",
    "Contribution",
    "Credentials",
    "DataLoss",
    "DeadlineExceeded",
    "Deleted",
    "DeliveryFailed",
    "EmbedResult",
    "Embeddings",
    "EncoderInfo",
    "EncoderWork",
    "Event",
    "EventAck",
    "EventProducer",
    "EventResult",
    "EventTypeInfo",
    "ExplainedItem",
    "Explanation",
    "FailedPrecondition",
    "FieldViolation",
    "Filter",
    "Freshness",
    "GenerationInfo",
    "ImportFailure",
    "ImportProgress",
    "Imported",
    "Interaction",
    "Internal",
    "InvalidArgument",
    "Item",
    "ItemResult",
    "Limit",
    "ListedItem",
    "Merged",
    "NotFound",
    "PartitionLag",
    "Patched",
    "PermissionDenied",
    "Pooling",
    "Profile",
    "Purged",
    "RankQuery",
    "RankedItem",
    "Ranking",
    "RankstreamError",
    "Reason",
    "RecordReader",
    "Recorded",
    "ReindexProgress",
    "Remainder",
    "Reset",
    "ResourceExhausted",
    "Sent",
    "ServedBy",
    "ServerInfo",
    "StoredItem",
    "Timing",
    "TokenizedText",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Upserted",
    "User",
    "item_key",
    "item_keys",
    "read_events",
    "read_items",
]


def __getattr__(name: str) -> object:
    """Loads a public name from its module."""
    if name not in _HOME_OF:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value: object = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names, loaded or not."""
    return sorted(__all__)
