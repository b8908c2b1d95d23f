"""Settling as the store sees it: what to write once a batch has filled some users' recent records.

The archive grows by chunks. It is rewritten, with only what the seen set still wants, when it has
a quarter more records than that can be, when it has many small chunks, and after a reset.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rankstream.kernels.cells import ARCHIVE_MAX, COUNTS, WATERMARK
from rankstream.kernels.history import Ragged
from rankstream.kernels.settle import Settled, settle
from rankstream.server.profiles.layout import (
    CHUNK_RECORDS,
    LAYOUT_VERSION,
    Cells,
    counts_in,
    join_archives,
    pick,
    rows_of,
    take,
)
from rankstream.server.profiles.reader import ProfileReader
from rankstream.server.profiles.seen import latest_seen
from rankstream.server.profiles.settings import FoldSettings

_SLACK_CHUNKS = 64


@dataclass(frozen=True, slots=True)
class ArchiveWrite:
    """Chunks of one user to put under the numbers ``first``, ``first + 1``, ...

    Attributes:
        user: the user's index in the batch.
        first: number of the first chunk.
        chunks: the values.
        stale: numbers of the chunks to delete.
    """

    user: int
    first: int
    chunks: list[memoryview]
    stale: range


@dataclass(frozen=True, slots=True)
class Settlement:
    """What settling some users writes; as in ``ProfileChanges``."""

    recent: list[tuple[int, memoryview]]
    settled: list[tuple[int, memoryview]]
    archives: list[ArchiveWrite]


@dataclass(frozen=True, slots=True)
class Filled:
    """The users to settle.

    Attributes:
        users: int64[S], indices in the batch.
        recent: their recent cells as folded.
        settled: their settled cells as stored.
        purged: bool[S], whether the watermark has risen.
    """

    users: npt.NDArray[np.int64]
    recent: Ragged
    settled: Ragged
    purged: npt.NDArray[np.bool_]


def settle_users(settings: FoldSettings, reader: ProfileReader, filled: Filled) -> Settlement:
    """Settles users; ``reader`` reads the archives that must be rewritten.

    Raises:
        CorruptState: an archive is not what the user's header says.
    """
    done = settle(filled.recent, filled.settled, settings.rules)
    archives = _archive(settings, reader, filled, done)
    users, rewritten = filled.users.tolist(), done.rewritten.tolist()
    settled = zip(users, pick(*done.settled), rewritten, strict=True)
    return Settlement(
        list(zip(users, pick(*done.recent), strict=True)),
        [(user, value) for user, value, changed in settled if changed],
        archives,
    )


def _archive(
    settings: FoldSettings, reader: ProfileReader, filled: Filled, done: Settled
) -> list[ArchiveWrite]:
    """Extends or rewrites each archive, and brings the headers in ``done`` up to date."""
    archived, chunks = counts_in(filled.recent, "archived"), counts_in(filled.recent, "chunks")
    gone = done.archived[2] - done.archived[1]
    most = settings.seen_cap * 5 // 4
    many = chunks + _chunks(gone) > most // CHUNK_RECORDS + _SLACK_CHUNKS
    rewrite = (archived + gone > most) | many | (filled.purged & (archived > 0))
    extend = (gone > 0) & ~rewrite
    writes = [
        ArchiveWrite(int(filled.users[i]), int(chunks[i]), _cut(_gone(done, i)), range(0))
        for i in np.flatnonzero(extend).tolist()
    ]
    archived[extend] += gone[extend]
    chunks[extend] += _chunks(gone[extend])
    for i in np.flatnonzero(rewrite).tolist():
        wanted = _wanted(settings, reader, filled, done, i)
        stale = range(len(_cut(wanted)), int(chunks[i]))
        writes.append(ArchiveWrite(int(filled.users[i]), 0, _cut(wanted), stale))
        archived[i], chunks[i] = len(wanted), stale.start
        done.recent[0][done.recent[1][i], ARCHIVE_MAX] = wanted[:, 0].max(initial=-1)
    settled = done.settled[2] - done.settled[1]
    counts = LAYOUT_VERSION | settled << 16 | archived << 32 | chunks << 48
    done.recent[0][done.recent[1], COUNTS] = counts
    return writes


def _wanted(
    settings: FoldSettings, reader: ProfileReader, filled: Filled, done: Settled, i: int
) -> Cells:
    """What the seen set wants of a user's archive, old and new, and is stored nowhere else."""
    recent = take(filled.recent, np.array([i]))
    chunks = int(counts_in(recent, "chunks")[0])
    stored = join_archives([reader.archive(int(filled.users[i]), chunks)], recent)
    head = done.recent[0][done.recent[1][i] : done.recent[2][i]]
    settled = done.settled[0][done.settled[1][i] : done.settled[2][i]]
    near = np.concatenate([rows_of(head), settled])
    cells = np.concatenate([near, stored.cells, _gone(done, i)])
    latest = latest_seen(settings.rules, cells, int(head[0, WATERMARK]))
    wanted: Cells = cells[latest[latest >= len(near)]]
    return wanted


def _gone(done: Settled, i: int) -> Cells:
    """What settling moves to a user's archive."""
    return done.archived[0][done.archived[1][i] : done.archived[2][i]]


def _chunks(records: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many chunks so many records take."""
    return -(-records // CHUNK_RECORDS)


def _cut(records: Cells) -> list[memoryview]:
    """Records as chunks."""
    starts = np.arange(0, len(records), CHUNK_RECORDS)
    return pick(records, starts, np.minimum(starts + CHUNK_RECORDS, len(records)))
