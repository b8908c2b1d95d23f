"""Events on their way from the log to the fold: one as a tuple, many as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rankstream.server.profiles.interaction import EVENT
from rankstream.server.stream.consumer import Chunk, Record


class DecodedEvent(NamedTuple):
    """One event, ready to fold.

    Attributes:
        user: the user_id's bytes.
        event_time_ms: when it happened.
        event_key: 64-bit key of the event_id.
        target_key: 64-bit key of the item; 0 for a reset.
        weight: signed, fp32.
        type_id: from the type registry, or ``RESET_TYPE``.
        broker_ms: the log's timestamp.
    """

    user: bytes
    event_time_ms: int
    event_key: int
    target_key: int
    weight: float
    type_id: int
    broker_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class EventColumns:
    """Events in the order of the log.

    Attributes:
        users: user_ids, as bytes.
        rows: ``EVENT [E]``.
    """

    users: list[bytes]
    rows: NDArray[np.void]

    @staticmethod
    def of(events: Sequence[DecodedEvent]) -> EventColumns:
        """The events as columns."""
        rows = np.array([row_of(event) for event in events], EVENT)
        return EventColumns([event.user for event in events], rows)

    @staticmethod
    def joined(parts: Sequence[EventColumns]) -> EventColumns:
        """Several one after the other; at least one."""
        if len(parts) == 1:
            return parts[0]
        users = [user for part in parts for user in part.users]
        return EventColumns(users, np.concatenate([part.rows for part in parts]))


@dataclass(frozen=True, slots=True)
class Decoded:
    """Records of one chunk, or of several of which all records are good.

    Attributes:
        chunks: as they came.
        events: of the good records.
        refused: (record, why) of the others, who are of one chunk.
        misplaced: how many of the good ones belong to another partition by Kafka's partitioner.
    """

    chunks: Sequence[Chunk]
    events: EventColumns
    refused: list[tuple[Record, str]]
    misplaced: int


def row_of(event: DecodedEvent) -> tuple[int, int, int, float, int, int, int]:
    """An event as a row of ``EVENT``."""
    user, at, event_key, target_key, weight, type_id, broker_ms = event
    return at, event_key, target_key, weight, type_id, 0, broker_ms
