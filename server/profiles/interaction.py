"""What the fold is given: interactions as arrays, and the checks that admit one.

A record is one interaction as it is stored, 32 bytes, little-endian. Records are ordered by
(event_time_ms, event_key, target_key, ext, type, weight bits), every one read as an unsigned
number; those after the first two are the "canonical bytes" that decide between two contents of one
event_id at one time.
"""

from __future__ import annotations

import hashlib
import math
from typing import NoReturn

import numpy as np

from rankstream.kernels.history import RESET
from rankstream.server.errors import InvalidArgument

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
"""One stored interaction. ``ext`` is 0: room for a later layout."""

TEXT = 0x8000
"""Bit of ``ext``: the target is a text, ``target_key`` its ``text_key``."""

EVENT = np.dtype([*RECORD.descr, ("broker_ms", "<i8")])
"""One event on its way into the fold: a record, and the log's timestamp of it."""

MAX_WEIGHT = 1000.0
"""Largest magnitude of the weight that an event may carry."""

SATURATION = 3.0
"""A quantity q weighs (1 + s) q / (s + q): 1 weighs 1, 3 weighs 2, and none reaches 4."""


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


def signed_weight(type_name: str, value: float | None = None, weight: float | None = None) -> float:
    """The weight of an interaction: what the event carries, times the curve of its type.

    - ``rate`` and ``review``: (value - 3) / 2 for 1 to 5 stars, clipped to [-1, 1]: one star
      repels, three say nothing, five attract. A rate must have a value.
    - ``cart`` and ``purchase``: 4 q / (3 + q) of the quantity, odd: a return repels.
    - ``dislike``: -1. Every other type: 1, whatever its value.

    The curves use only operations that IEEE 754 rounds exactly, so that replicas agree.

    Args:
        type_name: an admitted type.
        value: what the type counts; None where the event has none.
        weight: the event's own weight; None is 1.

    Raises:
        InvalidArgument: a number is not finite or too large, or a rate has no value.
    """
    carried = 1.0 if weight is None else weight
    if not abs(carried) <= MAX_WEIGHT:
        problem = f"is {carried}; expected a number from {-MAX_WEIGHT:g} to {MAX_WEIGHT:g}"
        _refuse("weight", problem)
    if value is not None and not math.isfinite(value):
        problem = f"is {value}; expected a finite number"
        _refuse("value", problem)
    return carried * _curve(type_name, value) + 0.0


def _curve(type_name: str, value: float | None) -> float:
    if type_name == "dislike":
        return -1.0
    if type_name == "rate" and value is None:
        problem = "is missing; expected 1 to 5 stars for a rate"
        _refuse("value", problem)
    if value is None:
        return 1.0
    if type_name in ("rate", "review"):
        return min(max((value - 3.0) / 2.0, -1.0), 1.0)
    if type_name in ("cart", "purchase"):
        return (1.0 + SATURATION) * (value / (SATURATION + abs(value)))
    return 1.0


def _refuse(field: str, problem: str) -> NoReturn:
    raise InvalidArgument(field, problem)
