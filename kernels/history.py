"""Folding a batch of events into users' profiles; ``cells.py`` says what those are made of.

A profile is two merging sets, history and seen, kept in three places: recent records, which each
event reads and writes; settled records, read where the sieve says so; and an archive, read for
events that are not newer than all of it. ``fold_user`` decides by the two sets alone, so what it
computes depends neither on where a record is stored nor on how the log was cut into batches.
"""

from typing import Final, NamedTuple

import numpy as np

from rankstream.kernels.arrays import Int32, Int64
from rankstream.kernels.cells import (
    ARCHIVE_MAX,
    BUCKET_MS,
    COUNTED,
    COUNTS,
    LAYOUT_VERSION,
    MOVED,
    RECENT_CAP,
    SIEVE_CELLS,
    TEXT,
    UPDATED_AT,
    WATERMARK,
    archived_count,
    copy_cell,
    ext_of,
    is_less,
    settled_count,
    sieve_has,
    stored_in,
    type_of,
)
from rankstream.kernels.compilation import compiled
from rankstream.kernels.retained import (
    LOADED_ALL,
    LOADED_NOTHING,
    RETAINED,
    UNKNOWN,
    Rules,
    User,
    find,
    find_greatest,
    find_live,
    greatest,
    is_wanted,
    retention,
)

CHANGED: Final = 1
SETTLE: Final = 2
PURGE: Final = 4
NEEDS_SETTLED: Final = 8
NEEDS_ARCHIVE: Final = 16
NEEDS: Final = NEEDS_SETTLED | NEEDS_ARCHIVE
"""Bits of a user's status after ``fold_user``."""

RESET: Final = 0
"""The type of an event that raises the watermark to its time."""


class Ragged(NamedTuple):
    """Cells of several users: those of user u are ``cells[offsets[u]:offsets[u + 1]]``."""

    cells: Int64
    offsets: Int64


class Loaded(NamedTuple):
    """What of a user is at hand beside its recent value.

    Attributes:
        level: LOADED_NOTHING, LOADED_SETTLED or LOADED_ALL.
        settled: int64[., 4], sorted; no cells before LOADED_SETTLED.
        archive: int64[., 4] in any order; no cells before LOADED_ALL.
    """

    level: int
    settled: Int64
    archive: Int64


class Counts(NamedTuple):
    """Rows (target key, time bucket, +1 or -1), of which the first ``used[0]`` are there."""

    rows: Int64
    used: Int64


@compiled
def group(owners: Int32, users: int) -> tuple[Int64, Int64]:
    """A stable counting sort of events by user.

    Args:
        owners: ``[E]`` int32, each event's user, ``0 <= owners[e] < users``.
        users: U.

    Returns:
        ``order`` int64[E] and ``offsets`` int64[U + 1]: the events of user u, as they came, are
        ``order[offsets[u]:offsets[u + 1]]``.
    """
    offsets = np.zeros(users + 1, np.int64)
    for owner in owners:
        offsets[owner + 1] += 1
    offsets[:] = np.cumsum(offsets)
    place = offsets[:-1].copy()
    order = np.empty(owners.shape[0], np.int64)
    for event in range(owners.shape[0]):
        order[place[owners[event]]] = event
        place[owners[event]] += 1
    return order, offsets


@compiled
def fold_user(
    old: Int64,
    loaded: Loaded,
    events: Int64,
    mine: Int64,
    rules: Rules,
    counts: Counts,
    cells: Int64,
) -> tuple[int, int]:
    """Folds one user's events, in their order, into its recent cells.

    Args:
        old: header, sieve and records as stored; no cells: an unknown user.
        loaded: LOADED_NOTHING suffices for nearly every user.
        events: int64[E, 5].
        mine: int64[.], indices of the user's.
        rules: types and limits.
        counts: takes what is counted.
        cells: takes the new cells: room for a header, the old cells and the events.

    Returns:
        The status, and how many cells there are now. With a bit of NEEDS the user must be folded
        again with that loaded: its cells mean nothing and it has no counts. With SETTLE it must be
        settled before it is stored.
    """
    sizes = np.zeros(1, np.int64)
    prefix = _open(old, cells, sizes)
    superseded = np.zeros(loaded.settled.shape[0], np.uint8)
    user = User(
        cells[0], cells[1:prefix], cells[prefix:], sizes, loaded.settled, superseded,
        loaded.archive, loaded.level,
    )  # fmt: skip
    status = _fold_events(user, events, mine, rules, counts)
    if old.shape[0] == 0:
        status |= CHANGED
    return status, prefix + sizes[0]


@compiled
def _open(old: Int64, cells: Int64, sizes: Int64) -> int:
    """Copies the old cells, or writes the header of a new user; returns where the records start."""
    cells[0, :] = -1
    cells[0, COUNTS] = LAYOUT_VERSION
    for i in range(old.shape[0]):
        copy_cell(old[i], cells[i])
    prefix = 1 + (SIEVE_CELLS if settled_count(cells[0]) > 0 else 0)
    sizes[0] = max(old.shape[0] - prefix, 0)
    return prefix


