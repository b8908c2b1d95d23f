"""How a profile is stored, version 1: three kinds of values, in units of 32 bytes.

- recent, one a user: a header; where there are settled records, their Bloom filter, 256 bytes;
  then at most ``recent_cap`` records, sorted.
- settled, one a user: at most ``history_cap`` records, sorted. No bytes: no value.
- archive, several chunks a user, numbered from 0: at most 127 records each, in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rankstream.kernels.cells import LAYOUT_VERSION as LAYOUT_VERSION
from rankstream.kernels.cells import SIEVE_CELLS
from rankstream.kernels.history import Ragged
from rankstream.kernels.settle import CHUNK_RECORDS as CHUNK_RECORDS
from rankstream.server.errors import CorruptState
from rankstream.server.profiles.interaction import RECORD

CELL_BYTES = 32
HEADER = np.dtype(
    [
        ("watermark_ms", "<i8"),
        ("updated_at_ms", "<i8"),
        ("archive_max_ms", "<i8"),
        ("layout", "<u2"),
        ("settled", "<u2"),
        ("archived", "<u2"),
        ("chunks", "<u2"),
    ]
)
"""The first 32 bytes of a recent value. Times are -1 where there is none; event times are not
negative, so a watermark of -1 drops nothing. ``settled`` counts records, ``archived`` the archive's
records and ``chunks`` its chunks."""

Buffer: TypeAlias = bytes | bytearray | memoryview
Cells: TypeAlias = npt.NDArray[np.int64]
Headers: TypeAlias = npt.NDArray[np.void]

EMPTY_HEADER = np.array([(-1, -1, -1, LAYOUT_VERSION, 0, 0, 0)], HEADER)[0]


@dataclass(frozen=True, slots=True)
class Header:
    """The header of one user, as numbers."""

    watermark_ms: int
    updated_at_ms: int
    archive_max_ms: int
    layout: int
    settled: int
    archived: int
    chunks: int


def read_header(recent: Buffer) -> Header:
    """The header of a recent value; b"" is an unknown user's.

    Raises:
        CorruptState: the value is not one.
    """
    cells = join_recent([recent]).cells
    return Header(*(headers_of(cells[:1])[0].item() if len(cells) else EMPTY_HEADER.item()))


def join_recent(values: Sequence[Buffer]) -> Ragged:
    """Recent values as one array.

    Raises:
        CorruptState: one is not such a value.
    """
    joined = join(values)
    starts, known = joined.offsets[:-1], np.diff(joined.offsets) > 0
    headers = headers_of(joined.cells[starts[known]])
    least = 1 + SIEVE_CELLS * (headers["settled"] > 0)
    wrong = (headers["layout"] != LAYOUT_VERSION) | (np.diff(joined.offsets)[known] < least)
    if wrong.any():
        at = int(np.flatnonzero(known)[np.argmax(wrong)])
        message = (
            f"recent value {at} of {len(values)}: {len(values[at])} bytes, layout "
            f"{headers['layout'][np.argmax(wrong)]}; expected layout {LAYOUT_VERSION} and its "
            "header; restore a snapshot, or rebuild the state from the log"
        )
        raise CorruptState(message)
    return joined


def join_settled(values: Sequence[Buffer], recent: Ragged) -> Ragged:
    """Settled values of the users of ``recent``, as one array.

    Raises:
        CorruptState: one has not as many records as its header says.
    """
    joined = join(values)
    expected = counts_in(recent, "settled")
    wrong = np.diff(joined.offsets) != expected
    if wrong.any():
        _refuse("settled value", int(np.argmax(wrong)), np.diff(joined.offsets), expected)
    return joined


def join_archives(
    values: Sequence[Sequence[Buffer]],
    recent: Ragged,
    wanted: npt.NDArray[np.bool_] | bool = True,
) -> Ragged:
    """All chunks of each user of ``recent``, or of those ``wanted``, as one array.

    Raises:
        CorruptState: a user's have not as many records as its header says.
    """
    joined = join([chunk for chunks in values for chunk in chunks])
    ends = np.cumsum([0, *(len(chunks) for chunks in values)])
    whole = Ragged(joined.cells, joined.offsets[ends])
    expected = np.where(wanted, counts_in(recent, "archived"), 0)
    wrong = np.diff(whole.offsets) != expected
    if wrong.any():
        _refuse("archive", int(np.argmax(wrong)), np.diff(whole.offsets), expected)
    return whole


def join(values: Sequence[Buffer]) -> Ragged:
    """Values as one read-only array of cells, copied; value u is ``offsets[u]:offsets[u + 1]``.

    Raises:
        CorruptState: one's length is no multiple of a cell's.
    """
    sizes = np.fromiter(map(len, values), np.int64, len(values))
    if (sizes % CELL_BYTES).any():
        at = int(np.argmax(sizes % CELL_BYTES != 0))
        message = (
            f"stored value {at} of {len(values)} has {sizes[at]} bytes; expected a multiple of "
            f"{CELL_BYTES}; restore a snapshot, or rebuild the state from the log"
        )
        raise CorruptState(message)
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum(sizes // CELL_BYTES, out=offsets[1:])
    return Ragged(np.frombuffer(b"".join(values), np.int64).reshape(-1, 4), offsets)


def pick(cells: Cells, starts: Cells, stops: Cells) -> list[memoryview]:
    """The bytes of ``cells[starts[i]:stops[i]]``, for each i; they share the array's memory."""
    raw = bytes_of(np.ascontiguousarray(cells))
    begins, ends = (starts * CELL_BYTES).tolist(), (stops * CELL_BYTES).tolist()
    return [raw[begin:end] for begin, end in zip(begins, ends, strict=True)]


