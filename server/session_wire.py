"""Sessions: interactions that a request brings, from protobuf to arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rankstream.proto.v1 import events_pb2, ranking_pb2
from rankstream.server.clock import now_ms
from rankstream.server.config import Limits
from rankstream.server.errors import InvalidArgument
from rankstream.server.profiles.interaction import TEXT
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.stream.codec import validate_interaction
from rankstream.server.types import Session, item_key, text_key


class _Interaction(NamedTuple):
    time_ms: int
    place: int
    key: int
    ext: int
    type_id: int
    weight: float


def session_from_pb(
    message: ranking_pb2.Session, fold: FoldSettings, limits: Limits, field: str
) -> Session:
    """Checks a session's events, and puts them in the order of their times.

    Raises:
        InvalidArgument: names the field.
    """
    count, limit = len(message.events), limits.max_session_events
    if count > limit:
        raise InvalidArgument(field + "events", f"{count} events, the limit is {limit}")
    now = now_ms()
    found: list[_Interaction] = []
    texts: dict[int, str] = {}
    for i, event in enumerate(message.events):
        where = f"{field}events[{i}]."
        if event.user_id:
            raise InvalidArgument(where + "user_id", "set; a session is nobody's who is stored")
        at = _time_of(event, now, now + fold.allowed_skew_ms, where)
        type_id, weight, text = validate_interaction(event, fold, limits, where)
        if event.item_id:
            found.append(_Interaction(at, i, item_key(event.item_id), 0, type_id, weight))
        if text:
            key = text_key(text)
            texts[key] = text
            found.append(_Interaction(at, i, key, TEXT, type_id, weight))
    found.sort()
    return Session(
        target_keys=np.array([f.key for f in found], np.uint64),
        weights=np.array([f.weight for f in found], np.float32),
        event_times_ms=np.array([f.time_ms for f in found], np.int64),
        types=np.array([f.type_id for f in found], np.uint16),
        exts=np.array([f.ext for f in found], np.uint16),
        texts=texts,
    )


def _time_of(event: events_pb2.Event, now: int, latest: int, field: str) -> int:
    if not event.HasField("event_time_ms"):
        return now
    if not 0 <= event.event_time_ms <= latest:
        problem = f"{event.event_time_ms}, expected 0 to {latest} (ms since the epoch)"
        raise InvalidArgument(field + "event_time_ms", problem)
    return event.event_time_ms
