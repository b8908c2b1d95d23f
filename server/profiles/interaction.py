"""What the fold is given: interactions as arrays, and the checks that admit one.

A record is one interaction as it is stored, 32 bytes, little-endian. Records are ordered by
(event_time_ms, event_key, target_key, ext, type, weight bits), every one read as an unsigned
number; those after the first two are the "canonical bytes" that decide between two contents of one
event_id at one time.
"""

from __future__ import annotations

import hashlib
import math
import struct
from typing import NoReturn

import numpy as np

from rankstream.kernels.cells import MOVED as MOVED
from rankstream.kernels.cells import TEXT as TEXT
from rankstream.kernels.event_wire import MAX_POSITION
from rankstream.kernels.history import RESET
from rankstream.server.errors import InvalidArgument
from rankstream.server.profiles.curves import Curve

RESET_TYPE = RESET
"""An event of this type is no interaction: it raises the user's watermark to its event_time_ms."""

RECORD = np.dtype(
    [
        ("event_time_ms", "<i8"),
        ("event_key", "<u8"),
        ("target_key", "<u8"),
        ("weight", "<f4"),
        ("type", "<u2"),
        ("ext", "<u2"),
    ]
)
"""One stored interaction. ``ext`` holds TEXT, MOVED, and in its other 14 bits the position."""

POSITION = MAX_POSITION
"""The bits of ``ext`` that say where the item stood, from 1; 0: not known, or no item."""

EVENT = np.dtype([*RECORD.descr, ("broker_ms", "<i8")])
"""One event on its way into the fold: a record, and the log's timestamp of it."""

MAX_WEIGHT = 1000.0
"""Largest magnitude of the weight that an event may carry."""

_PACKED = struct.Struct("<qQQfHH")


def record_bytes(
    event_time_ms: int, event_key: int, target_key: int, weight: float, type_id: int, ext: int = 0
) -> bytes:
    """One ``RECORD``."""
    return _PACKED.pack(event_time_ms, event_key, target_key, weight, type_id, ext)


# Copying a hash costs a third of what making one with its parameters does.
_EVENT_HASH = hashlib.blake2b(digest_size=8, person=b"event")


def event_key(event_id: str) -> int:
    """The 64-bit key of an event_id: BLAKE2b-64 personalised ``event``, little-endian."""
    hashed = _EVENT_HASH.copy()
    hashed.update(event_id.encode())
    return int.from_bytes(hashed.digest(), "little")


def check_event_time(event_time_ms: int, broker_ms: int, allowed_skew_ms: int) -> None:
    """Refuses a time that is negative, or later than the log's own plus the allowed skew.

    The local clock takes no part, so that a replay decides alike.

    Raises:
        InvalidArgument: it is such a time.
    """
    latest = broker_ms + allowed_skew_ms
    if not 0 <= event_time_ms <= latest:
        problem = f"is {event_time_ms}; expected 0 to {latest}, the broker's time and allowed skew"
        _refuse("event_time_ms", problem)


def text_event_key(event_id: str) -> int:
    """The key of the interaction with the text of an event, which may have one with an item."""
    return event_key(event_id + "\0text")


def signed_weight(curve: Curve, value: float | None = None, weight: float | None = None) -> float:
    """The weight of an interaction: what the event carries, times the curve of its type.

    Args:
        curve: of the type.
        value: what the type counts; None where the event has none.
        weight: the event's own weight; None is 1.

    Raises:
        InvalidArgument: a number is not finite or too large, or a value is missing.
    """
    carried = 1.0 if weight is None else weight
    if not abs(carried) <= MAX_WEIGHT:
        problem = f"is {carried}; expected a number from {-MAX_WEIGHT:g} to {MAX_WEIGHT:g}"
        _refuse("weight", problem)
    if value is not None and not math.isfinite(value):
        problem = f"is {value}; expected a finite number"
        _refuse("value", problem)
    if value is None and curve.needed:
        problem = "is missing; expected what a rate counts, by default 1 to 5 stars"
        _refuse("value", problem)
    return carried * curve.weigh(value) + 0.0


def _refuse(field: str, problem: str) -> NoReturn:
    raise InvalidArgument(field, problem)
