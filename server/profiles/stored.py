"""Profiles in the store: their keys, what the fold reads, what it changes, what ranking reads."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels.cells import COUNTS, UPDATED_AT, WATERMARK
from rankstream.server.errors import CorruptState
from rankstream.server.profiles.fold import ProfileChanges
from rankstream.server.profiles.history import Histories, gather_histories, join_histories
from rankstream.server.profiles.layout import CELL_BYTES, Buffer, read_header
from rankstream.server.profiles.seen import retained_records, seen_targets
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.store import Txn, View

_LENGTH = struct.Struct(">H")
_NUMBER = struct.Struct(">I")


def chunk_key(user: bytes, number: int) -> bytes:
    """The key of one chunk of a user's archive; no user's keys begin with another's."""
    return _LENGTH.pack(len(user)) + user + _NUMBER.pack(number)


@dataclass(frozen=True, slots=True)
class StoredProfiles:
    """What the fold reads of a batch's users, numbered as in ``users``, inside a transaction."""

    view: View
    users: Sequence[bytes]

    def recent(self, users: Sequence[int]) -> Sequence[Buffer]:
        """The recent value of each of the users."""
        return self.view.get_many("recent", (self.users[u] for u in users))

    def settled(self, users: Sequence[int]) -> Sequence[Buffer]:
        """The settled value of each of the users."""
        return self.view.get_many("settled", (self.users[u] for u in users))

    def archive(self, user: int, chunks: int) -> Sequence[Buffer]:
        """The chunks of one user's archive."""
        name = self.users[user]
        return self.view.get_many("archive", (chunk_key(name, n) for n in range(chunks)))


def write_changes(txn: Txn, users: Sequence[bytes], changes: ProfileChanges) -> None:
    """Puts what a fold changed, counters apart."""
    for user, value in changes.recent:
        txn.put("recent", users[user], value)
    for user, value in changes.settled:
        if len(value):
            txn.put("settled", users[user], value)
        else:
            txn.delete("settled", users[user])
    for write in changes.archives:
        name = users[write.user]
        for number in write.stale:
            txn.delete("archive", chunk_key(name, number))
        for number, value in enumerate(write.chunks, write.first):
            txn.put("archive", chunk_key(name, number), value)


@dataclass(frozen=True, slots=True, eq=False)
class ProfileBatch:
    """B users as ranking reads them.

    Attributes:
        histories: their interactions, ragged, oldest first.
        known: whether any record of the user has been applied, ``bool [B]``.
        updated_at_ms: the greatest broker timestamp of the user's records, ``int64 [B]``; -1: none.
        watermark_ms: ``int64 [B]``; -1: none.
    """

    histories: Histories
    known: NDArray[np.bool_]
    updated_at_ms: NDArray[np.int64]
    watermark_ms: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class StoredValues:
    """The stored values of B users, copied, as ``kernels.query`` reads them.

    Attributes:
        words: ``int64 [.]``: their recent values, then their settled ones, one after the other.
        sizes: ``int64 [2 B]``, bytes of each value.
    """

    words: NDArray[np.int64]
    sizes: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ProfileStore:
    """Reads profiles inside a transaction."""

    fold: FoldSettings

    def stored(self, view: View, users: Sequence[bytes]) -> StoredValues:
        """The values of B users.

        Raises:
            CorruptState: their bytes are no whole number of records.
        """
        values = view.get_many("recent", users) + view.get_many("settled", users)
        joined = b"".join(values)
        if len(joined) % CELL_BYTES:
            msg = "a stored profile holds a part of a record; rebuild the state from the log"
            raise CorruptState(msg)
        sizes = np.fromiter(map(len, values), np.int64, len(values))
        sizes.flags.writeable = False
        return StoredValues(np.frombuffer(joined, np.int64), sizes)

    def read(self, view: View, users: Sequence[bytes]) -> ProfileBatch:
        """The histories of B users.

        Raises:
            CorruptState: a stored value is not what its layout says.
        """
        stored = StoredProfiles(view, users)
        recent, settled = stored.recent(range(len(users))), stored.settled(range(len(users)))
        found = gather_histories(self.fold, recent, settled)
        headers = found.headers
        # A stored header's counts hold its layout, so they are not -1.
        known = headers[:, COUNTS] != -1
        return ProfileBatch(found, known, headers[:, UPDATED_AT], headers[:, WATERMARK])

    def person(self, view: View, ids: Sequence[bytes]) -> Histories:
        """The history of one person, who may have several ids, joined.

        Raises:
            CorruptState: a stored value is not what its layout says.
        """
        found = self.read(view, ids).histories
        return join_histories(found, [len(ids)], [None], self.fold.rules)

    def retained(self, view: View, user: bytes) -> NDArray[np.void]:
        """Everything that is kept of one id: ``RECORD [n]``, sorted by time, each once.

        Raises:
            CorruptState: a stored value is not what its layout says.
        """
        stored = StoredProfiles(view, [user])
        (recent,), (settled,) = stored.recent([0]), stored.settled([0])
        chunks = stored.archive(0, read_header(recent).chunks)
        return retained_records(self.fold, recent, settled, chunks)

    def seen_targets(
        self, view: View, user: bytes, until_ms: int | None = None
    ) -> NDArray[np.uint64]:
        """The keys of what one user has seen (until some time), sorted ``uint64 [n]``.

        Raises:
            CorruptState: a stored value is not what its layout says.
        """
        stored = StoredProfiles(view, [user])
        (recent,), (settled,) = stored.recent([0]), stored.settled([0])
        chunks = stored.archive(0, read_header(recent).chunks)
        return seen_targets(self.fold, recent, settled, chunks, until_ms)
