"""The codes of a generation's rows on disk: what the scan of the whole catalogue reads.

``codes.bin`` has the arrays of ``kernels/code_layers.py`` one behind the other, with room for all
rows of the generation: codes, scales, errors, tops, of the fine layer, then of the coarse. They are
made of the rows, and written and synced with them. A tile is 64 rows, so an append may write again
what lies beside rows that are read: the same bytes, but for the tile's tops, which only grow and
are then still bounds (four bytes that lie aligned are written at once). What was appended last is
compared with its rows at a start.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels.code_layers import TILE, Layer
from rankstream.kernels.codes import Codes, empty_codes, steps_of, tile_bytes, write_codes
from rankstream.server.catalog.files import SparseFile, map_file
from rankstream.server.errors import CorruptState


class CodeWriter:
    """Writes the codes of one generation.

    Args:
        path: the file; made where it is missing.
        capacity: rows to make room for.
        offsets: the blocks of a row.
    """

    def __init__(self, path: Path, capacity: int, offsets: NDArray[np.int64]) -> None:
        self._places = CodePlaces(capacity, offsets)
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
        parts = list(zip(made.arrays, mapped.arrays, self._places.parts, strict=True))
        if behind:
            for new, old, (_, a_tile) in parts:
                items = a_tile // new.itemsize
                new[:items] = old[tile * items : (tile + 1) * items]
        if write_codes(made, np.ascontiguousarray(rows), behind) >= 0:
            msg = "a row is not finite"
            raise ValueError(msg)
        for new, _, (start, a_tile) in parts:
            self._file.write(new.tobytes(), start + tile * a_tile)

    def sync(self) -> None:
        """Waits until what was written is on disk."""
        self._file.sync()

    def close(self) -> None:
        """Ends it."""
        self._file.close()


def map_codes(path: Path, capacity: int, offsets: NDArray[np.int64]) -> Codes:
    """The codes of all rows that there is room for, read-only.

    Raises:
        CorruptState: the file has another size.
    """
    places = CodePlaces(capacity, offsets)
    check_size(path, places.size)
    data = map_file(path)
    parts = [data[start : start + places.tiles * a_tile] for start, a_tile in places.parts]
    fine, coarse = (
        Layer(codes, *(part.view(np.float32) for part in floats))
        for codes, *floats in (parts[:4], parts[4:])
    )
    return Codes(fine, coarse, offsets, steps_of(offsets), capacity)


def check_size(path: Path, size: int) -> None:
    """Refuses a file that is missing, or not as large as it was made.

    Raises:
        CorruptState: it is so.
    """
    found = path.stat().st_size if path.exists() else 0
    if found != size:
        msg = (
            f"{path} has {found} bytes, expected {size}: start with an empty data folder; "
            "the log is replayed"
        )
        raise CorruptState(msg)


def are_codes_of(codes: Codes, rows: NDArray[np.float32], first: int) -> bool:
    """Whether the codes from row ``first`` on are those of these rows."""
    behind, tile = first % TILE, first // TILE
    made = empty_codes(behind + len(rows), codes.offsets)
    if write_codes(made, np.ascontiguousarray(rows), behind) >= 0:
        return False
    tiles, blocks = -(-made.row_count // TILE), len(codes.offsets) - 1
    for wanted_layer, layer in zip(
        (made.fine, made.coarse), (codes.fine, codes.coarse), strict=True
    ):
        parts: list[tuple[NDArray[Any], NDArray[Any]]]
        parts = list(zip(wanted_layer[:3], layer[:3], strict=True))
        for wanted_part, part in parts:
            size = len(wanted_part) // tiles
            some = part[tile * size : (tile + tiles) * size]
            wanted, found = (_by_row(a, tiles, blocks)[behind:] for a in (wanted_part, some))
            if not np.array_equal(wanted[: len(rows)], found[: len(rows)]):
                return False
        tops = layer.tops[tile * blocks : (tile + tiles) * blocks]
        if not (tops >= wanted_layer.tops).all():
            return False
    return True


def _by_row(part: NDArray[Any], tiles: int, blocks: int) -> NDArray[Any]:
    """``[rows, .]`` of what lies in tiles."""
    if part.dtype == np.uint8:
        return part.reshape(tiles, -1, TILE, 4).transpose(0, 2, 1, 3).reshape(tiles * TILE, -1)
    return part.reshape(tiles, blocks, TILE).transpose(0, 2, 1).reshape(tiles * TILE, blocks)


class CodePlaces:
    """Where the arrays of both layers begin, and the bytes that each has of a tile."""

    def __init__(self, capacity: int, offsets: NDArray[np.int64]) -> None:
        self.tiles = -(-capacity // TILE)
        self.parts, self.size = [], 0
        for of_layer in tile_bytes(offsets):
            for a_tile, _ in of_layer:
                self.parts.append((self.size, a_tile))
                # Whole cache lines, or every register of what follows would be read from two.
                self.size += -(-self.tiles * a_tile // 64) * 64
