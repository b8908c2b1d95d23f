"""Latencies in little space: counts in buckets whose width grows with the value.

As in an HDR histogram, each octave has the same number of buckets, so that a percentile is at most
``RELATIVE_ERROR`` above the true one, whatever its size, and never below it. Histograms of several
processes or seconds add up to that of all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_BITS = 7
_HALF = 1 << _BITS
RELATIVE_ERROR = 1 / _HALF
LARGEST_US = (1 << 40) - 1
"""Twelve days; what takes longer counts as that."""


@dataclass(slots=True)
class Histogram:
    """Latencies in whole microseconds.

    Attributes:
        counts: how many by bucket; those that are empty are left out.
        failed: calls without an answer: they rank above every latency.
        max_us: the greatest latency, exactly.
        sum_us: of all latencies, exactly.
    """

    counts: dict[int, int] = field(default_factory=dict)
    failed: int = 0
    max_us: int = 0
    sum_us: int = 0

    def record(self, us: int) -> None:
        """Counts a latency; one below zero counts as zero."""
        us = min(max(us, 0), LARGEST_US)
        bucket = bucket_of(us)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.sum_us += us
        self.max_us = max(self.max_us, us)

    def record_failure(self) -> None:
        """Counts a call that was not answered well."""
        self.failed += 1

    @property
    def answered(self) -> int:
        """How many latencies there are."""
        return sum(self.counts.values())

    @property
    def total(self) -> int:
        """Latencies and failures."""
        return self.answered + self.failed

    def percentile_ms(self, percent: float) -> float:
        """The latency that ``percent`` of the calls do not exceed.

        Returns:
            Milliseconds; inf where that call has failed, nan where there is none.
        """
        if self.total == 0:
            return math.nan
        # Rounded before ceil: 99.9 % of 1000 is 999, and 999.0000000000001 in floating point.
        wanted = max(1, math.ceil(round(percent * self.total / 100, 6)))
        for bucket in sorted(self.counts):
            wanted -= self.counts[bucket]
            if wanted <= 0:
                return min(highest_of(bucket), self.max_us) / 1e3
        return math.inf

    def add(self, other: Histogram) -> None:
        """Takes in another's counts."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.failed += other.failed
        self.max_us = max(self.max_us, other.max_us)
        self.sum_us += other.sum_us

    @classmethod
    def merged(cls, histograms: Iterable[Histogram]) -> Histogram:
        """The histogram of all that they counted."""
        found = cls()
        for one in histograms:
            found.add(one)
        return found

    def as_json(self) -> dict[str, Any]:
        """As ``from_json`` reads it back."""
        return {
            "counts": sorted(self.counts.items()),
            "failed": self.failed,
            "max_us": self.max_us,
            "sum_us": self.sum_us,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Histogram:
        """What ``as_json`` wrote."""
        counts = {int(bucket): int(count) for bucket, count in found["counts"]}
        return cls(counts, found["failed"], found["max_us"], found["sum_us"])


def bucket_of(us: int) -> int:
    """The bucket of a value: itself below 256, from there on its leading eight bits."""
    shift = max(0, us.bit_length() - _BITS - 1)
    return shift * _HALF + (us >> shift)


def highest_of(bucket: int) -> int:
    """The greatest value in a bucket."""
    shift = max(0, bucket // _HALF - 1)
    return ((bucket - shift * _HALF + 1) << shift) - 1
