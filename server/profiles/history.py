"""Reading histories: many users' as arrays for ranking, one user's as objects for people.

A history is the latest ``history_cap`` interactions of the history types, later than the user's
watermark, ordered by (event_time, event key). An event_id is one interaction: of several contents
the greatest (event_time, canonical bytes) wins. So it is the same however the log was reordered,
redelivered or cut into batches. History and seen set are two such sets: an event_id that was used
for a type in one of them and for a type in both is two interactions.
"""

from __future__ import annotations

import dataclasses
import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rankstream.kernels.arrays import freeze
from rankstream.kernels.cells import HISTORY_CAP, STORED, UPDATED_AT
from rankstream.kernels.gather import gather, gather_columns
from rankstream.kernels.retained import Rules
from rankstream.server.errors import CorruptState
from rankstream.server.profiles.interaction import RECORD
from rankstream.server.profiles.layout import (
    CELL_BYTES,
    LAYOUT_VERSION,
    Buffer,
    join_recent,
    join_settled,
    read_header,
    records_of,
)
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.types import Session


@dataclass(frozen=True, slots=True)
class Histories:
    """Histories of B users; that of user b, oldest first, is ``indptr[b]:indptr[b + 1]``.

    Attributes:
        target_keys: uint64[T].
        weights: float32[T], signed.
        event_times_ms: int64[T].
        types: uint16[T].
        exts: uint16[T]: the bits ``TEXT`` and ``MOVED``, and a position.
        event_keys: uint64[T].
        indptr: int64[B + 1].
        headers: int64[B, 4], see ``kernels/cells.py``; -1 where nothing is stored.
    """

    target_keys: npt.NDArray[np.uint64]
    weights: npt.NDArray[np.float32]
    event_times_ms: npt.NDArray[np.int64]
    types: npt.NDArray[np.uint16]
    exts: npt.NDArray[np.uint16]
    event_keys: npt.NDArray[np.uint64]
    indptr: npt.NDArray[np.int64]
    headers: npt.NDArray[np.int64]

    def records(self) -> npt.NDArray[np.void]:
        """All of them as they are stored: ``RECORD [T]``."""
        made = np.zeros(len(self.types), RECORD)
        for field, column in _STORED_AS.items():
            made[field] = getattr(self, column)
        return made


@dataclass(frozen=True, slots=True)
class Interaction:
    """One interaction of a profile; ``weight`` is signed."""

    event_time_ms: int
    event_key: int
    target_key: int
    weight: float
    type_id: int


@dataclass(frozen=True, slots=True)
class Profile:
    """One user's profile.

    Attributes:
        known: whether any record of the user has been folded.
        watermark_ms: interactions at or before it are ignored; None: no reset.
        updated_at_ms: the greatest broker timestamp of the user's records; None: no record.
        interactions: the history, newest first.
    """

    known: bool
    watermark_ms: int | None
    updated_at_ms: int | None
    interactions: tuple[Interaction, ...]


_COLUMNS = tuple(field.name for field in dataclasses.fields(Histories))
_RECORD_COLUMNS = tuple(name for name in _COLUMNS if name not in ("indptr", "headers"))
_SESSION_COLUMNS = tuple(name for name in _RECORD_COLUMNS if name != "event_keys")
_STORED_AS = {
    "event_time_ms": "event_times_ms",
    "event_key": "event_keys",
    "target_key": "target_keys",
    "weight": "weights",
    "type": "types",
    "ext": "exts",
}
_ORDER = ("event_times_ms", "event_keys", "target_keys")


def gather_histories(
    settings: FoldSettings, recent: Sequence[Buffer], settled: Sequence[Buffer]
) -> Histories:
    """The histories of B users from their stored values; b"" where there is none.

    The values are copied, so they may be views of a transaction that ends after the call.

    Raises:
        CorruptState: a value is not what its layout says.
    """
    sizes = np.fromiter(map(len, itertools.chain(recent, settled)), np.int64, 2 * len(recent))
    joined = b"".join([*recent, *settled])
    if len(joined) % CELL_BYTES == 0:
        words = np.frombuffer(joined, np.int64)
        found = gather_columns(words, sizes, LAYOUT_VERSION, settings.rules)
        if found.bad < 0:
            return Histories(**{name: getattr(found, name) for name in _COLUMNS})
    # Says what is wrong.
    join_settled(settled, join_recent(recent))
    msg = "the stored values of a profile do not add up; rebuild the state from the log"
    raise CorruptState(msg)


