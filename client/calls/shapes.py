"""What a description of a call is. Nothing here sends or waits."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from google.protobuf.message import Message

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Unary(Generic[R]):
    """One request and its answer.

    Attributes:
        path: service and method, as ``Ranking/Rank``.
        request: what is sent.
        read: makes our form of the answer.
        timeout_s: deadline; None: the client's own and ``wait_ms`` on top.
        wait_ms: how long the server may wait for a token.
        admin: it goes to the Admin service.
        connection: index of the connection it goes over; None: the next in turn.
        patient: it waits for a connection instead of failing at once.
    """

    path: str
    request: Message
    read: Callable[[Any], R]
    timeout_s: float | None = None
    wait_ms: int | None = None
    admin: bool = False
    connection: int | None = None
    patient: bool = False


@dataclass(frozen=True, slots=True)
class Together:
    """Calls that run at the same time. Answers to it: a list of answers or errors."""

    calls: list[Unary[Any]]


@dataclass(frozen=True, slots=True)
class Pause:
    """Time in which nothing is done."""

    seconds: float


# Yields what to do and is sent, or thrown, what came of it.
Plan: TypeAlias = Generator["Unary[Any] | Together | Pause", Any, R]
