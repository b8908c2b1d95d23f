"""Folding and settling all users of a batch in two calls, however few events it has.

A call and each small NumPy operation cost about a microsecond, so a batch of ten events would be
made of them. ``fold_fresh`` therefore checks, groups and folds with nothing but recent values;
``finish`` does what is left for the few users of whom more had to be read.
"""

from typing import Final, NamedTuple

import numpy as np

from rankstream.kernels.arrays import Int32, Int64
from rankstream.kernels.cells import (
    COUNTS,
    LAYOUT_VERSION,
    SIEVE_CELLS,
    archived_count,
    chunk_count,
    copy_cell,
    settled_count,
)
from rankstream.kernels.compilation import compiled
from rankstream.kernels.history import (
    CHANGED,
    NEEDS,
    NEEDS_ARCHIVE,
    PURGE,
    SETTLE,
    Counts,
    Loaded,
    fold_user,
    group,
)
from rankstream.kernels.retained import LOADED_ALL, LOADED_NOTHING, LOADED_SETTLED, Rules
from rankstream.kernels.settle import Parts, extend_archive, head_room, settle_user

CELL_BYTES: Final = 32

PUT_RECENT: Final = 1
PUT_SETTLED: Final = 2
REWRITE: Final = 4
"""What ``Finished`` says of a user: bits of its last column."""


class Fresh(NamedTuple):
    """A batch after the fold with nothing but recent values.

    Attributes:
        bad: index of a stored value that is not one, or -1; nothing was folded then.
        offsets: int64[U + 1] into the stored cells.
        order: int64[E]; user u's events are ``order[firsts[u]:firsts[u + 1]]``.
        firsts: int64[U + 1].
        cells: int64[., 4], new recent cells.
        spans: int64[U, 3]: where user u's start and stop in ``cells``, and its status.
        changed: int64[W, 3]: users whose new recent value is to be stored as it is, and where its
            bytes start and stop in ``cells``.
        few: int64[F, 2]: the users to ``finish``, and how many chunks of the archive that takes.
        counts: int64[., 3], of all others.
    """

    bad: int
    offsets: Int64
    order: Int64
    firsts: Int64
    cells: Int64
    spans: Int64
    changed: Int64
    few: Int64
    counts: Int64


class Stored(NamedTuple):
    """Values end to end, int64[n], and how many bytes each has, int64[F]."""

    words: Int64
    sizes: Int64


class Finished(NamedTuple):
    """The few users, folded and settled.

    Attributes:
        bad: index among the few of a user whose settled or archived records are not as many as its
            header says, or -1; the rest means nothing then.
        cells: int64[., 4].
        spans: int64[F, 8]: where recent, settled and archived cells start and stop in ``cells``;
            chunks of the archive as stored; and bits: PUT_RECENT, PUT_SETTLED, and REWRITE, for an
            archive that is to be made anew, whose numbers in the header are the old ones.
        counts: int64[., 3].
    """

    bad: int
    cells: Int64
    spans: Int64
    counts: Int64


@compiled
def fold_fresh(recent: Stored, owners: Int32, events: Int64, rules: Rules) -> Fresh:
    """Folds each user's events into its recent cells, as far as those suffice.

    Args:
        recent: header, sieve and records of each of U users; no bytes: an unknown user.
        owners: int32[E], each event's user, ``0 <= owners[e] < U``.
        events: int64[E, 5].
        rules: types and limits.
    """
    cells, offsets = recent.words.reshape(-1, 4), _offsets(recent.sizes)
    bad = _find_bad(cells, offsets, recent.sizes)
    users, count = (offsets.shape[0] - 1, owners.shape[0]) if bad < 0 else (0, 0)
    order, firsts = group(owners[:count], users)
    spans = _rooms(offsets, firsts)
    new = np.empty((spans[users, 0], 4), np.int64)
    counts = Counts(np.empty((2 * count, 3), np.int64), np.zeros(1, np.int64))
    nothing = Loaded(LOADED_NOTHING, cells[:0], cells[:0])
    for u in range(users):
        status, length = fold_user(
            cells[offsets[u] : offsets[u + 1]], nothing, events,
            order[firsts[u] : firsts[u + 1]], rules, counts, new[spans[u, 0] : spans[u + 1, 0]],
        )  # fmt: skip
        spans[u, 1], spans[u, 2] = spans[u, 0] + length, status
    changed, few = _sort_out(cells, offsets, spans[:users])
    found = counts.rows[: counts.used[0]]
    return Fresh(bad, offsets, order, firsts, new, spans[:users], changed, few, found)


@compiled
def finish(
    recent: Stored, settled: Stored, archive: Stored, events: Int64, fresh: Fresh, rules: Rules
) -> Finished:
    """Folds again the users that need more than their recent value, and settles the full ones.

    Args:
        recent: as for ``fold_fresh``.
        settled: of the few.
        archive: of the few: all chunks where ``fresh.few`` says so, else no bytes.
        events: as for ``fold_fresh``.
        fresh: what ``fold_fresh`` returned.
        rules: types and limits.
    """
    few, count = fresh.few, fresh.few.shape[0]
    near, far = _offsets(settled.sizes), _offsets(archive.sizes)
    spans = np.zeros((count, 8), np.int64)
    counts = Counts(np.empty((2 * events.shape[0], 3), np.int64), np.zeros(1, np.int64))
    cells = np.empty((_room(fresh, near, rules), 4), np.int64)
    free, bad = 0, -1
    for i in range(count):
        u = few[i, 0]
        old = recent.words.reshape(-1, 4)[fresh.offsets[u] : fresh.offsets[u + 1]]
        own = settled.words.reshape(-1, 4)[near[i] : near[i + 1]]
        late = archive.words.reshape(-1, 4)[far[i] : far[i + 1]]
        if _is_short(old, settled.sizes[i], archive.sizes[i], fresh.spans[u, 2]):
            bad = i
            break
        new, status = fresh.cells[fresh.spans[u, 0] : fresh.spans[u, 1]], fresh.spans[u, 2]
        if status & NEEDS:
            level = LOADED_ALL if status & NEEDS_ARCHIVE else LOADED_SETTLED
            mine = fresh.order[fresh.firsts[u] : fresh.firsts[u + 1]]
            again = np.empty((max(old.shape[0], 1) + mine.shape[0], 4), np.int64)
            loaded = Loaded(level, own, late)
            status, length = fold_user(old, loaded, events, mine, rules, counts, again)
            new = again[:length]
        if status & SETTLE:
            free = _settle_into(cells, free, spans[i], new, own, status & PURGE != 0, rules)
        elif status & CHANGED:
            free = _copy_into(cells, free, spans[i], new)
    return Finished(bad, cells, spans, counts.rows[: counts.used[0]])