def bytes_of(cells: Cells) -> memoryview:
    """The bytes of contiguous cells; they share the array's memory."""
    return cells.reshape(-1).view(np.uint8).data


def counts_in(recent: Ragged, field: str) -> Cells:
    """One count of every user's header; 0 for an unknown user."""
    known = np.diff(recent.offsets) > 0
    counts = np.zeros(known.size, np.int64)
    counts[known] = headers_of(recent.cells[recent.offsets[:-1][known]])[field]
    return counts


def rows_of(recent: Cells) -> Cells:
    """The records among one user's recent cells."""
    if len(recent) == 0:
        return recent
    return recent[1 + SIEVE_CELLS * int(headers_of(recent[:1])["settled"][0] > 0) :]


def take(ragged: Ragged, users: npt.NDArray[np.int64]) -> Ragged:
    """The cells of some of the users, in that order."""
    starts, stops = ragged.offsets[users], ragged.offsets[users + 1]
    return gathered(ragged.cells, starts, stops)


def gathered(cells: Cells, starts: Cells, stops: Cells) -> Ragged:
    """``cells[starts[i]:stops[i]]`` for each i, one after the other, read-only."""
    return join(pick(cells, starts, stops))


def headers_of(cells: Cells) -> Headers:
    """Header cells int64[n, 4] as HEADER[n], the same memory where the cells are contiguous."""
    return np.ascontiguousarray(cells).view(HEADER).reshape(-1)


def records_of(cells: Cells) -> npt.NDArray[np.void]:
    """Record cells int64[n, 4] as RECORD[n]."""
    return np.ascontiguousarray(cells).view(RECORD).reshape(-1)


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A read-only view: to a kernel, a writable array is another type, to be compiled for."""
    view = array.view()
    view.flags.writeable = False
    return view


def _refuse(what: str, at: int, found: Cells, expected: Cells) -> None:
    message = (
        f"{what} of user {at} of {len(expected)} has {found[at]} records; its header says "
        f"{expected[at]}; restore a snapshot, or rebuild the state from the log"
    )
    raise CorruptState(message)
