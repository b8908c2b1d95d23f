"""Folding a batch of events into stored profiles: the one entry for whoever owns the store.

::

    owners = np.array(..., np.int32)        # each event's user, numbered 0.. within the batch
    events = np.zeros(len(owners), EVENT)   # in log order; one column assignment a field
    with environment.begin(write=True) as txn:
        changes = fold_batch(settings, reader_over(txn), owners, users, events)
        for user, value in changes.recent:
            put(recent_key(user), value)
        for user, value in changes.settled:
            put(settled_key(user), value) if value else delete(settled_key(user))
        for write in changes.archives:
            for number in write.stale:
                delete(chunk_key(write.user, number))
            for number, value in enumerate(write.chunks, write.first):
                put(chunk_key(write.user, number), value)
        add(changes.counts)

Everything is read before ``fold_batch`` returns, so views from the transaction are safe. The
values belong together: all of them are written in one transaction, or none.

Where things are stored depends on how the log was cut into batches; ``gather_histories``,
``canonical_profile``, ``canonical_seen`` and the counts do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from rankstream.kernels.history import Ragged
from rankstream.kernels.profile_batch import Fresh, Stored, finish, fold_fresh
from rankstream.server.errors import CorruptState
from rankstream.server.profiles.counters import Counts, sum_counts
from rankstream.server.profiles.layout import (
    CELL_BYTES,
    Buffer,
    bytes_of,
    join,
    join_archives,
    join_recent,
    join_settled,
    read_only,
    take,
)
from rankstream.server.profiles.reader import ProfileReader
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.profiles.settling import ArchiveWrite, Settlement, settlement_of


@dataclass(frozen=True, slots=True)
class ProfileChanges:
    """What a batch changes. Values share memory that no one else writes.

    Attributes:
        recent: (user, value) to put, each user at most once.
        settled: (user, value) to put, or to delete where the value is empty.
        archives: chunks to put and to delete.
        counts: what to add to the counters.
    """

    recent: list[tuple[int, memoryview]]
    settled: list[tuple[int, memoryview]]
    archives: list[ArchiveWrite]
    counts: Counts


def fold_batch(
    settings: FoldSettings,
    reader: ProfileReader,
    owners: npt.NDArray[np.int32],
    users: int,
    events: npt.NDArray[np.void],
) -> ProfileChanges:
    """Folds events, all of admitted types and times, into their users' profiles.

    Args:
        settings: the fold's settings.
        reader: the stored values.
        owners: int32[E], the user of each event; every one of ``range(users)`` has an event.
        users: how many users the batch has.
        events: EVENT[E], those of a user in the order of the log.

    Raises:
        CorruptState: a stored value is not what its layout says.
    """
    values = reader.recent(range(users))
    recent = _stored(values)
    words = read_only(np.ascontiguousarray(events).view(np.int64).reshape(-1, 5))
    fresh = fold_fresh(recent, read_only(owners), words, settings.rules)
    if fresh.bad >= 0:
        _refuse(values)
    raw = bytes_of(fresh.cells)
    changed = [(user, raw[start:stop]) for user, start, stop in fresh.changed.tolist()]
    if not len(fresh.few):
        return ProfileChanges(changed, [], [], sum_counts(fresh.counts))
    settlement, counts = _finish(settings, reader, recent, words, fresh)
    return ProfileChanges(
        changed + settlement.recent,
        settlement.settled,
        settlement.archives,
        sum_counts(np.concatenate([fresh.counts, counts])),
    )


def _finish(
    settings: FoldSettings,
    reader: ProfileReader,
    recent: Stored,
    words: npt.NDArray[np.int64],
    fresh: Fresh,
) -> tuple[Settlement, npt.NDArray[np.int64]]:
    """Folds and settles the few users of whom more must be read; returns what they count, too."""
    few = fresh.few.tolist()
    users = [user for user, _ in few]
    settled = reader.settled(users)
    archives = [reader.archive(user, chunks) if chunks else () for user, chunks in few]
    chunks = _stored([chunk for values in archives for chunk in values])
    sizes = np.array([sum(map(len, values)) for values in archives], np.int64)
    late = Stored(chunks.words, sizes)
    done = finish(recent, _stored(settled), late, words, fresh, settings.rules)
    if done.bad >= 0:
        cells = Ragged(recent.words.reshape(-1, 4), fresh.offsets)
        _refuse_more(take(cells, fresh.few[:, 0]), settled, archives, fresh.few[:, 1] > 0)
    return settlement_of(settings, reader, users, done), done.counts


def _stored(values: Sequence[Buffer]) -> Stored:
    """Values end to end.

    Raises:
        CorruptState: their length is no multiple of a cell's.
    """
    joined = b"".join(values)
    if len(joined) % CELL_BYTES:
        join(values)
    sizes = np.fromiter(map(len, values), np.int64, len(values))
    return Stored(np.frombuffer(joined, np.int64), sizes)


def _refuse(recent: Sequence[Buffer]) -> NoReturn:
    """Says what is wrong with a batch's recent values."""
    join_recent(recent)
    raise CorruptState(_WRONG)


def _refuse_more(
    recent: Ragged,
    settled: Sequence[Buffer],
    archives: Sequence[Sequence[Buffer]],
    wanted: npt.NDArray[np.bool_],
) -> NoReturn:
    """Says what is wrong with the values behind some recent ones."""
    join_settled(settled, recent)
    join_archives(archives, recent, wanted)
    raise CorruptState(_WRONG)


_WRONG = "the stored values of a profile do not add up; rebuild the state from the log"
