"""Merges on their way from the log to the fold: a guest's interactions under another user."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rankstream.proto.v1 import events_pb2
from rankstream.server.errors import InvalidArgument
from rankstream.server.profiles.interaction import MOVED, check_event_time
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.stream.event_columns import DecodedEvent


def moved_events(
    event: events_pb2.Event, user: bytes, broker_ms: int, fold: FoldSettings
) -> list[DecodedEvent]:
    """The interactions that a ``$merge`` brings, all of them or none.

    Raises:
        InvalidArgument: names the field.
    """
    moved = event.moved
    times, weights = moved.event_times_ms, moved.weights
    count, most = len(moved.event_keys), fold.history_cap + fold.seen_cap
    lengths = {len(moved.target_keys), len(times), len(weights), len(moved.kinds)}
    if lengths != {count}:
        raise InvalidArgument(field="moved", problem="its arrays differ in length")
    if not 1 <= count <= most:
        raise InvalidArgument(field="moved", problem=f"{count}, expected 1 to {most} interactions")
    for name, extreme in (("oldest", min(times)), ("newest", max(times))):
        _check_time(name, extreme, broker_ms, fold)
    if not np.isfinite(np.array(weights, np.float64)).all():
        raise InvalidArgument(field="moved.weights", problem="holds NaN or infinity")
    kinds = np.array(moved.kinds, np.uint32)
    types, exts = kinds & 0xFFFF, kinds >> 16 | MOVED
    _check_types(types.tolist(), fold)
    columns = moved.event_keys, moved.target_keys, weights, types.tolist(), exts.tolist()
    return [
        DecodedEvent(user, at, key, target, weight, kind, broker_ms, ext)
        for at, key, target, weight, kind, ext in zip(times, *columns, strict=True)
    ]


def _check_time(name: str, at: int, broker_ms: int, fold: FoldSettings) -> None:
    try:
        check_event_time(at, broker_ms, fold.allowed_skew_ms)
    except InvalidArgument as error:
        problem = f"the {name} {error.problem}"
        raise InvalidArgument(field="moved.event_times_ms", problem=problem) from None


def _check_types(types: Sequence[int], fold: FoldSettings) -> None:
    unknown = sorted(set(types) - set(fold.type_names))
    if unknown:
        problem = f"the types {unknown[:5]} are not admitted; add them to custom_types"
        raise InvalidArgument(field="moved.kinds", problem=problem)
