"""What of one user is retained: looking interactions up, and ranking them in the two sets.

Two records are versions of one interaction when their event keys and the sets they belong to agree.
Recent and settled never hold two versions of one interaction; the archive may hold any number.
"""

from typing import Final, NamedTuple

import numpy as np

from rankstream.kernels.arrays import Int64, UInt8
from rankstream.kernels.cells import (
    ARCHIVE_MAX,
    HISTORY_CAP,
    IN_HISTORY,
    IN_SEEN,
    SEEN_CAP,
    STORED,
    WATERMARK,
    archived_count,
    copy_cell,
    is_less,
    is_same,
    settled_count,
    stored_in,
)
from rankstream.kernels.compilation import compiled

LOADED_NOTHING: Final = 0
LOADED_SETTLED: Final = 1
LOADED_ALL: Final = 2

NOT_RETAINED: Final = 0
RETAINED: Final = 1
UNKNOWN: Final = 2


class Rules(NamedTuple):
    """``classes`` uint8[65536] by type, and ``limits`` int64[4]; ``cells.py`` names their parts."""

    classes: UInt8
    limits: Int64


class User(NamedTuple):
    """One user while its events are folded.

    Attributes:
        header: int64[4].
        sieve: int64[8, 4], or no cells.
        rows: room for the recent records; the first ``sizes[0]`` are there, sorted.
        sizes: int64[1].
        settled: int64[., 4] sorted, or no cells before LOADED_SETTLED.
        superseded: uint8 for each settled record: a newer version of it is among the rows.
        archive: int64[., 4] in any order, or no cells before LOADED_ALL.
        loaded: one of the three.
    """

    header: Int64
    sieve: Int64
    rows: Int64
    sizes: Int64
    settled: Int64
    superseded: UInt8
    archive: Int64
    loaded: int


@compiled
def find(rows: Int64, key: int, side: int, classes: UInt8) -> int:
    """The index of the interaction in ``rows``, or -1; searched from the newest."""
    for i in range(rows.shape[0] - 1, -1, -1):
        if is_same(rows[i], key, side, classes):
            return i
    return -1


@compiled
def find_live(rows: Int64, superseded: UInt8, key: int, side: int, classes: UInt8) -> int:
    """As ``find``, ignoring superseded rows."""
    for i in range(rows.shape[0] - 1, -1, -1):
        if is_same(rows[i], key, side, classes) and not superseded[i]:
            return i
    return -1


@compiled
def find_greatest(rows: Int64, key: int, side: int, classes: UInt8) -> int:
    """The index of the greatest version of the interaction in unsorted ``rows``, or -1."""
    best = -1
    for i in range(rows.shape[0]):
        if is_same(rows[i], key, side, classes) and (best < 0 or is_less(rows[best], rows[i])):
            best = i
    return best


@compiled
def greatest(user: User, here: int, there: int, far: int) -> Int64:
    """A copy of the greatest of up to three versions: in the rows, settled, in the archive."""
    entry = np.empty(4, np.int64)
    entry[0] = -1
    if here >= 0:
        copy_cell(user.rows[here], entry)
    if there >= 0 and (entry[0] < 0 or is_less(entry, user.settled[there])):
        copy_cell(user.settled[there], entry)
    if far >= 0 and (entry[0] < 0 or is_less(entry, user.archive[far])):
        copy_cell(user.archive[far], entry)
    return entry


@compiled
def retention(user: User, entry: Int64, event_time: int, rules: Rules) -> int:
    """Whether an event at ``event_time`` meets ``entry`` as a retained version of itself.

    It does where the entry is in the history, or is in the seen set and not older than the event.
    (Else every event would have to be looked up in the archive.) The question is about the two
    sets, never about where a record happens to be stored. UNKNOWN: settled must be loaded.
    """
    if entry[0] <= user.header[WATERMARK]:
        return NOT_RETAINED
    side, limits = stored_in(entry, rules.classes), rules.limits
    seen = side & IN_SEEN != 0 and event_time <= entry[0]
    near = user.sizes[0] + settled_count(user.header)
    far = archived_count(user.header) if entry[0] <= user.header[ARCHIVE_MAX] else 0
    if seen and near + far <= limits[SEEN_CAP]:
        return RETAINED
    if side & IN_HISTORY != 0 and near < limits[HISTORY_CAP]:
        return RETAINED
    if settled_count(user.header) > 0 and user.loaded == LOADED_NOTHING:
        return UNKNOWN
    if side & IN_HISTORY != 0 and is_in_history(user, entry, rules):
        return RETAINED
    return RETAINED if seen and is_in_seen(user, entry, rules) else NOT_RETAINED


@compiled
def is_wanted(user: User, event: Int64, rules: Rules) -> bool:
    """Whether one of the sets retains a new interaction; all must be loaded."""
    side = stored_in(event, rules.classes)
    if side & IN_HISTORY != 0 and is_in_history(user, event, rules):
        return True
    return side & IN_SEEN != 0 and is_in_seen(user, event, rules)


@compiled
def is_in_history(user: User, entry: Int64, rules: Rules) -> bool:
    """Whether fewer than the cap's history interactions are greater than ``entry``."""
    rank = 0
    for i in range(user.sizes[0]):
        row = user.rows[i]
        rank += stored_in(row, rules.classes) & IN_HISTORY != 0 and is_less(entry, row)
    for i in range(user.settled.shape[0]):
        rank += not user.superseded[i] and is_less(entry, user.settled[i])
    return bool(rank < rules.limits[HISTORY_CAP])


@compiled
def is_in_seen(user: User, entry: Int64, rules: Rules) -> bool:
    """Whether fewer than the cap's seen interactions are greater than ``entry``."""
    cap, classes = rules.limits[SEEN_CAP], rules.classes
    alone = _greater_keys(user, entry, IN_SEEN, classes)
    shared = _greater_keys(user, entry, STORED, classes)
    if alone.shape[0] + shared.shape[0] < cap:
        return True
    return bool(_distinct(alone) + _distinct(shared) < cap)


@compiled
def _greater_keys(user: User, entry: Int64, side: int, classes: UInt8) -> Int64:
    """Event keys of the records of one side that are greater than ``entry``, with repetitions."""
    size = user.sizes[0]
    keys = np.empty(size + user.settled.shape[0] + user.archive.shape[0], np.int64)
    found = 0
    for i in range(size):
        if stored_in(user.rows[i], classes) == side and is_less(entry, user.rows[i]):
            keys[found] = user.rows[i, 1]
            found += 1
    for i in range(user.settled.shape[0]):
        row = user.settled[i]
        if stored_in(row, classes) == side and is_less(entry, row) and not user.superseded[i]:
            keys[found] = row[1]
            found += 1
    for i in range(user.archive.shape[0]):
        if stored_in(user.archive[i], classes) == side and is_less(entry, user.archive[i]):
            keys[found] = user.archive[i, 1]
            found += 1
    return keys[:found]


@compiled
def _distinct(keys: Int64) -> int:
    """How many different keys there are."""
    ordered = np.sort(keys)
    found = min(ordered.shape[0], 1)
    for i in range(1, ordered.shape[0]):
        found += int(ordered[i] != ordered[i - 1])
    return int(found)
