"""Reading profiles: the histories of several users, and one user's different interactions."""

from typing import NamedTuple

import numpy as np

from rankstream.kernels.arrays import Float32, Int64, UInt8, UInt16, UInt64
from rankstream.kernels.cells import (
    COUNTS,
    HISTORY_CAP,
    IN_HISTORY,
    SIEVE_CELLS,
    copy_cell,
    ext_of,
    is_less,
    settled_count,
    stored_in,
    type_of,
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


class Columns(NamedTuple):
    """Histories of B users by column; user u's, oldest first, is ``[indptr[u]:indptr[u + 1]]``.

    Attributes:
        target_keys: uint64[T].
        weights: float32[T], signed.
        event_times_ms: int64[T].
        types: uint16[T].
        exts: uint16[T].
        event_keys: uint64[T].
        indptr: int64[B + 1].
        headers: int64[B, 4]; -1 where nothing is stored.
        bad: the first user whose values are not what their header says, or -1.
    """

    target_keys: UInt64
    weights: Float32
    event_times_ms: Int64
    types: UInt16
    exts: UInt16
    event_keys: UInt64
    indptr: Int64
    headers: Int64
    bad: int


@compiled
def gather_columns(words: Int64, sizes: Int64, layout: int, rules: Rules) -> Columns:
    """The histories of B users from their stored values, read in one go.

    Args:
        words: the recent values of all users, then their settled ones, one after the other.
        sizes: int64[2 B], bytes of each value.
        layout: the only one that is read.
        rules: types and limits.
    """
    users = sizes.shape[0] // 2
    headers = np.full((users, 4), -1, np.int64)
    bounds = np.zeros(2 * users + 1, np.int64)
    bad = -1
    for i in range(2 * users):
        bounds[i + 1] = bounds[i] + (sizes[i] >> 5)
        if bad < 0 and sizes[i] & 31 != 0:
            bad = i % users
    cells = words[: 4 * bounds[2 * users]].reshape(-1, 4)
    for u in range(users):
        if bounds[u + 1] > bounds[u]:
            copy_cell(cells[bounds[u]], headers[u])
        if bad < 0 and not _is_whole(cells, bounds, headers[u], layout, u):
            bad = u
    if bad >= 0:
        users = 0
    recent = Ragged(cells, bounds[: users + 1])
    settled = Ragged(cells, bounds[sizes.shape[0] // 2 :][: users + 1])
    records, indptr = gather(recent, settled, rules)
    total = records.shape[0]
    targets, events = np.empty(total, np.uint64), np.empty(total, np.uint64)
    weights, types = np.empty(total, np.float32), np.empty(total, np.uint16)
    times, exts = np.empty(total, np.int64), np.empty(total, np.uint16)
    for t in range(total):
        times[t] = records[t, 0]
        events[t] = np.uint64(records[t, 1])
        targets[t] = np.uint64(records[t, 2])
        weights[t] = np.uint32(records[t, 3] & 0xFFFFFFFF).view(np.float32)
        types[t] = np.uint16(type_of(records[t]))
        exts[t] = np.uint16(ext_of(records[t]))
    return Columns(targets, weights, times, types, exts, events, indptr, headers, bad)


@compiled
def _is_whole(cells: Int64, bounds: Int64, header: Int64, layout: int, u: int) -> bool:
    """Whether a user's values have the layout and the lengths that their header says."""
    users = bounds.shape[0] // 2
    recent = bounds[u + 1] - bounds[u]
    settled = bounds[users + u + 1] - bounds[users + u]
    if recent == 0:
        return bool(settled == 0)
    wanted = settled_count(header)
    least = 1 + (SIEVE_CELLS if wanted > 0 else 0)
    return bool(header[COUNTS] & 0xFFFF == layout and recent >= least and settled == wanted)


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
