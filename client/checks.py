"""Checks of single values; an error names the field, the problem and what was expected."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Mapping

from rankstream.client.errors import invalid

_INT64 = range(-(1 << 63), 1 << 63)
_UINT32 = range(1 << 32)


def text(field: str, value: object) -> str:
    """``value`` where it is a string that has a UTF-8 form."""
    if not isinstance(value, str):
        raise invalid(field, f"{shown(value)}; expected a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise invalid(field, f"{reprlib.repr(value)} is not valid UTF-8; expected text") from None
    return value


def texts(field: str, values: object) -> list[str]:
    """``values`` where it is a sequence of strings, and not one string."""
    if isinstance(values, str | bytes):
        raise invalid(field, "is one string; expected a sequence of strings")
    if not isinstance(values, Iterable):
        raise invalid(field, f"{shown(values)}; expected a sequence of strings")
    return [text(f"{field}[{index}]", value) for index, value in enumerate(values)]


def numbers(field: str, values: object) -> dict[str, float]:
    """``values`` where it is a mapping of finite numbers by name."""
    if not isinstance(values, Mapping):
        raise invalid(field, f"{shown(values)}; expected a mapping of numbers by name")
    return {text(f"{field} key", k): number(f"{field}[{k}]", v) for k, v in values.items()}


def name(field: str, value: object) -> str:
    """``value`` where it is a string that is not empty."""
    if not text(field, value):
        raise invalid(field, "is empty; expected an id")
    return str(value)


def count(field: str, value: object) -> int:
    """``value`` where it is an integer from 0 to 4294967295."""
    return _integer(field, value, _UINT32)


def moment_ms(field: str, value: object) -> int:
    """``value`` where it is an integer of 64 bits: milliseconds since the epoch."""
    return _integer(field, value, _INT64)


def number(field: str, value: object) -> float:
    """``value`` where it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid(field, f"{shown(value)}; expected a number")
    if isinstance(value, int) and value not in _INT64:
        raise invalid(field, "is an integer beyond 64 bits; expected a number")
    if not math.isfinite(value):
        raise invalid(field, f"is {value}; expected a finite number")
    return float(value)


def shown(value: object) -> str:
    """A value that has the wrong type, shortened, as the begin of a message."""
    return f"{reprlib.repr(value)} is of type {type(value).__name__}"


def _integer(field: str, value: object, allowed: range) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise invalid(field, f"{shown(value)}; expected an integer")
    if value not in allowed:
        raise invalid(field, f"is {value}; expected {allowed.start} to {allowed.stop - 1}")
    return value
