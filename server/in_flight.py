"""Texts on their way through the embedder, and the callers who wait for them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankstream.server.encoder.text_queue import LaneName
from rankstream.server.errors import RankstreamError


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """One text's vector ``float32 [D]`` and what was read of it.

    Attributes:
        vector: read-only.
        tokens: read of the text.
        truncated: True where it was longer.
        queue_us: from the question until its batch began, reading included; 0: it was known.
        encode_us: what the batch took; 0: it was known.
        batch_size: texts of the batch; 0: it was known.
    """

    vector: NDArray[np.float32]
    tokens: int
    truncated: bool
    queue_us: int = 0
    encode_us: int = 0
    batch_size: int = 0


Answer = Embedded | RankstreamError


@dataclass(slots=True)
class Work:
    """Counters since the start.

    Attributes:
        texts: encoded.
        tokens: in them.
        batches: they made.
        shared: questions for a text that was in flight already.
        dropped: texts whose callers had gone, or that could not be ready in time.
        read_us: spent making tokens.
        encode_us: spent making vectors.
    """

    texts: int = 0
    tokens: int = 0
    batches: int = 0
    shared: int = 0
    dropped: int = 0
    read_us: int = 0
    encode_us: int = 0


class Request:
    """One caller's texts.

    Attributes:
        answers: one a text, in order; None while there is none.
        left: how many have none.
        done: has a result when all have one, or when the caller waits no longer.
    """

    __slots__ = ("answers", "done", "left")

    def __init__(self, count: int, done: asyncio.Future[None]) -> None:
        self.answers: list[Answer | None] = [None] * count
        self.left = count
        self.done = done

    def settle(self, index: int, answer: Answer) -> None:
        """Answers one text."""
        self.answers[index] = answer
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)


@dataclass(slots=True, eq=False)
class Text:
    """A text in flight, and who asked for it.

    Attributes:
        key: hash of all that is read.
        text: as it was given.
        lane: where it waits.
        asked: when, on ``time.monotonic``'s clock.
        deadline: the latest of its callers'.
        callers: and where it stands among their texts.
        ids: its tokens; empty until it is read.
        tokens: how many.
        truncated: whether it was longer than what is read.
        reading: what its reader makes of it and others; None before, and of no use after.
        running: whether it is in the batch that is being computed.
    """

    key: bytes
    text: str
    lane: LaneName
    asked: float
    deadline: float
    callers: list[tuple[Request, int]] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    tokens: int = 0
    truncated: bool = False
    reading: asyncio.Future[Any] | None = None
    running: bool = False

    @property
    def wanted(self) -> bool:
        """Whether a caller still waits for it, and it is not being computed."""
        return not self.running and any(not request.done.done() for request, _ in self.callers)