@compiled
def _fold_events(user: User, events: Int64, mine: Int64, rules: Rules, counts: Counts) -> int:
    """Folds one user's events; returns its status."""
    if user.loaded < LOADED_ALL and _any_late(user.header, events, mine):
        return NEEDS_ARCHIVE
    before, status = counts.used[0], 0
    for e in mine:
        event = events[e]
        if event[4] > user.header[UPDATED_AT]:
            user.header[UPDATED_AT] = event[4]
            status |= CHANGED
        if type_of(event) == RESET:
            status |= _reset(user, event[0])
        elif stored_in(event, rules.classes) != 0:
            status |= _admit(user, event, rules, counts)
        if status & NEEDS:
            counts.used[0] = before
            return status
    return status | (SETTLE if user.sizes[0] > rules.limits[RECENT_CAP] else 0)


@compiled
def _any_late(header: Int64, events: Int64, mine: Int64) -> bool:
    """Whether an event is not newer than all of the archive, so that the archive may have it."""
    if header[ARCHIVE_MAX] >= 0:
        for e in mine:
            if events[e, 0] <= header[ARCHIVE_MAX] and type_of(events[e]) != RESET:
                return True
    return False


@compiled
def _reset(user: User, watermark: int) -> int:
    """Raises the watermark and forgets the recent records at or before it."""
    if watermark <= user.header[WATERMARK]:
        return 0
    user.header[WATERMARK] = watermark
    gone, size = 0, user.sizes[0]
    while gone < size and user.rows[gone, 0] <= watermark:
        gone += 1
    for i in range(gone, size):
        copy_cell(user.rows[i], user.rows[i - gone])
    user.sizes[0] -= gone
    if settled_count(user.header) + archived_count(user.header) > 0:
        return CHANGED | SETTLE | PURGE
    return CHANGED


@compiled
def _admit(user: User, event: Int64, rules: Rules, counts: Counts) -> int:
    """Folds one interaction; returns what it adds to the status."""
    key, side = event[1], stored_in(event, rules.classes)
    here, there = find(user.rows[: user.sizes[0]], key, side, rules.classes), -1
    if settled_count(user.header) > 0 and sieve_has(user.sieve, key):
        if user.loaded == LOADED_NOTHING:
            return NEEDS_SETTLED
        there = find_live(user.settled, user.superseded, key, side, rules.classes)
    far = find_greatest(user.archive, key, side, rules.classes)
    if here >= 0 or there >= 0 or far >= 0:
        return _replace(user, event, here, there, far, rules, counts)
    _count(event, 1, rules, counts)
    return _insert(user, event, rules)


@compiled
def _replace(
    user: User, event: Int64, here: int, there: int, far: int, rules: Rules, counts: Counts
) -> int:
    """Folds an interaction of which a version is stored: the greater wins, and is what counts."""
    entry = greatest(user, here, there, far)
    retained, newer = retention(user, entry, event[0], rules), is_less(entry, event)
    if retained == UNKNOWN:
        return NEEDS_SETTLED
    if retained == RETAINED and newer:
        _count(entry, -1, rules, counts)
    if retained != RETAINED or newer:
        _count(event, 1, rules, counts)
    if not newer:
        return 0
    if here >= 0:
        _remove(user, here)
    if there >= 0:
        user.superseded[there] = 1
    return _insert(user, event, rules) | CHANGED | (SETTLE if there >= 0 else 0)


@compiled
def _insert(user: User, event: Int64, rules: Rules) -> int:
    """Inserts an interaction unless the watermark or, for a late one, the caps exclude it."""
    late = event[0] <= user.header[ARCHIVE_MAX]
    if event[0] <= user.header[WATERMARK] or (late and not is_wanted(user, event, rules)):
        return 0
    at = user.sizes[0]
    while at > 0 and is_less(event, user.rows[at - 1]):
        copy_cell(user.rows[at - 1], user.rows[at])
        at -= 1
    copy_cell(event, user.rows[at])
    user.sizes[0] += 1
    return CHANGED


@compiled
def _remove(user: User, at: int) -> None:
    """Removes a recent record."""
    for i in range(at + 1, user.sizes[0]):
        copy_cell(user.rows[i], user.rows[i - 1])
    user.sizes[0] -= 1


@compiled
def _count(cell: Int64, sign: int, rules: Rules, counts: Counts) -> None:
    """Appends a count where the type is counted: of an item, and not once more where it moved."""
    if rules.classes[type_of(cell)] & COUNTED and ext_of(cell) & (TEXT | MOVED) == 0:
        used = counts.used[0]
        counts.rows[used, 0] = cell[2]
        counts.rows[used, 1] = cell[0] // rules.limits[BUCKET_MS]
        counts.rows[used, 2] = sign
        counts.used[0] += 1
