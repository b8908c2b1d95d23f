"""The merging set by its definition, in plain Python: shares no code with what it judges.

``history`` and ``seen`` are the definition itself, applied to all log records at once; ``Counters``
goes through the log one record after the other.
"""

import struct
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

TYPE_IDS = {
    "$reset": 0,
    "impression": 1,
    "view": 2,
    "click": 3,
    "purchase": 5,
    "rate": 6,
    "search": 7,
    "review": 8,
    "dislike": 10,
}
RESET = "$reset"
TEXT, MOVED = 0x8000, 0x4000


class Logged(NamedTuple):
    """One record of the log; a reset's time is its watermark."""

    user: int
    key: int
    time: int
    target: int = 0
    type: str = "click"
    weight: float = 1.0
    broker: int = 0
    ext: int = 0


@dataclass(frozen=True)
class Caps:
    history: int = 255
    seen: int = 4096
    history_types: tuple = ("view", "click", "rate", "search")
    seen_types: tuple = ("impression", "view", "click", "rate")
    counted_types: tuple = ("view", "click", "rate")
    bucket_ms: int = 4


def canonical(record):
    """What decides which of two versions is greater, and the order within a set."""
    (bits,) = struct.unpack("<I", struct.pack("<f", record.weight))
    number = TYPE_IDS[record.type]
    words = record.time, record.key, record.target, record.ext, number, bits
    return struct.pack(">QQQHHI", *words)


def stored(record):
    """The record's 32 bytes."""
    return struct.pack(
        "<qQQfHH",
        record.time,
        record.key,
        record.target,
        record.weight,
        TYPE_IDS[record.type],
        record.ext,
    )


def identity(caps, record):
    return record.key, record.type in caps.history_types, record.type in caps.seen_types


def watermark(log, user):
    return max((r.time for r in log if r.user == user and r.type == RESET), default=-1)


def history(caps, log, user):
    return _latest(caps, log, user, caps.history_types, caps.history)


def seen(caps, log, user):
    return _latest(caps, log, user, caps.seen_types, caps.seen)


def _latest(caps, log, user, types, cap):
    after = watermark(log, user)
    greatest = {}
    for record in log:
        if record.user == user and record.type in types and record.time > after:
            mine = identity(caps, record)
            greatest[mine] = max(greatest.get(mine, record), record, key=canonical)
    return sorted(greatest.values(), key=canonical)[-cap:]


def profile_bytes(caps, log, user):
    records = b"".join(map(stored, history(caps, log, user)))
    return struct.pack("<q", watermark(log, user)) + records


def seen_bytes(caps, log, user):
    return b"".join(map(stored, seen(caps, log, user)))


@dataclass
class _Sets:
    history: dict = field(default_factory=dict)
    seen: dict = field(default_factory=dict)
    watermark: int = -1


class Counters:
    """Counts by (target, bucket), from a sequential pass over the log."""

    def __init__(self, caps):
        self.caps = caps
        self.counts = Counter()
        self.users = defaultdict(_Sets)

    def fold(self, log):
        for record in log:
            self._fold(self.users[record.user], record)
        return {key: count for key, count in self.counts.items() if count}

    def _fold(self, sets, record):
        if record.type == RESET:
            sets.watermark = max(sets.watermark, record.time)
            sets.history = {k: r for k, r in sets.history.items() if r.time > sets.watermark}
            sets.seen = {k: r for k, r in sets.seen.items() if r.time > sets.watermark}
            return
        known = self._known(sets, record)
        if known is None:
            self._count(record, 1)
        elif canonical(record) > canonical(known):
            self._count(known, -1)
            self._count(record, 1)
        if record.time > sets.watermark:
            if record.type in self.caps.history_types:
                sets.history = self._add(sets.history, record, self.caps.history)
            if record.type in self.caps.seen_types:
                sets.seen = self._add(sets.seen, record, self.caps.seen)

    def _known(self, sets, record):
        mine = identity(self.caps, record)
        entry = sets.seen.get(mine)
        seen_before = entry if entry is not None and record.time <= entry.time else None
        return sets.history.get(mine, seen_before)

    def _add(self, members, record, cap):
        mine = identity(self.caps, record)
        members = members | {mine: max(members.get(mine, record), record, key=canonical)}
        if len(members) > cap:
            del members[min(members, key=lambda k: canonical(members[k]))]
        return members

    def _count(self, record, sign):
        if record.type in self.caps.counted_types and not record.ext & (TEXT | MOVED):
            self.counts[record.target, record.time // self.caps.bucket_ms] += sign
