"""Decoded events to state: one fold, one set of writes, one move of the positions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels.murmur2 import partitions_of
from rankstream.server.catalog.popularity import Popularity, Touched, add_counts
from rankstream.server.config import Limits
from rankstream.server.profiles.fold import fold_batch
from rankstream.server.profiles.interaction import EVENT
from rankstream.server.profiles.seen import seen_targets
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.profiles.stored import StoredProfiles, write_changes
from rankstream.server.profiles.texts import Keeping, remember_texts
from rankstream.server.store import Txn
from rankstream.server.stream.event_columns import DecodedEvent, EventColumns
from rankstream.server.stream.plain_events import PlainReader
from rankstream.server.types import Position


@dataclass(slots=True, eq=False)
class EventBatch:
    """The writer's work: events of one poll and the positions behind them.

    Attributes:
        users: different users.
        owners: ``int32 [E]``: each event's index into ``users``.
        events: ``EVENT [E]``, in log order.
        positions: after them.
        keeping: how texts are kept.
        texts: the normal texts among the events' targets, by their keys.
    """

    fold: FoldSettings
    popularity: Popularity
    users: list[bytes]
    owners: NDArray[np.int32]
    events: NDArray[np.void]
    positions: list[Position]
    texts: Mapping[int, str]
    keeping: Keeping
    _touched: Touched | None = None

    def apply(self, txn: Txn) -> None:
        """Writes the effects and the positions."""
        if self.users:
            reader = StoredProfiles(txn, self.users)
            changes = fold_batch(self.fold, reader, self.owners, len(self.users), self.events)
            write_changes(txn, self.users, changes)
            counts = changes.counts
            self._touched = add_counts(txn, counts.target_keys, counts.buckets, counts.deltas)
        if self.texts:
            remember_texts(txn, self.texts, self.keeping.most)
        txn.advance(self.positions)

    def committed(self) -> None:
        """The state has it: popularity may show it."""
        if self.texts:
            self.keeping.remembered()
        if self._touched is not None:
            self.popularity.update(self._touched)


@dataclass(frozen=True, slots=True)
class EventFolder:
    """Makes ``EventBatch`` of what a lane decoded."""

    fold: FoldSettings
    popularity: Popularity
    keeping: Keeping

    def batch(
        self, events: EventColumns | Sequence[DecodedEvent], positions: list[Position]
    ) -> EventBatch:
        """The writer's work for the events of one poll."""
        columns = events if isinstance(events, EventColumns) else EventColumns.of(events)
        numbers: dict[bytes, int] = {}
        owners = [numbers.setdefault(user, len(numbers)) for user in columns.users]
        return EventBatch(
            self.fold,
            self.popularity,
            list(numbers),
            np.array(owners, np.int32),
            columns.rows,
            positions,
            columns.texts,
            self.keeping,
        )


@dataclass(frozen=True, slots=True)
class _Nobody:
    """A reader of users of whom nothing is stored."""

    def recent(self, users: Sequence[int]) -> Sequence[bytes]:
        return [b""] * len(users)

    def settled(self, users: Sequence[int]) -> Sequence[bytes]:
        return [b""] * len(users)

    def archive(self, user: int, chunks: int) -> Sequence[bytes]:
        return [b""] * chunks


class _Nowhere(Txn):
    """A transaction of a store that keeps nothing."""

    def __init__(self) -> None:
        """Has no transaction beneath it."""

    def get_many(
        self, database: str, keys: Iterable[bytes], missing: bytes = b""
    ) -> list[memoryview | bytes]:
        return [missing for _ in keys]

    def put(self, database: str, key: bytes, value: bytes | memoryview) -> None:
        return

    def delete(self, database: str, key: bytes) -> None:
        return


def warm_up_fold(fold: FoldSettings) -> None:
    """Folds enough of nobody's events to settle them, so that no kernel compiles under traffic."""
    count = fold.recent_cap + 2
    events = np.zeros(count, EVENT)
    events["event_time_ms"] = events["event_key"] = np.arange(count)
    events["type"] = 1 + np.arange(count) % 2
    fold_batch(fold, _Nobody(), np.zeros(count, np.int32), 1, events)
    # An archive's rewrite uses what reading a seen set does.
    seen_targets(fold, b"", b"", [])
    PlainReader(fold, Limits(), 1).read([b""], [0], np.zeros(1, np.int64))
    partitions_of([b"nobody"], 1)
    # Two buckets of one item: its counter is merged whole.
    numbers = np.arange(2)
    touched = add_counts(_Nowhere(), np.zeros(2, np.uint64), numbers, numbers + 1)
    popularity = Popularity(weight=1.0, half_life_s=1.0, bucket_s=1)
    popularity.update(touched)
    popularity.bias(touched.keys)
