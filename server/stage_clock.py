"""How long the stages of one engine batch take."""

from __future__ import annotations

import time

from rankstream.server.types import StageTimes


class StageClock:
    """Laps of one batch, in microseconds."""

    def __init__(self) -> None:
        self._laps: dict[str, int] = {}
        self._last = time.perf_counter_ns()

    def copy(self) -> StageClock:
        """One that goes on from here."""
        other = StageClock()
        other._laps, other._last = dict(self._laps), self._last
        return other

    def lap(self, name: str) -> None:
        """Ends a stage."""
        now = time.perf_counter_ns()
        self._laps[name] = (now - self._last) // 1000
        self._last = now

    def times(self, batch_size: int) -> StageTimes:
        """What was spent, for a batch of so many tasks."""
        spent = self._laps.get
        return StageTimes(
            gather_us=spent("gather", 0),
            pool_us=spent("pool", 0),
            score_us=spent("score", 0),
            present_us=spent("present", 0),
            batch_size=batch_size,
        )
