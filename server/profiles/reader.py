"""What the fold reads stored profiles through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rankstream.server.profiles.layout import Buffer


class ProfileReader(Protocol):
    """The stored values of a batch's users, who are numbered from 0 in the batch.

    Values may be views into the store: they are read before ``fold_batch`` returns, and copied. A
    missing value is b"".
    """

    def recent(self, users: Sequence[int]) -> Sequence[Buffer]:
        """The recent value of each of the users."""

    def settled(self, users: Sequence[int]) -> Sequence[Buffer]:
        """The settled value of each of the users."""

    def archive(self, user: int, chunks: int) -> Sequence[Buffer]:
        """The chunks of one user's archive, numbered 0 to ``chunks - 1``."""
