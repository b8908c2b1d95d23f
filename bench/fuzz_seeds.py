"""Valid messages to begin from: of each record of the log, and of each RPC.

What is written here is about users and items whose ids begin with ``fuzz``; ``WITNESS`` and its
items are written once and never touched, so that a ranking of theirs has one right answer.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from rankstream.proto.v1 import (
    admin_pb2,
    catalog_pb2,
    common_pb2,
    encoder_pb2,
    events_pb2,
    profiles_pb2,
    ranking_pb2,
)
from rankstream.server.services.item_list import pack_resume
from rankstream.server.stream.token import pack_token
from rankstream.server.types import Position

NOW_MS = 1_700_000_000_000
IMAGE_DIMENSIONS = 4
TEXT_DIMENSIONS = 384
WITNESS = "witness"
WITNESS_ITEMS = ("witness-comet", "witness-teapot", "witness-violin")

_WHOLE = ranking_pb2.WholeCatalogue()
TOKEN = pack_token([Position("events", bytes(16), 2, 7), Position("items", bytes(16), 0, 1)])
RESUME = pack_resume(b"12345678")
_AFTER = common_pb2.ReadAfter(min_token=TOKEN, max_wait_ms=1, allow_stale=True)


def _value(value: str | float | bool | Sequence[str]) -> common_pb2.AttributeValue:
    if isinstance(value, bool):
        return common_pb2.AttributeValue(flag=value)
    if isinstance(value, str):
        return common_pb2.AttributeValue(text=value)
    if isinstance(value, float):
        return common_pb2.AttributeValue(number=value)
    return common_pb2.AttributeValue(texts=common_pb2.Texts(values=value))


_ATTRIBUTES = {"x": _value("home"), "n": _value(2.5), "f": _value(True), "t": _value(["a", "b"])}


def _vector(dimensions: int) -> common_pb2.Vector:
    data = struct.pack(f"<{dimensions}f", *range(dimensions))
    return common_pb2.Vector(data=data, dtype=common_pb2.Vector.FLOAT32, shape=[dimensions])


def _event(number: int, kind: str = "click", **fields: object) -> events_pb2.Event:
    made = events_pb2.Event(
        event_id=f"fuzz-{number}",
        event_time_ms=NOW_MS - 1000 * number,
        user_id=f"fuzz-user-{number}",
        type=kind,
        item_id=f"fuzz-item-{number}",
    )
    made.MergeFrom(events_pb2.Event(**fields))  # type: ignore[arg-type]  # names are the caller's
    return made


EVENTS = [
    _event(0),
    _event(1, "rate", value=4.0, position=3),
    _event(2, "view", session_id="s", platform="web", attributes=_ATTRIBUTES),
    _event(3, "review", text="a fine thing", value=5.0),
    _event(4, "purchase", value=2.0, weight=1.5),
    events_pb2.Event(user_id="fuzz-user-5", type="search", text="blue  shoes", event_id="s"),
    events_pb2.Event(user_id="fuzz-user-6", type="impression", item_id="fuzz-item", position=1),
    events_pb2.Event(user_id="fuzz-user-7", type="$reset", event_time_ms=NOW_MS),
]
MERGES = [
    events_pb2.Event(
        user_id="fuzz-user-8",
        type="$merge",
        event_time_ms=NOW_MS,
        moved=events_pb2.MovedInteractions(
            event_keys=range(1, count + 1),
            target_keys=range(11, count + 11),
            event_times_ms=[NOW_MS - n for n in range(count)],
            weights=[1.0] * count,
            kinds=[2 | 7 << 16] * count,
        ),
    )
    for count in (1, 3, 40)
]
ITEMS = [
    catalog_pb2.Item(item_id="fuzz-item-0", title="a thing"),
    catalog_pb2.Item(
        item_id="fuzz-item-1",
        title="another",
        description="of its kind",
        category="things",
        brand="maker",
        tags=["a", "b"],
        price=9.5,
        attributes=_ATTRIBUTES,
        vectors={"image": _vector(IMAGE_DIMENSIONS)},
    ),
]
USERS = [
    profiles_pb2.User(user_id="fuzz-user-0"),
    profiles_pb2.User(
        user_id="fuzz-user-1",
        attributes=_ATTRIBUTES,
        interests=["old maps", "tea"],
        identities=["fuzz-guest", "fuzz-app"],
    ),
]


def _condition(**test: object) -> ranking_pb2.Filter:
    made = ranking_pb2.Condition(column="x", **test)  # type: ignore[arg-type]  # likewise
    return ranking_pb2.Filter(condition=made)


_CONDITIONS = [
    _condition(equals=_value("home")),
    _condition(one_of=ranking_pb2.AttributeValues(values=[_value(1.0), _value("b")])),
    _condition(range=ranking_pb2.Range(min=-1.0, max_user_attribute="n")),
    _condition(exists=True),
    _condition(equals_user_attribute="x"),
]
FILTERS = [
    *_CONDITIONS,
    ranking_pb2.Filter(all=ranking_pb2.Filters(filters=_CONDITIONS)),
    ranking_pb2.Filter(
        any=ranking_pb2.Filters(
            filters=[
                ranking_pb2.Filter(none=ranking_pb2.Filters(filters=_CONDITIONS[:2])),
                _CONDITIONS[3],
            ]
        )
    ),
]
IDS = [
    ranking_pb2.ItemIds(item_ids=["a"]),
    ranking_pb2.ItemIds(item_ids=["a", "bb", "a", "ü", "x" * 40]),
]
RANKINGS = [
    ranking_pb2.RankRequest(user_id="fuzz-user-1", whole_catalogue=_WHOLE, k=3, exclude_seen=True),
    ranking_pb2.RankRequest(
        user_id="fuzz-user-2", item_ids=IDS[1], explain=ranking_pb2.Explain(items=2, reasons=2)
    ),
    ranking_pb2.RankRequest(
        user_id="fuzz-user-1", item_keys=ranking_pb2.ItemKeys(item_keys=[1, 2, 2**64 - 1])
    ),
    ranking_pb2.RankRequest(
        session=ranking_pb2.Session(
            events=[
                events_pb2.Event(type="click", item_id="fuzz-item-0"),
                events_pb2.Event(type="search", text="a thing", event_time_ms=NOW_MS),
            ]
        ),
        filter=FILTERS[-1],
        exclude_item_ids=["fuzz-item-1"],
        read_after=_AFTER,
    ),
    ranking_pb2.RankRequest(vector=_vector(TEXT_DIMENSIONS), whole_catalogue=_WHOLE),
    ranking_pb2.RankRequest(
        user_id="fuzz-user-1",
        query=ranking_pb2.Query(text="a thing", weight=0.5),
        context=_ATTRIBUTES,
        filter=FILTERS[0],
        block_weights={"text": 1.0, "image": -2.0},
        pooling=ranking_pb2.Pooling(
            half_life_s=60.0, type_weights={"click": 2.0}, profile_text_weight=0.5, ttl_s=9.0
        ),
        as_of_ms=NOW_MS,
        request_id="r",
    ),
]
SIMILAR = [
    ranking_pb2.SimilarItemsRequest(
        item_id="fuzz-item-1",
        k=2,
        filter=FILTERS[0],
        block_weights={"text": 1.0},
        exclude_item_ids=["a"],
        with_bias=True,
        read_after=_AFTER,
    ),
    ranking_pb2.SimilarItemsRequest(item_id="fuzz-item-0"),
]
EXPLAINED = [
    ranking_pb2.ExplainRequest(request=RANKINGS[1]),
    ranking_pb2.ExplainRequest(
        request=ranking_pb2.RankRequest(user_id="fuzz-user-1", item_ids=IDS[0], as_of_ms=NOW_MS)
    ),
]
PATCHES = [
    catalog_pb2.PatchItemRequest(
        item=ITEMS[1],
        update_mask=FieldMask(paths=["price", "vectors.image", "attributes.x", "tags"]),
        if_version=1,
        read_after=_AFTER,
    ),
    catalog_pb2.PatchItemRequest(item=ITEMS[1], update_mask=FieldMask(paths=["price", "tags"])),
]
_EMBED = [encoder_pb2.EmbedRequest(texts=["a text", "another"])]

CALLS: dict[str, Sequence[Message]] = {
    "Ranking/Rank": RANKINGS,
    "Ranking/BatchRank": [ranking_pb2.BatchRankRequest(requests=RANKINGS)],
    "Ranking/StreamRank": [
        ranking_pb2.BatchRankRequest(requests=RANKINGS[:1]),
        ranking_pb2.BatchRankRequest(requests=RANKINGS),
    ],
    "Ranking/SimilarItems": SIMILAR,
    "Ranking/Explain": EXPLAINED,
    "Events/RecordEvents": [
        events_pb2.RecordEventsRequest(events=EVENTS[:4], wait_applied=True, max_wait_ms=5),
        events_pb2.RecordEventsRequest(events=EVENTS),
    ],
    "Events/StreamEvents": EVENTS,
    "Events/ImportEvents": [events_pb2.ImportEventsRequest(events=EVENTS)],
    "Catalog/UpsertItems": [catalog_pb2.UpsertItemsRequest(items=ITEMS)],
    "Catalog/GetItem": [
        catalog_pb2.GetItemRequest(item_id="fuzz-item-1"),
        catalog_pb2.GetItemRequest(item_id="fuzz-item-1", read_after=_AFTER),
    ],
    "Catalog/ImportItems": [catalog_pb2.ImportItemsRequest(items=ITEMS)],
    "Catalog/PatchItem": PATCHES,
    "Catalog/DeleteItems": [catalog_pb2.DeleteItemsRequest(item_ids=["fuzz-item-0", "fuzz-no"])],
    "Catalog/ListItems": [
        catalog_pb2.ListItemsRequest(resume_token=RESUME, limit=3),
        catalog_pb2.ListItemsRequest(limit=100),
    ],
    "Profiles/UpsertUser": [profiles_pb2.UpsertUserRequest(user=user) for user in USERS],
    "Profiles/GetProfile": [
        profiles_pb2.GetProfileRequest(user_id="fuzz-user-1", max_interactions=3, read_after=_AFTER)
    ],
    "Profiles/MergeProfiles": [
        profiles_pb2.MergeProfilesRequest(from_user_id="fuzz-user-0", into_user_id="fuzz-user-1"),
        profiles_pb2.MergeProfilesRequest(
            from_user_id="fuzz-user-2", into_user_id="fuzz-user-1", read_after=_AFTER
        ),
    ],
    "Profiles/ResetProfile": [profiles_pb2.ResetProfileRequest(user_id="fuzz-user-3")],
    "Profiles/ExportUser": [
        profiles_pb2.ExportUserRequest(user_id="fuzz-user-1"),
        profiles_pb2.ExportUserRequest(user_id="fuzz-user-1", read_after=_AFTER),
    ],
    "Profiles/PurgeUser": [profiles_pb2.PurgeUserRequest(user_id="fuzz-user-4")],
    "Encoder/Embed": _EMBED,
    "Encoder/EmbedStream": _EMBED,
    "Encoder/Tokenize": [encoder_pb2.TokenizeRequest(texts=["a text", "another"])],
    "Admin/GetServerInfo": [admin_pb2.GetServerInfoRequest()],
    "Admin/GetConsumerLag": [admin_pb2.GetConsumerLagRequest()],
    "Admin/Reindex": [
        admin_pb2.ReindexRequest(id="fuzz", model="/nowhere", settings={"precision": "f32"})
    ],
    "Admin/RollbackReindex": [admin_pb2.RollbackReindexRequest(id="fuzz")],
    "Admin/WatchReindex": [admin_pb2.WatchReindexRequest()],
    "Admin/CancelReindex": [admin_pb2.CancelReindexRequest()],
    "Admin/DropGeneration": [admin_pb2.DropGenerationRequest()],
}
"""Valid requests of every RPC, by its name."""
