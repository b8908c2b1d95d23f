"""Reading profiles: the histories of several users, and one user's different interactions."""

from typing import NamedTuple

import numpy as np

from rankstream.kernels.arrays import Int64, UInt8
from rankstream.kernels.cells import (
    HISTORY_CAP,
    IN_HISTORY,
    SIEVE_CELLS,
    copy_cell,
    is_less,
    settled_count,
    stored_in,
)
from rankstream.kernels.compilation import compiled
from rankstream.kernels.history import Ragged
from rankstream.kernels.retained import Rules


class Gathered(NamedTuple):
    """Records int64[T, 4]; user u's history, oldest first, is ``[indptr[u]:indptr[u + 1]]``."""

    records: Int64
    indptr: Int64


@compiled
def gather(recent: Ragged, settled: Ragged, rules: Rules) -> Gathered:
    """The histories of B users: one linear merge each.

    Args:
        recent: header, sieve and records as stored; no cells: an unknown user, an empty history.
        settled: sorted records as stored.
        rules: types and limits.
    """
    users = recent.offsets.shape[0] - 1
    indptr = np.zeros(users + 1, np.int64)
    for u in range(users):
        rows = _rows(recent, u)
        wanted = settled.offsets[u + 1] - settled.offsets[u]
        for i in range(rows.shape[0]):
            wanted += stored_in(rows[i], rules.classes) & IN_HISTORY
        indptr[u + 1] = indptr[u] + min(wanted, rules.limits[HISTORY_CAP])
    records = np.empty((indptr[users], 4), np.int64)
    for u in range(users):
        old = settled.cells[settled.offsets[u] : settled.offsets[u + 1]]
        _merge(_rows(recent, u), old, rules.classes, records[indptr[u] : indptr[u + 1]])
    return Gathered(records, indptr)


@compiled
def _rows(recent: Ragged, u: int) -> Int64:
    """The recent records of user u."""
    cells = recent.cells[recent.offsets[u] : recent.offsets[u + 1]]
    if cells.shape[0] == 0:
        return cells
    return cells[1 + (SIEVE_CELLS if settled_count(cells[0]) > 0 else 0) :]


@compiled
def _merge(rows: Int64, old: Int64, classes: UInt8, out: Int64) -> None:
    """Fills ``out`` from its end with the newest history records of two sorted runs."""
    i, j = rows.shape[0] - 1, old.shape[0] - 1
    for place in range(out.shape[0] - 1, -1, -1):
        while i >= 0 and stored_in(rows[i], classes) & IN_HISTORY == 0:
            i -= 1
        if i < 0 or (j >= 0 and is_less(rows[i], old[j])):
            copy_cell(old[j], out[place])
            j -= 1
        else:
            copy_cell(rows[i], out[place])
            i -= 1


@compiled
def winners(cells: Int64, classes: UInt8, bit: int, watermark: int) -> Int64:
    """Indices int64[.] of the greatest version of each interaction that belongs to ``bit``'s set.

    Args:
        cells: int64[n, 4] records in any order, versions that have lost included.
        classes: uint8[65536].
        bit: IN_HISTORY or IN_SEEN.
        watermark: records at or before it are ignored.
    """
    slots = 16
    while slots < 2 * cells.shape[0]:
        slots *= 2
    table = np.full(slots, -1, np.int64)
    for i in range(cells.shape[0]):
        side = stored_in(cells[i], classes)
        if side & bit == 0 or cells[i, 0] <= watermark:
            continue
        at = (cells[i, 1] ^ (cells[i, 1] >> 31)) & (slots - 1)
        while table[at] >= 0 and not _is_version(cells[table[at]], cells[i], side, classes):
            at = (at + 1) & (slots - 1)
        if table[at] < 0 or is_less(cells[table[at]], cells[i]):
            table[at] = i
    return np.sort(table[table >= 0])


@compiled
def _is_version(a: Int64, b: Int64, side: int, classes: UInt8) -> bool:
    """Whether a record is a version of ``b``, which belongs to ``side``."""
    return bool(a[1] == b[1] and stored_in(a, classes) == side)
