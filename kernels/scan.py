"""The exact scan by codes: its working memory, and which way of multiplying it takes."""

from __future__ import annotations

import math
import threading
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rankstream.kernels.arrays import Float32, Int32
from rankstream.kernels.code_ways import NAMES, fastest, supported
from rankstream.kernels.codes import MAX_DIMENSIONS, Codes
from rankstream.kernels.device import split
from rankstream.kernels.errors import refuse
from rankstream.kernels.scan_cpu import Source, scan_parallel, scan_serial
from rankstream.kernels.shortlist import Shortlists
from rankstream.kernels.terms import Terms

ROOM: Final = 1024
"""A shortlist's room beside four rows a result: more than the bound lets through."""

COARSE_ROOM: Final = 8
"""How many times as long a shortlist by coarse codes may be."""

COARSE_BYTES: Final = 32 << 20
"""A fine layer of fewer may lie in a cache, where a quarter less to read is no gain."""

_way: int | None = None
_memory = threading.local()


def use_way(name: str) -> None:
    """Sets how codes are multiplied: "auto", or a name of ``code_ways.NAMES``.

    Raises:
        KernelArgumentError: there is no such way, or the processor has not what it needs.
    """
    global _way
    if name == "auto":
        _way = None
        return
    way = next((number for number, known in NAMES.items() if known == name), None)
    if way is None or not supported(way):
        here = ", ".join(known for number, known in NAMES.items() if supported(number))
        refuse("name", f"is {name!r}", f"auto, or one of what this processor has: {here}")
    _way = way


def way_in_use() -> str:
    """The name of how codes are multiplied."""
    return NAMES[fastest() if _way is None else _way]


def worth(codes: Codes, k: int) -> bool:
    """Whether there are more rows than may become candidates, of few enough dimensions."""
    return codes.row_count > room_for(k) and codes.offsets[-1] <= MAX_DIMENSIONS


def reads_coarse(codes: Codes, batch: int) -> bool:
    """Whether so many queries read the coarse layer first."""
    return batch == 1 and codes.row_count * 4 * int(codes.steps[-1]) >= COARSE_BYTES


def room_for(k: int) -> int:
    """Rows that there is room for on the shortlist of one query and part."""
    return 4 * k + ROOM


def scan(
    k: int, queries: Float32, items: Float32, terms: Terms, codes: Codes
) -> tuple[Int32, Float32, Int32, int]:
    """The k best rows of each query, as ``top_k`` answers them.

    One query waits for memory, so it reads the coarse layer first, of many rows.

    Args:
        k: at least 1, at most N.
        queries: ``[B, D]``, finite, read-only.
        items: ``[N, D]``, read-only.
        terms: what may be answered.
        codes: of ``items`` or its first rows.

    Returns:
        Rows, scores and counts; a count of -1 says that a query has to be answered otherwise. And
        of how many queries that is so.

    Raises:
        KernelArgumentError: the bias of a row that may be answered is not finite.
    """
    if reads_coarse(codes, len(queries)):
        best = _scan(k, queries, items, terms, codes, True)
        if not best[3]:
            return best
    return _scan(k, queries, items, terms, codes, False)


def _scan(
    k: int, queries: Float32, items: Float32, terms: Terms, codes: Codes, packed: bool
) -> tuple[Int32, Float32, Int32, int]:
    """By one of the layers.

    Little is done here: a scan empties the caches, so each step of Python waits for memory.
    """
    batch = queries.shape[0]
    answer = np.empty((batch, k), np.int32), np.empty((batch, k), np.float32)
    counts = np.empty(batch, np.int32)
    parts = split(batch * items.size)
    found = _shortlists(parts, batch, room_for(k) * (COARSE_ROOM if packed else 1))
    run = scan_serial if parts == 1 else scan_parallel
    way = fastest() if _way is None else _way
    layer = codes.coarse if packed else codes.fine
    source = Source(*layer, codes.steps, codes.row_count, way, int(packed))
    row, widened = run(source, queries, codes.offsets, items, terms, found, *answer, counts)
    if row >= 0:
        refuse("bias", f"is {terms.bias[row]} at row {row}", "finite numbers")
    return *answer, counts, widened


def _shortlists(parts: int, batch: int, room: int) -> Shortlists:
    """Whatever they hold, in memory that this thread keeps."""
    shape = parts, batch, room
    kept: Shortlists | None = getattr(_memory, "shortlists", None)
    if kept is None or kept.rows.shape != shape:
        kept = Shortlists(
            _kept("rows", np.int32, shape),
            _kept("lower", np.float32, shape),
            _kept("upper", np.float32, shape),
            np.empty((parts, batch), np.int64),
            np.empty((parts, batch), np.int64),
            np.empty((parts, batch), np.float32),
            np.empty((parts, batch), np.float32),
        )
        _memory.shortlists = kept
    return kept


def _kept(name: str, kind: Any, shape: tuple[int, int, int]) -> npt.NDArray[Any]:
    count = math.prod(shape)
    have: npt.NDArray[Any] | None = getattr(_memory, name, None)
    if have is None or len(have) < count:
        have = np.empty(count, kind)
        setattr(_memory, name, have)
    return have[:count].reshape(shape)
