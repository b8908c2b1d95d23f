"""The codes of a generation's rows on disk: what the scan of the whole catalogue reads.

``codes.bin`` has the arrays of ``kernels/codes.py`` one behind the other, with room for all rows of
the generation: codes, scales, errors, norms. They are made of the rows, and written and synced with
them. A tile is 64 rows, so an append may write again what lies beside rows that are read: the same
bytes, but for the tile's norm, which only grows and is then still a bound.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels.code_tiles import TILE
from rankstream.kernels.codes import Codes, empty_codes, steps_of, write_codes
from rankstream.server.catalog.files import SparseFile, map_file


class CodeWriter:
    """Writes the codes of one generation.

    Args:
        path: the file.
        capacity: rows to make room for.
        offsets: the blocks of a row.
    """

    def __init__(self, path: Path, capacity: int, offsets: NDArray[np.int64]) -> None:
        self._places = _Places(capacity, offsets)
        self._offsets = offsets
        self._file = SparseFile(path, self._places.size)

    def write(self, mapped: Codes, first: int, rows: NDArray[np.float32]) -> None:
        """Codes rows from number ``first`` on.

        Args:
            mapped: the file.
            first: the number of the first.
            rows: ``float32 [n, stride]``, finite.
        """
        tile, behind = first // TILE, first % TILE
        made = empty_codes(behind + len(rows), self._offsets)
        parts: list[tuple[NDArray[Any], NDArray[Any], tuple[int, int]]]
        parts = list(zip(_arrays(made), _arrays(mapped), self._places.parts, strict=True))
        if behind:
            for new, old, (_, a_tile) in parts:
                items = a_tile // new.itemsize
                new[:items] = old[tile * items : (tile + 1) * items]
        write_codes(made, np.ascontiguousarray(rows), behind)
        for new, _, (start, a_tile) in parts:
            self._file.write(new.tobytes(), start + tile * a_tile)

    def sync(self) -> None:
        """Waits until what was written is on disk."""
        self._file.sync()

    def close(self) -> None:
        """Ends it."""
        self._file.close()


def map_codes(path: Path, capacity: int, offsets: NDArray[np.int64]) -> Codes:
    """The codes of all rows that there is room for, read-only."""
    data, places = map_file(path), _Places(capacity, offsets)
    starts = [start for start, _ in places.parts]
    codes, *floats = (
        data[start:stop] for start, stop in zip(starts, [*starts[1:], places.size], strict=True)
    )
    scales, errors, norms = (part.view(np.float32) for part in floats)
    return Codes(codes, scales, errors, norms, offsets, capacity)


def _arrays(codes: Codes) -> tuple[NDArray[Any], ...]:
    return codes.codes, codes.scales, codes.errors, codes.norms


class _Places:
    """Where the four arrays begin, and the bytes that each has of a tile."""

    def __init__(self, capacity: int, offsets: NDArray[np.int64]) -> None:
        tiles, blocks = -(-capacity // TILE), len(offsets) - 1
        sizes = (4 * TILE * int(steps_of(offsets)[-1]), 4 * TILE * blocks, 4 * TILE * blocks)
        self.parts, self.size = [], 0
        for a_tile in (*sizes, 4 * blocks):
            self.parts.append((self.size, a_tile))
            self.size += tiles * a_tile
