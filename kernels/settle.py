"""Settling: emptying a user's recent records into its settled records and its archive.

The latest history interactions are settled. What leaves the history but was seen is archived, and
so are records that only the seen set wants; the newest of those stay recent, so that the archive
ends some way before the present and events slightly out of order are not late.
"""

from typing import NamedTuple

import numpy as np

from rankstream.kernels.arrays import Int64, UInt8
from rankstream.kernels.cells import (
    ARCHIVE_MAX,
    COUNTS,
    HISTORY_CAP,
    IN_HISTORY,
    IN_SEEN,
    RECENT_CAP,
    SIEVE_CELLS,
    WATERMARK,
    copy_cell,
    is_less,
    settled_count,
    sieve_add,
    sieve_has,
    stored_in,
)
from rankstream.kernels.compilation import compiled
from rankstream.kernels.history import Ragged
from rankstream.kernels.retained import Rules, find


class Settled(NamedTuple):
    """Of user u, in ``recent``, ``settled`` and ``archived``: ``cells[starts[u]:stops[u]]``.

    ``archived`` is what the archive gains, sorted; the header's counts of the archive are the old
    ones. ``rewritten`` uint8[U]: whether the settled records changed.
    """

    recent: tuple[Int64, Int64, Int64]
    settled: tuple[Int64, Int64, Int64]
    archived: tuple[Int64, Int64, Int64]
    rewritten: UInt8


@compiled
def settle(recent: Ragged, settled: Ragged, rules: Rules) -> Settled:
    """Settles each of U users.

    Args:
        recent: header, sieve and records; a record may be a newer version of a settled one.
        settled: sorted records.
        rules: types and limits.
    """
    users, cap = recent.offsets.shape[0] - 1, rules.limits[HISTORY_CAP]
    head = 1 + SIEVE_CELLS + rules.limits[RECENT_CAP] // 2
    heads = np.zeros((users * head, 4), np.int64)
    kept = np.empty((users * cap, 4), np.int64)
    gone = np.empty((recent.cells.shape[0] + settled.cells.shape[0], 4), np.int64)
    spans = np.zeros((6, users), np.int64)
    rewritten = np.zeros(users, np.uint8)
    for u in range(users):
        new = recent.cells[recent.offsets[u] : recent.offsets[u + 1]]
        old = settled.cells[settled.offsets[u] : settled.offsets[u + 1]]
        first = recent.offsets[u] + settled.offsets[u]
        parts = (
            heads[u * head : (u + 1) * head],
            kept[u * cap : (u + 1) * cap],
            gone[first : first + new.shape[0] + old.shape[0]],
        )
        length, n_kept, n_gone, rewritten[u] = _settle_user(new, old, parts, rules)
        spans[0, u], spans[1, u] = u * head, u * head + length
        spans[2, u], spans[3, u] = (u + 1) * cap - n_kept, (u + 1) * cap
        spans[5, u] = first + new.shape[0] + old.shape[0]
        spans[4, u] = spans[5, u] - n_gone
    return Settled(
        (heads, spans[0], spans[1]), (kept, spans[2], spans[3]), (gone, spans[4], spans[5]),
        rewritten,
    )  # fmt: skip


@compiled
def _settle_user(
    new: Int64, old: Int64, parts: tuple[Int64, Int64, Int64], rules: Rules
) -> tuple[int, int, int, bool]:
    """Merges from the newest; returns the recent cells, the settled and the archived records."""
    head, kept, gone = parts
    prefix = 1 + (SIEVE_CELLS if settled_count(new[0]) > 0 else 0)
    rows, watermark = new[prefix:], new[0, WATERMARK]
    dead = _superseded(new, rows, old, rules.classes)
    tail = np.empty((head.shape[0] - 1 - SIEVE_CELLS, 4), np.int64)
    n_tail, n_kept, n_gone, n_old = 0, 0, 0, 0
    i, j = rows.shape[0] - 1, old.shape[0] - 1
    while i >= 0 or j >= 0:
        if j >= 0 and (dead[j] or old[j, 0] <= watermark):
            j -= 1
            continue
        is_old = i < 0 or (j >= 0 and is_less(rows[i], old[j]))
        side = stored_in(old[j] if is_old else rows[i], rules.classes)
        if side & IN_HISTORY != 0 and n_kept < kept.shape[0]:
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
    head[0, COUNTS] = (header[COUNTS] & ~(0xFFFF << 16)) | (kept.shape[0] << 16)
    prefix = 1
    if kept.shape[0] > 0:
        prefix += SIEVE_CELLS
        for i in range(kept.shape[0]):
            sieve_add(head[1:prefix], kept[i, 1])
    for i in range(tail.shape[0]):
        copy_cell(tail[i], head[prefix + i])
    return int(prefix + tail.shape[0])
