"""Settling as the store sees it: what to write once a batch has filled some users' recent records.

The archive grows by chunks. It is rewritten, with only what the seen set still wants, when the
kernel (``extend_archive``) finds it time to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rankstream.kernels.cells import ARCHIVE_MAX, COUNTS, WATERMARK
from rankstream.kernels.history import Ragged
from rankstream.kernels.profile_batch import PUT_RECENT, PUT_SETTLED, REWRITE, Finished
from rankstream.server.profiles.layout import (
    CELL_BYTES,
    CHUNK_RECORDS,
    LAYOUT_VERSION,
    Cells,
    bytes_of,
    join_archives,
    rows_of,
)
from rankstream.server.profiles.reader import ProfileReader
from rankstream.server.profiles.seen import latest_seen
from rankstream.server.profiles.settings import FoldSettings


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


def settlement_of(
    settings: FoldSettings, reader: ProfileReader, users: Sequence[int], done: Finished
) -> Settlement:
    """What to write of the users that were finished; ``reader`` reads archives to be rewritten.

    Raises:
        CorruptState: an archive is not what the user's header says.
    """
    made = Settlement([], [], [])
    raw = bytes_of(done.cells)
    for user, span in zip(users, done.spans.tolist(), strict=True):
        recent, settled, gone = (slice(*span[at : at + 2]) for at in (0, 2, 4))
        chunks, bits = span[6:]
        if bits & REWRITE:
            wanted = _wanted(settings, reader, user, done, span)
            made.archives.append(_rewrite(user, done.cells[recent], span, wanted))
        elif gone.stop > gone.start:
            made.archives.append(ArchiveWrite(user, chunks, _cut(done.cells[gone]), range(0)))
        if bits & PUT_RECENT:
            made.recent.append((user, raw[recent.start * CELL_BYTES : recent.stop * CELL_BYTES]))
        if bits & PUT_SETTLED:
            made.settled.append((user, raw[settled.start * CELL_BYTES : settled.stop * CELL_BYTES]))
    return made


def _wanted(
    settings: FoldSettings, reader: ProfileReader, user: int, done: Finished, span: list[int]
) -> Cells:
    """What the seen set wants of a user's archive, old and new, and is stored nowhere else."""
    head, settled = done.cells[span[0] : span[1]], done.cells[span[2] : span[3]]
    values = reader.archive(user, span[6])
    stored = join_archives([values], Ragged(head[:1], np.array([0, 1])))
    near = np.concatenate([rows_of(head), settled])
    cells = np.concatenate([near, stored.cells, done.cells[span[4] : span[5]]])
    latest = latest_seen(settings.rules, cells, int(head[0, WATERMARK]))
    wanted: Cells = cells[latest[latest >= len(near)]]
    return wanted


def _rewrite(user: int, head: Cells, span: list[int], wanted: Cells) -> ArchiveWrite:
    """An archive of what is wanted alone; brings the user's header up to date."""
    chunks = _cut(wanted)
    head[0, ARCHIVE_MAX] = wanted[:, 0].max(initial=-1)
    settled = span[3] - span[2]
    head[0, COUNTS] = LAYOUT_VERSION | settled << 16 | len(wanted) << 32 | len(chunks) << 48
    return ArchiveWrite(user, 0, chunks, range(len(chunks), span[6]))


def _cut(records: Cells) -> list[memoryview]:
    """Contiguous records as chunks."""
    raw, size = bytes_of(records), CHUNK_RECORDS * CELL_BYTES
    return [raw[start : start + size] for start in range(0, len(raw), size)]