def join_histories(
    found: Histories, counts: Sequence[int], sessions: Sequence[Session | None], rules: Rules
) -> Histories:
    """The histories of people, who may have several ids, and of sessions.

    Joining is what folding into one profile would have made: of one event_id the greatest content,
    of all of them the latest that the cap allows.

    Args:
        found: the history of each id, those of one person one after the other.
        counts: how many ids each person has; 0: a session, or nobody.
        sessions: what is their history where they have none stored.
        rules: types and limits.
    """
    parts: list[dict[str, npt.NDArray[Any]]] = []
    headers = np.full((len(counts), 4), -1, np.int64)
    first = 0
    for b, (count, session) in enumerate(zip(counts, sessions, strict=True)):
        own = slice(found.indptr[first], found.indptr[first + count])
        part = {name: getattr(found, name)[own] for name in _RECORD_COLUMNS}
        if session is not None:
            part = {name: getattr(session, name) for name in _SESSION_COLUMNS}
            part["event_keys"] = np.zeros(len(session.types), np.uint64)
        elif count > 1:
            part = _latest(part, rules)
        parts.append(part)
        known = found.headers[first : first + count]
        if count:
            headers[b] = known[np.argmax(known[:, UPDATED_AT])]
        first += count
    columns = {
        name: np.concatenate([getattr(found, name)[:0], *(part[name] for part in parts)])
        for name in _RECORD_COLUMNS
    }
    indptr = np.cumsum([0, *(len(part["types"]) for part in parts)], dtype=np.int64)
    joined = Histories(**columns, indptr=indptr, headers=headers)
    freeze(getattr(joined, name) for name in _COLUMNS)
    return joined


def _latest(part: dict[str, npt.NDArray[Any]], rules: Rules) -> dict[str, npt.NDArray[Any]]:
    """The latest interactions of several histories, each event_id once, in order."""
    bits = part["weights"].view(np.uint32)
    order = np.lexsort((bits, part["types"], part["exts"], *(part[n] for n in _ORDER[::-1])))
    sides = rules.classes[part["types"]] & STORED
    kept: list[int] = []
    met: set[tuple[int, int]] = set()
    for t in order[::-1].tolist():
        # Of one interaction the greatest version comes first here.
        name = int(part["event_keys"][t]), int(sides[t])
        if name not in met and len(kept) < rules.limits[HISTORY_CAP]:
            met.add(name)
            kept.append(t)
    return {name: column[kept[::-1]] for name, column in part.items()}


def read_profile(settings: FoldSettings, recent: Buffer, settled: Buffer) -> Profile:
    """One user's profile from its stored values; b"" where there is none.

    Raises:
        CorruptState: a value is not what its layout says.
    """
    records, _ = _gather(settings, [recent], [settled])
    header = read_header(recent)
    interactions = (
        Interaction(time, event, target, weight, type_id)
        for time, event, target, weight, type_id, _ in records[::-1].tolist()
    )
    return Profile(
        len(recent) > 0,
        header.watermark_ms if header.watermark_ms >= 0 else None,
        header.updated_at_ms if header.updated_at_ms >= 0 else None,
        tuple(interactions),
    )


def canonical_profile(settings: FoldSettings, recent: Buffer, settled: Buffer) -> bytes:
    """Watermark and history: equal bytes for equal profiles, wherever the records are stored.

    ``updated_at_ms`` is left out: a producer's duplicate is a log record with a time of its own.

    Raises:
        CorruptState: a value is not what its layout says.
    """
    records, _ = _gather(settings, [recent], [settled])
    return struct.pack("<q", read_header(recent).watermark_ms) + records.tobytes()


def _gather(
    settings: FoldSettings, recent: Sequence[Buffer], settled: Sequence[Buffer]
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int64]]:
    heads = join_recent(recent)
    found = gather(heads, join_settled(settled, heads), settings.rules)
    return records_of(found.records), found.indptr
