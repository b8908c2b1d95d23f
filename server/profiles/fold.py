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

import numpy as np
import numpy.typing as npt

from rankstream.kernels.history import (
    CHANGED,
    NEEDS,
    NEEDS_ARCHIVE,
    PURGE,
    SETTLE,
    Folded,
    Grouped,
    Ragged,
    fold,
    group,
)
from rankstream.kernels.retained import LOADED_ALL, LOADED_SETTLED
from rankstream.server.profiles.counters import Counts, sum_counts
from rankstream.server.profiles.layout import (
    counts_in,
    gathered,
    join,
    join_archives,
    join_recent,
    join_settled,
    pick,
    read_only,
    take,
)
from rankstream.server.profiles.reader import ProfileReader
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.profiles.settling import ArchiveWrite, Filled, Settlement, settle_users


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
    order, offsets = group(read_only(owners), users)
    recent = join_recent(reader.recent(range(users)))
    words = read_only(np.ascontiguousarray(events).view(np.int64).reshape(-1, 5))
    grouped = Grouped(words, order, offsets[:-1], offsets[1:])
    nothing = Ragged(join([]).cells, np.zeros(users + 1, np.int64))
    loaded = np.zeros(users, np.uint8)
    passes = [(np.arange(users), fold(recent, nothing, nothing, loaded, grouped, settings.rules))]
    again = np.flatnonzero(passes[0][1].status & NEEDS)
    if again.size:
        needs_all = (passes[0][1].status[again] & NEEDS_ARCHIVE) > 0
        few = Grouped(words, order, grouped.firsts[again], grouped.lasts[again])
        passes.append((again, _fold_more(settings, reader, again, needs_all, recent, few)))
    settlement = _settle(settings, reader, passes)
    counts = np.concatenate([folded.counts for _, folded in passes])
    return ProfileChanges(
        _changed(passes) + settlement.recent,
        settlement.settled,
        settlement.archives,
        sum_counts(counts),
    )


def _fold_more(
    settings: FoldSettings,
    reader: ProfileReader,
    users: npt.NDArray[np.int64],
    needs_all: npt.NDArray[np.bool_],
    recent: Ragged,
    grouped: Grouped,
) -> Folded:
    """Folds the few users again of whom more must be read than their recent value."""
    few = take(recent, users)
    settled = join_settled(reader.settled(users.tolist()), few)
    chunks = counts_in(few, "chunks").tolist()
    late = zip(users.tolist(), chunks, needs_all.tolist(), strict=True)
    values = [reader.archive(user, n) if wanted else () for user, n, wanted in late]
    archive = join_archives(values, few, needs_all)
    loaded = np.where(needs_all, LOADED_ALL, LOADED_SETTLED).astype(np.uint8)
    return fold(few, settled, archive, loaded, grouped, settings.rules)


def _changed(
    passes: Sequence[tuple[npt.NDArray[np.int64], Folded]],
) -> list[tuple[int, memoryview]]:
    """Recent values that changed and need no settling."""
    values: list[tuple[int, memoryview]] = []
    for users, folded in passes:
        at = np.flatnonzero((folded.status & (CHANGED | SETTLE | NEEDS)) == CHANGED)
        starts = folded.starts[at]
        views = pick(folded.cells, starts, starts + folded.lengths[at])
        values += zip(users[at].tolist(), views, strict=True)
    return values


def _settle(
    settings: FoldSettings,
    reader: ProfileReader,
    passes: Sequence[tuple[npt.NDArray[np.int64], Folded]],
) -> Settlement:
    """Settles the users whose recent records are full, or must not stay as they are."""
    settlement = Settlement([], [], [])
    for users, folded in passes:
        at = np.flatnonzero(folded.status & (SETTLE | NEEDS) == SETTLE)
        if at.size:
            starts = folded.starts[at]
            recent = gathered(folded.cells, starts, starts + folded.lengths[at])
            settled = join_settled(reader.settled(users[at].tolist()), recent)
            purged = (folded.status[at] & PURGE) > 0
            part = settle_users(settings, reader, Filled(users[at], recent, settled, purged))
            settlement.recent.extend(part.recent)
            settlement.settled.extend(part.settled)
            settlement.archives.extend(part.archives)
    return settlement
