"""Settling: emptying a user's recent records into its settled records and its archive.

The latest history interactions are settled. What leaves the history but was seen is archived, and
so are records that only the seen set wants; the newest of those stay recent, so that the archive
ends some way before the present and events slightly out of order are not late.
"""

from typing import Final, NamedTuple

import numpy as np

from rankstream.kernels.arrays import Int64, UInt8
from rankstream.kernels.cells import (
    ARCHIVE_MAX,
    COUNTS,
    HISTORY_CAP,
    IN_HISTORY,
    IN_SEEN,
    RECENT_CAP,
    SEEN_CAP,
    SIEVE_CELLS,
    WATERMARK,
    archived_count,
    chunk_count,
    copy_cell,
    is_less,
    settled_count,
    sieve_add,
    sieve_has,
    stored_in,
)
from rankstream.kernels.compilation import compiled
from rankstream.kernels.retained import Rules, find

CHUNK_RECORDS: Final = 127
"""Records of an archive chunk: one overflow page of LMDB."""

_SLACK_CHUNKS: Final = 64


class Parts(NamedTuple):
    """Where a user's settled values go: ``head`` fills from its start, the others from their end.

    Attributes:
        head: room for a header, a sieve and half the recent cap: the new recent cells.
        kept: room for what the history holds at most: the new settled records.
        gone: room for all records: what the archive gains.
    """

    head: Int64
    kept: Int64
    gone: Int64


@compiled
def head_room(rules: Rules) -> int:
    """How many cells ``Parts.head`` has."""
    return int(1 + SIEVE_CELLS + rules.limits[RECENT_CAP] // 2)


@compiled
def settle_user(new: Int64, old: Int64, parts: Parts, rules: Rules) -> tuple[int, int, int, bool]:
    """Settles one user, merging from the newest.

    Args:
        new: header, sieve and records; a record may be a newer version of a settled one.
        old: sorted settled records.
        parts: takes the result; the header's counts of the archive are the old ones.
        rules: types and limits.

    Returns:
        How many cells of ``head``, ``kept`` and ``gone`` are filled, and whether the settled
        records changed.
    """
    prefix = 1 + (SIEVE_CELLS if settled_count(new[0]) > 0 else 0)
    rows, watermark = new[prefix:], new[0, WATERMARK]
    dead = _superseded(new, rows, old, rules.classes)
    head, kept, gone = parts.head, parts.kept, parts.gone
    tail = np.empty((head.shape[0] - 1 - SIEVE_CELLS, 4), np.int64)
    n_tail, n_kept, n_gone, n_old = 0, 0, 0, 0
    i, j = rows.shape[0] - 1, old.shape[0] - 1
    while i >= 0 or j >= 0:
        if j >= 0 and (dead[j] or old[j, 0] <= watermark):
            j -= 1
            continue
        is_old = i < 0 or (j >= 0 and is_less(rows[i], old[j]))
        side = stored_in(old[j] if is_old else rows[i], rules.classes)
        if side & IN_HISTORY != 0 and n_kept < rules.limits[HISTORY_CAP]:
            n_kept += 1
            _move(rows, i, old, j, is_old, kept[kept.shape[0] - n_kept])
            n_old += is_old
        elif side == IN_SEEN and n_tail < tail.shape[0]:
            n_tail += 1
            _move(rows, i, old, j, is_old, tail[tail.shape[0] - n_tail])
        elif side & IN_SEEN != 0:
            n_gone += 1
            _move(rows, i, old, j, is_old, gone[gone.shape[0] - n_gone])
        i, j = (i, j - 1) if is_old else (i - 1, j)
    length = _write_head(
        new[0], kept[kept.shape[0] - n_kept :], tail[tail.shape[0] - n_tail :], head
    )
    if n_gone > 0:
        head[0, ARCHIVE_MAX] = max(head[0, ARCHIVE_MAX], gone[gone.shape[0] - 1, 0])
    return length, n_kept, n_gone, n_old < old.shape[0] or n_old < n_kept


@compiled
def extend_archive(header: Int64, gone: int, purged: bool, rules: Rules) -> bool:
    """Counts ``gone`` records as new chunks of the archive, unless it is time to rewrite it.

    Args:
        header: of the settled user; its counts are set.
        gone: what the archive gains.
        purged: whether the watermark has risen.
        rules: types and limits.

    Returns:
        Whether the archive must be rewritten, because it has a quarter more records than the seen
        set can want, or many small chunks, or records that a reset forgot; nothing is set then.
    """
    archived, chunks = archived_count(header), chunk_count(header)
    added = -(-gone // CHUNK_RECORDS)
    most = rules.limits[SEEN_CAP] * 5 // 4
    many = chunks + added > most // CHUNK_RECORDS + _SLACK_CHUNKS
    if many or archived + gone > most or (purged and archived > 0):
        return True
    header[COUNTS] += (np.int64(gone) << 32) + (np.int64(added) << 48)
    return False


@compiled
def _superseded(new: Int64, rows: Int64, old: Int64, classes: UInt8) -> UInt8:
    """Which settled records have a newer version among the recent ones."""
    dead = np.zeros(old.shape[0], np.uint8)
    if old.shape[0] > 0:
        sieve = new[1 : 1 + SIEVE_CELLS]
        for i in range(rows.shape[0]):
            if sieve_has(sieve, rows[i, 1]):
                at = find(old, rows[i, 1], stored_in(rows[i], classes), classes)
                if at >= 0:
                    dead[at] = 1
    return dead


@compiled
def _move(rows: Int64, i: int, old: Int64, j: int, is_old: bool, target: Int64) -> None:
    """Copies the record whose turn it is."""
    if is_old:
        copy_cell(old[j], target)
    else:
        copy_cell(rows[i], target)


@compiled
def _write_head(header: Int64, kept: Int64, tail: Int64, head: Int64) -> int:
    """Writes header, sieve and the records that stay recent; returns how many cells that is."""
    copy_cell(header, head[0])
    head[1 : 1 + SIEVE_CELLS] = 0
    head[0, COUNTS] = (header[COUNTS] & ~(0xFFFF << 16)) | (kept.shape[0] << 16)
    prefix = 1
    if kept.shape[0] > 0:
        prefix += SIEVE_CELLS
        for i in range(kept.shape[0]):
            sieve_add(head[1:prefix], kept[i, 1])
    for i in range(tail.shape[0]):
        copy_cell(tail[i], head[prefix + i])
    return int(prefix + tail.shape[0])
