"""Where things are in the data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Paths:
    """One data folder.

    ::

        state/       the LMDB environment
        segments/    the catalogue's rows by generation, and the bias
        lock         held by the one writer
    announce     counters in shared memory
        broker/      the embedded broker's log
        cache/       compiled models; may be deleted
    """

    root: Path

    @property
    def lock(self) -> Path:
        """Held by the ingest process: one writer a folder."""
        return self.root / "lock"

    @property
    def store(self) -> Path:
        """The LMDB environment."""
        return self.root / "state"

    @property
    def segments(self) -> Path:
        """Rows by generation, and the bias."""
        return self.root / "segments"

    @property
    def page(self) -> Path:
        """The announcements."""
        return self.root / "announce"

    @property
    def broker(self) -> Path:
        """The embedded broker's folder."""
        return self.root / "broker"

    @property
    def cache(self) -> Path:
        """What can be made again."""
        return self.root / "cache"
