"""Every decoder of bytes that come from outside, or from disk, and what it may do with bad ones.

A decoder answers with a value or one of its documented errors; anything else is a *finding*. Two
have a second opinion: the kernel that reads plain events must agree with ``EventCodec.decode`` on
every record, and the kernel that reads item ids with protobuf.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

import numpy as np
from fuzz_drafts import draft_bytes, draft_event_json, draft_messages
from fuzz_seeds import (
    EVENTS,
    EXPLAINED,
    FILTERS,
    IDS,
    IMAGE_DIMENSIONS,
    ITEMS,
    MERGES,
    NOW_MS,
    PATCHES,
    RANKINGS,
    RESUME,
    SIMILAR,
    TEXT_DIMENSIONS,
    TOKEN,
    USERS,
)
from fuzz_stored import STORED
from google.protobuf.message import DecodeError

from rankstream import kernels
from rankstream.kernels.errors import KernelArgumentError
from rankstream.kernels.murmur2 import partitions_of
from rankstream.proto.v1 import catalog_pb2, ranking_pb2
from rankstream.server.asked_wire import RequestForm
from rankstream.server.catalog.blocks import make_layout
from rankstream.server.config import Limits, Scoring
from rankstream.server.encoder.text import ItemTemplate
from rankstream.server.errors import RankstreamError
from rankstream.server.filter_wire import filter_from_pb
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.profiles.texts import Keeping
from rankstream.server.services.item_list import unpack_resume
from rankstream.server.services.item_patch import item_paths, patched
from rankstream.server.stream.consumer import Chunk
from rankstream.server.stream.event_codec import EventCodec
from rankstream.server.stream.event_columns import EventColumns
from rankstream.server.stream.item_codec import decode_item, validate_item
from rankstream.server.stream.token import unpack_token
from rankstream.server.stream.user_codec import UserFolder
from rankstream.server.wire import (
    explain_task_from_pb,
    rank_task_from_pb,
    read_after_from_pb,
    similar_task_from_pb,
)

ALLOWED = (RankstreamError, DecodeError)

_PARTITIONS = 4
_JSON = (("content-type", b"application/json"),)
_FOLD = FoldSettings(custom_types=("read",), curves=("read:centred(30,30)",))
_WIDE = Limits()
_NARROW = Limits(
    max_id_bytes=16,
    max_record_bytes=300,
    max_event_text_chars=12,
    max_attributes=3,
    max_attribute_name_bytes=8,
    max_attribute_bytes=20,
    max_attribute_texts=1,
)
_LAYOUT = make_layout(TEXT_DIMENSIONS, Scoring(vectors=f"image:{IMAGE_DIMENSIONS}"))
_FORM = RequestForm(_WIDE, _LAYOUT, _FOLD, "space")
_TEMPLATE = ItemTemplate.parse("{title}|{description}|{category}|by {brand}|tags: {tags}")
_USERS = UserFolder(_WIDE, Keeping(1000, lambda: None))


class Disagreement(Exception):
    """Two readers of the same bytes read different things."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """One decoder under test.

    Attributes:
        name: of it.
        share: of all messages, in some unit.
        make: draws a message.
        read: reads a batch; raises nothing, unless there is a finding.
    """

    name: str
    share: int
    make: Callable[[Random], bytes]
    read: Callable[[Sequence[bytes]], object]


@dataclass(slots=True)
class LogRecord:
    """One record of the log, with what lanes read of it."""

    offset: int
    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    timestamp: int = NOW_MS


def read_events(
    codec: EventCodec, headers: Sequence[tuple[str, bytes | None]], values: Sequence[bytes]
) -> None:
    """Reads records as ingest does, and one by one.

    Raises:
        Disagreement: the two differ.
    """
    records: list[Any] = [LogRecord(i, value, headers=headers) for i, value in enumerate(values)]
    (decoded,) = codec.decode_chunks([Chunk(0, records, len(records))])
    good, owners, refused = [], [], []
    for record in records:
        try:
            found = codec.decode(record.value, NOW_MS, 0, record.offset, headers)
        except ALLOWED as error:
            refused.append((record.offset, str(error)))
        else:
            good += found
            owners.append(found[0].user)
    expected = EventColumns.of(good)
    _agree("refused", [(r.offset, why) for r, why in decoded.refused], refused)
    _agree("users", decoded.events.users, expected.users)
    _agree("rows", decoded.events.rows.tobytes(), expected.rows.tobytes())
    _agree("texts", decoded.events.texts, expected.texts)
    away = int(np.count_nonzero(partitions_of(owners, _PARTITIONS))) if owners else 0
    _agree("misplaced", decoded.misplaced, away)


def read_users(values: Sequence[bytes]) -> None:
    """Reads records of the users topic: as values, and as keys of deletions."""
    records: list[Any] = [LogRecord(i, value) for i, value in enumerate(values)]
    deletions: list[Any] = [LogRecord(i, None, key=value) for i, value in enumerate(values)]
    read, _ = _USERS.read(Chunk(0, records, len(records)))
    for record in read.records.values():
        if record is not None:
            record.pack()
    gone, _ = _USERS.read(Chunk(0, deletions, len(deletions)))
    longest = max(map(len, gone.records), default=0)
    if longest > _WIDE.max_id_bytes:
        msg = f"a user_id of {longest} bytes is to be deleted; none is longer than the limit"
        raise Disagreement(msg)


def read_item_ids(value: bytes) -> None:
    """Reads ids by the kernel and by protobuf."""
    try:
        theirs = ranking_pb2.ItemIds.FromString(value)
    except DecodeError:
        theirs = None
    try:
        found = kernels.read_item_ids(value, _WIDE.max_id_bytes)
    except KernelArgumentError as error:
        if theirs is not None:
            msg = f"protobuf reads it: {error}"
            raise Disagreement(msg) from error
        return
    if theirs is None or not isinstance(found, kernels.ItemIds):
        return
    spans = zip(found.starts, found.stops, strict=True)
    ours = [found.text[start:stop].tobytes().decode() for start, stop in spans]
    _agree("ids", ours, list(dict.fromkeys(theirs.item_ids)))


def _agree(what: str, ours: object, theirs: object) -> None:
    if ours != theirs:
        msg = f"{what}: {str(ours)[:200]} and {str(theirs)[:200]}"
        raise Disagreement(msg)


def _rank(value: bytes) -> None:
    request = ranking_pb2.RankRequest.FromString(value)
    read_after_from_pb(request.read_after, _WIDE)
    rank_task_from_pb(request, _FORM, "")


def _similar(value: bytes) -> None:
    similar_task_from_pb(ranking_pb2.SimilarItemsRequest.FromString(value), _FORM)


def _explain(value: bytes) -> None:
    explain_task_from_pb(ranking_pb2.ExplainRequest.FromString(value), _FORM)


def _filter(value: bytes) -> None:
    filter_from_pb(ranking_pb2.Filter.FromString(value), _WIDE, "filter")


def _item(value: bytes) -> None:
    decode_item(None, value, _WIDE, _LAYOUT.vectors, _TEMPLATE)


def _patch(value: bytes) -> None:
    request = catalog_pb2.PatchItemRequest.FromString(value)
    paths = item_paths(request.update_mask.paths, _WIDE, _LAYOUT.vectors)
    validate_item(patched(ITEMS[1], request.item, paths), _WIDE, _LAYOUT.vectors)


def _one_by_one(read: Callable[[bytes], object], values: Sequence[bytes]) -> None:
    for value in values:
        try:
            read(value)
        except ALLOWED:
            continue


def _each(read: Callable[[bytes], object]) -> Callable[[Sequence[bytes]], object]:
    return partial(_one_by_one, read)


def _codec(limits: Limits) -> EventCodec:
    return EventCodec(_FOLD, limits, "events", _PARTITIONS)


_IN_LOG = draft_messages(EVENTS)
_MERGED = draft_messages(MERGES)
_RANKED = draft_messages(RANKINGS)

DECODERS = (
    Decoder("events", 34, _IN_LOG, partial(read_events, _codec(_WIDE), ())),
    Decoder("events, narrow limits", 10, _IN_LOG, partial(read_events, _codec(_NARROW), ())),
    Decoder("events in JSON", 3, draft_event_json, partial(read_events, _codec(_WIDE), _JSON)),
    Decoder("merges", 6, _MERGED, partial(read_events, _codec(_WIDE), ())),
    Decoder("items", 7, draft_messages(ITEMS), _each(_item)),
    Decoder("users", 6, draft_messages(USERS), read_users),
    Decoder("rankings", 10, _RANKED, _each(_rank)),
    Decoder("similar items", 2, draft_messages(SIMILAR), _each(_similar)),
    Decoder("explanations", 2, draft_messages(EXPLAINED), _each(_explain)),
    Decoder("filters", 4, draft_messages(FILTERS), _each(_filter)),
    Decoder("item ids", 5, draft_messages(IDS), _each(read_item_ids)),
    Decoder("patches", 2, draft_messages(PATCHES), _each(_patch)),
    Decoder("tokens", 2, partial(draft_bytes, [TOKEN]), _each(unpack_token)),
    Decoder("resume tokens", 2, partial(draft_bytes, [RESUME]), _each(unpack_resume)),
    *(
        Decoder(f"stored {name}", 1, partial(draft_bytes, values), _each(read))
        for name, (values, read) in STORED.items()
    ),
)
"""All of them; a name is also the source of its messages' randomness."""
