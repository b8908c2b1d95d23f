"""The cells a stored profile is made of, and how two of them compare.

A cell is a row of four little-endian int64, 32 bytes. A *record* is one interaction:
``[event_time_ms, event_key, target_key, weight bits | type << 32 | ext << 48]``. The value of a
user's recent records starts with a *header*: ``[watermark_ms, updated_at_ms, archive_max_ms,
layout | settled << 16 | archived << 32 | chunks << 48]``, and, where settled records exist, with
their *sieve*: a Bloom filter of 2,048 bits over their event keys, five hashes cut from the key.

An *event* is a record and a fifth word, the broker's timestamp.
"""

from typing import Final

import numpy as np

from rankstream.kernels.arrays import Int64, UInt8
from rankstream.kernels.compilation import compiled

LAYOUT_VERSION: Final = 1
"""The layout that a header names."""

WATERMARK: Final = 0
UPDATED_AT: Final = 1
ARCHIVE_MAX: Final = 2
COUNTS: Final = 3
"""Words of a header."""

SIEVE_CELLS: Final = 8
_SIEVE_MASK: Final = SIEVE_CELLS * 256 - 1
_HASHES: Final = 5

TEXT: Final = 0x8000
"""Bit of a record's ext: its target is a text, not an item."""
MOVED: Final = 0x4000
"""Bit of a record's ext: it was another user's, where it was counted already."""

IN_HISTORY: Final = 1
IN_SEEN: Final = 2
STORED: Final = IN_HISTORY | IN_SEEN
COUNTED: Final = 4
"""What a type belongs to: bits of ``classes``, uint8[65536], by type."""

HISTORY_CAP: Final = 0
SEEN_CAP: Final = 1
RECENT_CAP: Final = 2
BUCKET_MS: Final = 3
"""Words of ``limits``, int64[4]."""


@compiled
def type_of(cell: Int64) -> int:
    """The type of a record or an event."""
    return int((cell[3] >> 32) & 0xFFFF)


@compiled
def ext_of(cell: Int64) -> int:
    """The last 16 bits of a record or an event: ``TEXT``, ``MOVED`` and a position."""
    return int((cell[3] >> 48) & 0xFFFF)


@compiled
def stored_in(cell: Int64, classes: UInt8) -> int:
    """Which of the two sets a record belongs to: a combination of IN_HISTORY and IN_SEEN."""
    return int(classes[type_of(cell)] & STORED)


@compiled
def settled_count(header: Int64) -> int:
    """How many settled records the user has."""
    return int((header[COUNTS] >> 16) & 0xFFFF)


@compiled
def archived_count(header: Int64) -> int:
    """How many records the user's archive holds, versions that have lost included."""
    return int((header[COUNTS] >> 32) & 0xFFFF)


@compiled
def chunk_count(header: Int64) -> int:
    """How many chunks the user's archive has."""
    return int((header[COUNTS] >> 48) & 0xFFFF)


@compiled
def is_less(a: Int64, b: Int64) -> bool:
    """The total order of records: (time, event key, then the rest), each word unsigned."""
    for word in range(4):
        if a[word] != b[word]:
            return bool(np.uint64(a[word]) < np.uint64(b[word]))
    return False


@compiled
def is_same(cell: Int64, key: int, side: int, classes: UInt8) -> bool:
    """Whether a record is a version of the interaction (event key, the sets it belongs to)."""
    return bool(cell[1] == key and stored_in(cell, classes) == side)


@compiled
def copy_cell(source: Int64, target: Int64) -> None:
    """Copies the four words of a cell."""
    for word in range(4):
        target[word] = source[word]


@compiled
def sieve_add(sieve: Int64, key: int) -> None:
    """Adds an event key to the Bloom filter ``[8, 4]``."""
    for i in range(_HASHES):
        bit = (key >> (11 * i)) & _SIEVE_MASK
        sieve[bit >> 8, (bit >> 6) & 3] |= np.int64(1) << (bit & 63)


@compiled
def sieve_has(sieve: Int64, key: int) -> bool:
    """Whether the key may be there: never wrong about a key that is, wrong about 2% of others."""
    for i in range(_HASHES):
        bit = (key >> (11 * i)) & _SIEVE_MASK
        if (sieve[bit >> 8, (bit >> 6) & 3] >> (bit & 63)) & 1 == 0:
            return False
    return True
