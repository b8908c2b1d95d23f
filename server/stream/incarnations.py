"""Lives of the embedded broker's log, and how a stored position is carried from one to the next.

The embedded broker saves its log about every 1.5 s. When it is killed, the records acknowledged
since the last save are gone and later records reuse their offsets, so a position from before the
kill may point past the log or, worse, skip records that took the lost ones' places. Each such loss
therefore begins a new *incarnation*: its id is part of every topic id, and it keeps where each
partition ended when it began. What is left is always a prefix of the log that was there, hence
``min(position, end)`` is exact: what lies before it was applied, what comes after it was not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID, uuid4, uuid5

STATE_FILE = "broker.json"
MAX_INCARNATIONS = 64
"""Lives remembered; a position older than all of them is refused as one of a recreated topic."""


@dataclass(frozen=True, slots=True)
class Incarnation:
    """One life of the log.

    Attributes:
        id: new for each life.
        ends: for each topic, the end offset of each partition when this life began. A topic that
            is not named did not exist then: it had been created and lost, so its end is 0.
    """

    id: UUID
    ends: Mapping[str, tuple[int, ...]]

    def topic_id(self, topic: str) -> bytes:
        """The 16 bytes that stand for ``topic`` in this life (the broker itself assigns none)."""
        return uuid5(self.id, topic).bytes

    def end(self, topic: str, partition: int) -> int:
        """Where the partition ended when this life began."""
        ends = self.ends.get(topic, ())
        return ends[partition] if partition < len(ends) else 0


@dataclass(frozen=True, slots=True)
class BrokerState:
    """What the embedded broker's folder remembers between runs, beside the log itself.

    Attributes:
        port: the port of the last run, taken again where it is free.
        clean: the broker ended by itself after saving its log, and has not been started since.
        incarnations: oldest first, at most ``MAX_INCARNATIONS``.
    """

    port: int
    clean: bool
    incarnations: tuple[Incarnation, ...]

    def begin(self, ends: Mapping[str, tuple[int, ...]]) -> BrokerState:
        """The state in which a new incarnation has begun at ``ends``."""
        lives = (*self.incarnations, Incarnation(uuid4(), ends))
        return replace(self, incarnations=lives[-MAX_INCARNATIONS:])


def load_state(folder: Path) -> BrokerState | None:
    """Read the folder's state; None where the broker has never been started.

    Raises:
        ValueError: the file is not what ``save_state`` writes.
    """
    try:
        text = (folder / STATE_FILE).read_text()
    except FileNotFoundError:
        return None
    try:
        raw = json.loads(text)
        lives = tuple(
            Incarnation(UUID(life["id"]), {t: tuple(map(int, e)) for t, e in life["ends"].items()})
            for life in raw["incarnations"]
        )
        return BrokerState(int(raw["port"]), bool(raw["clean"]), lives)
    except (KeyError, TypeError, AttributeError) as error:
        msg = f"{STATE_FILE} lacks or misspells {error}"
        raise ValueError(msg) from error


def save_state(folder: Path, state: BrokerState) -> None:
    """Write the state so that a crash leaves the old or the new one whole."""
    lives = [{"id": str(life.id), "ends": dict(life.ends)} for life in state.incarnations]
    raw = {"port": state.port, "clean": state.clean, "incarnations": lives}
    temporary = folder / (STATE_FILE + ".tmp")
    with temporary.open("w") as file:
        json.dump(raw, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / STATE_FILE)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def carry_positions(
    stored: Mapping[tuple[bytes, int], int],
    topics: Iterable[str],
    incarnations: Sequence[Incarnation],
) -> dict[tuple[bytes, int], int]:
    """Translate positions of earlier incarnations to the current one.

    Args:
        stored: next offset by (topic id, partition).
        topics: names the ids may stand for.
        incarnations: all that are remembered, oldest first.

    Returns:
        Next offset by (current topic id, partition), lowered to what survived each loss. An id
        that no remembered incarnation gave is kept, so that the check of positions refuses it.
    """
    owners = {
        life.topic_id(topic): (topic, index)
        for topic in topics
        for index, life in enumerate(incarnations)
    }
    carried: dict[tuple[bytes, int], int] = {}
    for (topic_id, partition), next_offset in stored.items():
        if topic_id not in owners:
            carried[topic_id, partition] = next_offset
            continue
        topic, index = owners[topic_id]
        ends = (life.end(topic, partition) for life in incarnations[index + 1 :])
        carried[incarnations[-1].topic_id(topic), partition] = min([next_offset, *ends])
    return carried
