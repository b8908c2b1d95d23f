"""Dataclasses whose fields are a protobuf message's own, by the same names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

from google.protobuf.message import Message

T = TypeVar("T")


def mirror(kind: Callable[..., T], message: Message) -> T:
    """A ``kind``, which is a dataclass of two or more fields, with the values of ``message``."""
    return kind(*_getter(kind)(message))


@cache
def _getter(kind: Any) -> attrgetter[Any]:
    return attrgetter(*(field.name for field in fields(kind)))
