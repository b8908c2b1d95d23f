"""Events on their way from the log to the fold: one as a tuple, many as columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rankstream.server.profiles.interaction import EVENT
from rankstream.server.stream.consumer import Chunk, Record


class DecodedEvent(NamedTuple):
    """One interaction of an event, ready to fold; an event may have one with an item and a text.

    Attributes:
        user: the user_id's bytes.
        event_time_ms: when it happened.
        event_key: 64-bit key of the event_id.
        target_key: 64-bit key of the item or the text; 0 for a reset.
        weight: signed, fp32.
        type_id: from the type registry, or ``RESET_TYPE``.
        broker_ms: the log's timestamp.
        ext: TEXT, MOVED and the position, as in the stored record.
        text: the normal text whose key is the target; "" for an item.
    """

    user: bytes
    event_time_ms: int
    event_key: int
    target_key: int
    weight: float
    type_id: int
    broker_ms: int
    ext: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class EventColumns:
    """Events in the order of the log.

    Attributes:
        users: user_ids, as bytes.
        rows: ``EVENT [E]``.
        texts: the normal texts among the targets, by their keys.
    """

    users: list[bytes]
    rows: NDArray[np.void]
    texts: Mapping[int, str] = field(default_factory=dict)

    @staticmethod
    def of(events: Sequence[DecodedEvent]) -> EventColumns:
        """The events as columns."""
        rows = np.array([row_of(event) for event in events], EVENT)
        return EventColumns([event.user for event in events], rows, texts_of(events))

    @staticmethod
    def joined(parts: Sequence[EventColumns]) -> EventColumns:
        """Several one after the other; at least one."""
        if len(parts) == 1:
            return parts[0]
        users = [user for part in parts for user in part.users]
        texts = {key: text for part in parts for key, text in part.texts.items()}
        return EventColumns(users, np.concatenate([part.rows for part in parts]), texts)


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
    _, at, event_key, target_key, weight, type_id, broker_ms, ext, _ = event
    return at, event_key, target_key, weight, type_id, ext, broker_ms


def texts_of(events: Iterable[DecodedEvent]) -> dict[int, str]:
    """The texts among the events' targets, by their keys."""
    return {event.target_key: event.text for event in events if event.text}