@compiled
def _offsets(sizes: Int64) -> Int64:
    """Where each value's cells start, and the last one's stop."""
    offsets = np.zeros(sizes.shape[0] + 1, np.int64)
    for u in range(sizes.shape[0]):
        offsets[u + 1] = offsets[u] + sizes[u] // CELL_BYTES
    return offsets


@compiled
def _find_bad(cells: Int64, offsets: Int64, sizes: Int64) -> int:
    """The first recent value that is no whole cells, or lacks its header or its sieve, or -1."""
    for u in range(sizes.shape[0]):
        if sizes[u] % CELL_BYTES != 0:
            return u
    for u in range(sizes.shape[0]):
        if sizes[u] > 0:
            header = cells[offsets[u]]
            least = 1 + (SIEVE_CELLS if settled_count(header) > 0 else 0)
            if header[COUNTS] & 0xFFFF != LAYOUT_VERSION or sizes[u] < least * CELL_BYTES:
                return u
    return -1


@compiled
def _rooms(offsets: Int64, firsts: Int64) -> Int64:
    """``Fresh.spans`` with where each user's room starts, and one row more, where the last stops.

    There is room for a header, the old cells and all the user's events.
    """
    users = firsts.shape[0] - 1
    spans = np.zeros((users + 1, 3), np.int64)
    for u in range(users):
        old = max(offsets[u + 1] - offsets[u], 1)
        spans[u + 1, 0] = spans[u, 0] + old + firsts[u + 1] - firsts[u]
    return spans


@compiled
def _sort_out(cells: Int64, offsets: Int64, spans: Int64) -> tuple[Int64, Int64]:
    """``changed`` and ``few``."""
    users = spans.shape[0]
    changed, few = np.empty((users, 3), np.int64), np.empty((users, 2), np.int64)
    n_changed, n_few = 0, 0
    for u in range(users):
        if spans[u, 2] & (NEEDS | SETTLE):
            few[n_few, 0], few[n_few, 1] = u, 0
            if spans[u, 2] & NEEDS_ARCHIVE:
                few[n_few, 1] = chunk_count(cells[offsets[u]])
            n_few += 1
        elif spans[u, 2] & CHANGED:
            changed[n_changed, 0] = u
            changed[n_changed, 1] = spans[u, 0] * CELL_BYTES
            changed[n_changed, 2] = spans[u, 1] * CELL_BYTES
            n_changed += 1
    return changed[:n_changed], few[:n_few]


@compiled
def _is_short(old: Int64, settled: int, archived: int, status: int) -> bool:
    """Whether a user's values have other sizes than its header says; they may be longer, too."""
    wanted = 0
    if status & NEEDS_ARCHIVE:
        wanted = archived_count(old[0])
    near = settled_count(old[0]) if old.shape[0] > 0 else 0
    return bool(settled != near * CELL_BYTES or archived != wanted * CELL_BYTES)


@compiled
def _room(fresh: Fresh, near: Int64, rules: Rules) -> int:
    """Cells that suffice for all that ``finish`` makes."""
    room = 0
    for i in range(fresh.few.shape[0]):
        u = fresh.few[i, 0]
        events = fresh.firsts[u + 1] - fresh.firsts[u]
        new = max(fresh.offsets[u + 1] - fresh.offsets[u], 1) + events
        room += head_room(rules) + 2 * (new + near[i + 1] - near[i])
    return room


@compiled
def _settle_into(
    cells: Int64, free: int, span: Int64, new: Int64, own: Int64, purged: bool, rules: Rules
) -> int:
    """Settles a user into ``cells[free:]`` and fills its span; returns what is free then."""
    records = new.shape[0] + own.shape[0]
    first = free + head_room(rules)
    second, end = first + records, first + 2 * records
    parts = Parts(cells[free:first], cells[first:second], cells[second:end])
    length, kept, gone, changed = settle_user(new, own, parts, rules)
    span[0], span[1], span[2], span[3] = free, free + length, second - kept, second
    span[4], span[5], span[6] = end - gone, end, chunk_count(new[0])
    span[7] = PUT_RECENT | (PUT_SETTLED if changed else 0)
    if extend_archive(parts.head[0], gone, purged, rules):
        span[7] |= REWRITE
    return int(end)


@compiled
def _copy_into(cells: Int64, free: int, span: Int64, new: Int64) -> int:
    """Copies a user's recent cells to ``cells[free:]``; returns what is free then."""
    for i in range(new.shape[0]):
        copy_cell(new[i], cells[free + i])
    span[0], span[1], span[7] = free, free + new.shape[0], PUT_RECENT
    return int(free + new.shape[0])
