"""What became of the calls of one kind: counted by a sending process, added up afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from histogram import Histogram


@dataclass(slots=True)
class Tally:
    """What became of the calls of one kind.

    Attributes:
        intervals: latencies by when the call was due.
        errors: calls that failed, by status code.
        entry_errors: entries that failed within calls that did not, by status code.
        ended_s: when the last answer came, seconds after the warm-up.
    """

    intervals: list[Histogram]
    errors: Counter[str] = field(default_factory=Counter)
    entry_errors: Counter[str] = field(default_factory=Counter)
    ended_s: float = 0.0

    def add(self, other: Tally) -> None:
        """Takes in what another process counted."""
        for mine, theirs in zip(self.intervals, other.intervals, strict=True):
            mine.add(theirs)
        self.errors += other.errors
        self.entry_errors += other.entry_errors
        self.ended_s = max(self.ended_s, other.ended_s)

    def as_json(self) -> dict[str, Any]:
        """As ``from_json`` reads it back."""
        return {
            "intervals": [interval.as_json() for interval in self.intervals],
            "errors": self.errors,
            "entry_errors": self.entry_errors,
            "ended_s": self.ended_s,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Tally:
        """What ``as_json`` wrote."""
        intervals = [Histogram.from_json(one) for one in found["intervals"]]
        errors, entries = Counter(found["errors"]), Counter(found["entry_errors"])
        return cls(intervals, errors, entries, found["ended_s"])
