"""What some users' profiles hold of events that someone is about to write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels.cells import ARCHIVE_MAX, WATERMARK
from rankstream.server.profiles.history import gather_histories
from rankstream.server.profiles.layout import read_header
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.profiles.stored import StoredProfiles
from rankstream.server.store import View

_TIME_BYTES = 8


@dataclass(frozen=True, slots=True, eq=False)
class Presence:
    """U users' stored records, inside a transaction.

    Attributes:
        profiles: reads more of a user.
        stored: recent and settled values.
        watermarks: ``int64 [U]``: what is not later is ignored; -1: nothing is.
        oldest: ``int64 [U]``: the oldest interaction of a full history; -1: it is not full.
        archived: ``int64 [U]``: the newest record of the archive; -1: it has none.
    """

    profiles: StoredProfiles
    stored: Sequence[bytes]
    watermarks: NDArray[np.int64]
    oldest: NDArray[np.int64]
    archived: NDArray[np.int64]

    def holds(self, user: int, record: bytes, *, at_any_time: bool = False) -> bool:
        """Whether a record is retained.

        Args:
            user: which.
            record: ``RECORD``, one.
            at_any_time: whatever its time is; then the archive is not read.
        """
        if at_any_time:
            return record[_TIME_BYTES:] in self.stored[user]
        if record in self.stored[user]:
            return True
        if int.from_bytes(record[:_TIME_BYTES], "little") > self.archived[user]:
            return False
        chunks = read_header(self.stored[user]).chunks
        return any(record in bytes(chunk) for chunk in self.profiles.archive(user, chunks))

    def is_late(self, user: int, event_time_ms: int, *, in_history: bool) -> bool:
        """Whether an interaction comes too late to change the profile.

        Args:
            user: which.
            event_time_ms: its time.
            in_history: whether its type makes a history.
        """
        return bool(
            event_time_ms <= self.watermarks[user]
            or (in_history and event_time_ms < self.oldest[user])
        )


def read_presence(fold: FoldSettings, view: View, users: Sequence[bytes]) -> Presence:
    """Reads what is retained of users.

    Raises:
        CorruptState: a stored value is not what its layout says.
    """
    profiles, everyone = StoredProfiles(view, users), range(len(users))
    recent, settled = profiles.recent(everyone), profiles.settled(everyone)
    found = gather_histories(fold, recent, settled)
    starts, sizes = found.indptr[:-1], np.diff(found.indptr)
    full = sizes >= fold.history_cap
    oldest = np.full(len(users), -1)
    oldest[full] = found.event_times_ms[starts[full]]
    return Presence(
        profiles,
        [b"".join(values) for values in zip(recent, settled, strict=True)],
        found.headers[:, WATERMARK],
        oldest,
        found.headers[:, ARCHIVE_MAX],
    )
