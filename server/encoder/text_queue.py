"""Texts that wait for the encoder, and which of them make the next batch. One thread.

Two lanes: what somebody waits for goes before what comes in bulk. Within a lane the plan of
``batching`` is made over what waits, and the batch that the oldest text is in comes first: texts of
like length go together, and no text is ever passed over.

A batch of the bulk lane is small, since a text that somebody waits for may come while it is being
computed; and it comes at least every ``BULK_PATIENCE_S``, however busy the other lane is.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np

from rankstream.server.encoder.batching import FREE_PADDING, plan_batches

LaneName = Literal["interactive", "bulk"]

# Texts of one request that somebody sits before; more are bulk, unless the request says.
INTERACTIVE_TEXTS = 16
# Of what waits in a lane, so many texts, and so many batches' tokens, are planned at a time: enough
# to find others of a length, and little work for a small batch.
PLANNED_TEXTS = 512
PLANNED_BATCHES = 4
# What a batch of the bulk lane may take while somebody has been waiting of late, in seconds.
BULK_QUANTUM_S = 0.015
# So many times as much where nobody has, for ``OF_LATE_S``.
ALONE_FACTOR = 4
OF_LATE_S = 1.0
BULK_PATIENCE_S = 0.5
# A batch's weight in the running mean of the pace.
FRESH = 0.2
# Of a slower batch in what is thought the fastest: most are slower than the encoder can be.
SLOWER = 0.02
# Of the texts that could not be ready in time, one in so many is computed all the same: what was
# measured may have been a slow moment, and nothing would show it.
TRIED_ONE_IN = 20


def lane_of(texts: int) -> LaneName:
    """Where a request of so many texts waits, if it does not say."""
    return "interactive" if texts <= INTERACTIVE_TEXTS else "bulk"


class Waiting(Protocol):
    """A text in the queue.

    Attributes:
        lane: where it belongs now; one that was moved up is skipped in its old lane.
        tokens: how many it has.
        asked: when it came, on ``time.monotonic``'s clock.
        deadline: the latest of its callers', on ``time.monotonic``'s clock.
    """

    lane: LaneName
    tokens: int
    asked: float
    deadline: float

    @property
    def wanted(self) -> bool:
        """Whether a caller still waits for it, and it is not being computed."""


T = TypeVar("T", bound=Waiting)


@dataclass(slots=True)
class Pace:
    """How fast the encoder is.

    Attributes:
        tokens_per_s: a running mean over batches of the bulk lane; a guess until the first. A batch
            of the other lane is often one short text, whose fixed cost says nothing of long ones.
        fastest: about the most of any batch; it follows slowly where all become slower. Endless
            until the first, so that nothing is dropped for a guess. A batch counts as
            ``FREE_PADDING`` tokens at least, which is what a call costs.
    """

    tokens_per_s: float = 10_000.0
    fastest: float = math.inf

    def learn(self, tokens: int, seconds: float, lane: LaneName) -> None:
        """A batch of so many tokens took so long."""
        seconds = max(seconds, 1e-6)
        now, most = tokens / seconds, max(tokens, FREE_PADDING) / seconds
        if most > self.fastest or math.isinf(self.fastest):
            self.fastest = most
        else:
            self.fastest += SLOWER * (most - self.fastest)
        if lane == "bulk":
            self.tokens_per_s += FRESH * (now - self.tokens_per_s)

    def seconds(self, tokens: int) -> float:
        """What so many tokens may take."""
        return tokens / self.tokens_per_s

    def least_seconds(self, tokens: int) -> float:
        """What so many tokens take at least."""
        return tokens / self.fastest


@dataclass(frozen=True, slots=True)
class Taken(Generic[T]):
    """What the queue gives.

    Attributes:
        batch: to be computed together; empty where nothing waits.
        gone: nobody waits for them any more.
        late: they could not be ready by their deadline.
    """

    batch: list[T] = field(default_factory=list)
    gone: list[T] = field(default_factory=list)
    late: list[T] = field(default_factory=list)


class TextQueue(Generic[T]):
    """The two lanes.

    Args:
        max_batch_tokens: padded tokens of one batch at most; no text has more.
        pace: of the encoder; somebody else teaches it.
    """

    def __init__(self, max_batch_tokens: int, pace: Pace) -> None:
        self._most = max_batch_tokens
        self._pace = pace
        self._lanes: dict[LaneName, deque[T]] = {"interactive": deque(), "bulk": deque()}
        self._last_interactive = self._last_bulk = -OF_LATE_S
        self._hopeless = 0

    def put(self, text: T) -> None:
        """Adds a text to its lane; also one that is in the other lane already."""
        self._lanes[text.lane].append(text)

    def take(self, now: float) -> Taken[T]:
        """The next batch, and what was dropped on the way to it."""
        taken: Taken[T] = Taken()
        for name in self._order(now):
            front = self._front(name, now, taken)
            if front:
                taken.batch.extend(self._batch(name, front, now))
                self._note(name, now)
                break
        return taken

    def _order(self, now: float) -> tuple[LaneName, LaneName]:
        bulk = self._lanes["bulk"]
        since = max(self._last_bulk, bulk[0].asked) if bulk else now
        waits = now - since > BULK_PATIENCE_S
        return ("bulk", "interactive") if waits else ("interactive", "bulk")

    def _note(self, name: LaneName, now: float) -> None:
        if name == "bulk":
            self._last_bulk = now
        else:
            self._last_interactive = now

    def _front(self, name: LaneName, now: float, taken: Taken[T]) -> list[T]:
        """The oldest texts that are still to be computed; what is not is dropped."""
        lane, front = self._lanes[name], list[T]()
        left = PLANNED_BATCHES * self._budget(name, now)
        while lane and len(front) < PLANNED_TEXTS and (left > 0 or not front):
            text = lane.popleft()
            if text.lane != name:
                continue
            if not text.wanted:
                taken.gone.append(text)
            elif text.deadline <= now or self._is_hopeless(text, now):
                taken.late.append(text)
            else:
                front.append(text)
                left -= text.tokens
        return front

    def _is_hopeless(self, text: T, now: float) -> bool:
        """Whether it could not be ready in time, and is not the one that is tried."""
        if text.deadline >= now + self._pace.least_seconds(text.tokens):
            return False
        self._hopeless += 1
        return self._hopeless % TRIED_ONE_IN != 0

    def _batch(self, name: LaneName, front: list[T], now: float) -> list[T]:
        """Takes the batch that the oldest text is in; the others go back, in their order."""
        lengths = np.fromiter((text.tokens for text in front), np.int32, len(front))
        budget = max(self._budget(name, now), int(lengths.max()))
        rows = next(rows for rows in plan_batches(lengths, budget) if 0 in rows)
        chosen = set(rows.tolist())
        rest = [text for row, text in enumerate(front) if row not in chosen]
        self._lanes[name].extendleft(reversed(rest))
        return [front[row] for row in rows.tolist()]

    def _budget(self, name: LaneName, now: float) -> int:
        if name == "interactive":
            return self._most
        alone = now - self._last_interactive > OF_LATE_S
        quantum_s = BULK_QUANTUM_S * (ALONE_FACTOR if alone else 1)
        return min(self._most, int(quantum_s * self._pace.tokens_per_s))
