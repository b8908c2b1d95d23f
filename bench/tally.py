"""What became of the calls of one kind: counted by a sending process, added up afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from connections import CODES
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from histogram import Histogram

_FIRST_STATUS = 1 << 3 | 2
"""The tag of field 1, a message."""


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


def failed_entries(answer: bytes) -> Iterator[str]:
    """The codes of a batch's entries that failed, without reading the others.

    Args:
        answer: a message whose field 1 repeats an entry, of which field 1 is a google.rpc.Status:
            BatchRankResponse and RecordEventsResponse.
    """
    at = 0
    while at < len(answer) and answer[at] == _FIRST_STATUS:
        size, start = _varint(answer, at + 1)
        if size and answer[start] == _FIRST_STATUS:
            length, begin = _varint(answer, start + 1)
            try:
                code = status_pb2.Status.FromString(answer[begin : begin + length]).code
            except DecodeError:
                yield grpc.StatusCode.DATA_LOSS.name
            else:
                if code:
                    yield CODES.get(code, "UNKNOWN")
        at = start + size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A length that stands there, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
