"""Readers of what the state holds: of damaged bytes they make a value or ``CorruptState``."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np

from rankstream.kernels.cells import SIEVE_CELLS
from rankstream.server.item_record import ItemRecord
from rankstream.server.profiles.history import gather_histories
from rankstream.server.profiles.interaction import record_bytes
from rankstream.server.profiles.layout import CELL_BYTES, HEADER, LAYOUT_VERSION, read_header
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.profiles.texts import StoredText, read_extras
from rankstream.server.profiles.users import UserRecord, owner_of
from rankstream.server.store import View

_FOLD = FoldSettings()
_DIMENSIONS = 4
_SETTLED = 2
_SETTLED_BYTES = _SETTLED * CELL_BYTES


@dataclass(frozen=True, slots=True)
class OneValue:
    """A transaction's view that holds the same value wherever one looks."""

    value: bytes

    def get(self, _database: str, _key: bytes) -> memoryview:
        """The value."""
        return memoryview(self.value)

    def get_many(self, _database: str, keys: Iterable[bytes]) -> list[bytes]:
        """The value for each of the keys."""
        return [self.value for _ in keys]


@dataclass(frozen=True, slots=True)
class Beside:
    """As ``OneValue``, but for one database, which holds what is whole."""

    value: bytes
    database: str
    whole: bytes

    def get(self, database: str, _key: bytes) -> memoryview:
        """The value, or what is whole."""
        return memoryview(self.whole if database == self.database else self.value)


def read_profiles(value: bytes) -> None:
    """Reads a recent value and, where it says that there are any, the settled one behind it."""
    settled = len(value) - _SETTLED_BYTES if read_header(value).settled else len(value)
    gather_histories(_FOLD, [value[:settled]], [value[settled:]])


def _recent(count: int, settled: int = 0) -> bytes:
    header = np.array([(-1, 1_000, -1, LAYOUT_VERSION, settled, 0, 0)], HEADER).tobytes()
    records = [record_bytes(1_000 + n, n + 1, n + 2, 1.0, 2) for n in range(count + settled)]
    sieve = b"\xff" * SIEVE_CELLS * CELL_BYTES if settled else b""
    return header + sieve + b"".join(records[settled:] + records[:settled])


def _read_claims(value: bytes) -> None:
    owner_of(cast("View", OneValue(value)), b"somebody")


def _read_extras(database: str, whole: bytes, value: bytes) -> None:
    view = cast("View", Beside(value, database, whole))
    read_extras(view, [1], (), _DIMENSIONS, _DIMENSIONS)


_TEXT, _VECTOR = StoredText(3, "blue shoes").pack(), bytes(4 * _DIMENSIONS)

STORED: dict[str, tuple[Sequence[bytes], Callable[[bytes], object]]] = {
    "items": ([ItemRecord(1, bytes(16), 2, "an item", b"payload").pack()], ItemRecord.unpack),
    "users": ([UserRecord(1, (5, 6), (b"a", b"guest"), b"payload").pack()], UserRecord.unpack),
    "texts": ([_TEXT, StoredText(1, "").pack()], StoredText.unpack),
    "texts with a vector": ([_TEXT], partial(_read_extras, "vectors", _VECTOR)),
    "texts' vectors": ([_VECTOR], partial(_read_extras, "texts", _TEXT)),
    "claims": ([struct.pack("<qH", 7, 4) + b"user"], _read_claims),
    "profiles": ([_recent(0), _recent(3), _recent(2, _SETTLED)], read_profiles),
}
"""Valid values and their reader, by what they are."""
