"""The catalogue on disk: append-only files, three a generation, mapped by every worker.

``rows.f32`` holds the rows (float32, little-endian, ``stride`` apart). ``about.bin`` says whose
they are and what filters test of them, in five parts: the item keys (uint64 a row), where each
row's item_id ends (int64 a row), where its facts end (likewise), the facts (``facts.py``: two
uint64 each, room for ``FACTS_A_ROW`` a row), and the item_ids (UTF-8, one after the other). Five
parts of one file, because each file more is a sync more. ``codes.bin`` has what the scan reads of
the rows (``code_file.py``).

All are sparse files of their greatest size, given disk in steps, so that a mapping made once stays
valid and the rows are one contiguous matrix however many there are. A row is written, synced and
only then counted by a commit; a counted row is never written again. What lies behind the counted
rows may be anything: the next append writes over it.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import crc32c
import numpy as np
from numpy.typing import NDArray

from rankstream.kernels.arrays import frozen
from rankstream.server.catalog.code_file import (
    CodePlaces,
    CodeWriter,
    are_codes_of,
    check_size,
    map_codes,
)
from rankstream.server.catalog.files import SparseFile, map_file, sync_folders
from rankstream.server.errors import CorruptState

_ROWS, _ABOUT, _CODES = "rows.f32", "about.bin", "codes.bin"
FACTS_A_ROW = 256
"""How many facts there is room for, on average. Part of the files' layout."""
_FACT_BYTES = 16


class Segments:
    """One generation's files, mapped read-only; ``SegmentWriter`` adds to them.

    Attributes:
        rows: ``float32 [max_rows, stride]``; only the first ``Head.rows`` mean something.
        keys: ``uint64 [max_rows]``.
        id_ends: ``int64 [max_rows]``: row r's item_id is ``ids[id_ends[r - 1] : id_ends[r]]``, that
            of row 0 begins at 0.
        ids: ``uint8 [bytes]``, UTF-8.
        fact_ends: ``int64 [max_rows]``: row r's facts are ``facts[fact_ends[r - 1] :
            fact_ends[r]]``, those of row 0 begin at 0.
        facts: ``uint64 [FACTS_A_ROW * max_rows, 2]``: column and value.
        codes: of all rows.
    """

    def __init__(
        self, folder: Path, generation: int, stride: int, offsets: NDArray[np.int64] | None = None
    ) -> None:
        place = generation_folder(folder, generation)
        self.stride = stride
        self.rows: NDArray[np.float32] = (
            map_file(place / _ROWS).view(np.float32).reshape(-1, stride)
        )
        about, at = map_file(place / _ABOUT), _Places(len(self.rows))
        self.keys: NDArray[np.uint64] = about[: at.id_ends].view(np.uint64)
        self.id_ends: NDArray[np.int64] = about[at.id_ends : at.fact_ends].view(np.int64)
        self.fact_ends: NDArray[np.int64] = about[at.fact_ends : at.facts].view(np.int64)
        self.facts: NDArray[np.uint64] = about[at.facts : at.ids].view(np.uint64).reshape(-1, 2)
        self.ids: NDArray[np.uint8] = about[at.ids :]
        self.codes = map_codes(place / _CODES, len(self.rows), _blocks(offsets, stride))

    @property
    def capacity(self) -> int:
        """Rows that fit."""
        return len(self.keys)

    def ids_end(self, rows: int) -> int:
        """Where the item_ids of the first ``rows`` rows end."""
        return int(self.id_ends[rows - 1]) if rows else 0

    def facts_end(self, rows: int) -> int:
        """Where the facts of the first ``rows`` rows end."""
        return int(self.fact_ends[rows - 1]) if rows else 0

    def facts_of(self, row: int) -> NDArray[np.uint64]:
        """One row's facts, ``uint64 [n, 2]``."""
        return self.facts[self.facts_end(row) : self.facts_end(row + 1)]


class _Places:
    """Where the parts of ``about.bin`` begin; the first, the keys, at 0."""

    def __init__(self, rows: int) -> None:
        self.id_ends = 8 * rows
        self.fact_ends = 16 * rows
        self.facts = 24 * rows
        self.ids = (24 + FACTS_A_ROW * _FACT_BYTES) * rows


class SegmentWriter:
    """Appends to one generation. One process, one thread.

    Args:
        folder: of all generations.
        generation: which one.
        stride: floats of a row.
        max_rows: rows to make room for, where the generation is new.
        max_id_bytes: bytes of an item_id to make room for, where it is new.
        offsets: the blocks of a row, ``int64 [n_blocks + 1]``; None: it is one.
    """

    def __init__(
        self,
        folder: Path,
        generation: int,
        stride: int,
        max_rows: int,
        max_id_bytes: int,
        offsets: NDArray[np.int64] | None = None,
    ) -> None:
        place = generation_folder(folder, generation)
        place.mkdir(parents=True, exist_ok=True)
        known = (place / _ABOUT).exists()
        self._rows = SparseFile(place / _ROWS, max_rows * stride * 4)
        # As many as rows.f32 has room for, should it be there already.
        room = self._rows.size // (stride * 4)
        self._at = _Places(room)
        blocks = _blocks(offsets, stride)
        if known:
            # Made anew it would say of every row that it is zero.
            check_size(place / _CODES, CodePlaces(room, blocks).size)
        self._codes = CodeWriter(place / _CODES, room, blocks)
        # The last to be made: where it is, the others are.
        self._about = SparseFile(place / _ABOUT, self._at.ids + room * max_id_bytes)
        sync_folders(place, folder)
        self.segments = Segments(folder, generation, stride, offsets)

    def append(
        self,
        first: int,
        rows: NDArray[np.float32],
        keys: NDArray[np.uint64],
        ids: Sequence[str],
        facts: Sequence[NDArray[np.uint64]],
    ) -> tuple[int, int]:
        """Writes rows ``first, first + 1, ...`` and waits until they are on disk.

        Args:
            first: the number of rows already committed.
            rows: ``float32 [n, stride]``, finite.
            keys: ``uint64 [n]``.
            ids: the n item_ids.
            facts: of each row, ``uint64 [f, 2]``.

        Returns:
            ``(n, crc32c)`` for the commit.

        Raises:
            OSError: the disk is full, or the generation.
        """
        names = [name.encode() for name in ids]
        begin, begin_facts = self.segments.ids_end(first), self.segments.facts_end(first)
        ends = begin + np.cumsum([len(name) for name in names], dtype=np.int64)
        fact_ends = begin_facts + np.cumsum([len(f) for f in facts], dtype=np.int64)
        self._check_room(
            first + len(rows), begin + sum(map(len, names)), begin_facts + sum(map(len, facts))
        )
        at = self._at
        parts = (
            (keys.tobytes(), 8 * first),
            (ends.tobytes(), at.id_ends + 8 * first),
            (fact_ends.tobytes(), at.fact_ends + 8 * first),
            (b"".join(f.tobytes() for f in facts), at.facts + _FACT_BYTES * begin_facts),
            (b"".join(names), at.ids + begin),
        )
        matrix = rows.tobytes()
        self._rows.write(matrix, first * rows.itemsize * self.segments.stride)
        for data, place in parts:
            self._about.write(data, place)
        self._codes.write(self.segments.codes, first, rows)
        for file in (self._rows, self._about, self._codes):
            file.sync()
        return len(rows), _checksum(matrix, *(data for data, _ in parts))

    def close(self) -> None:
        """Closes the files; the mapping lives as long as its arrays."""
        self._rows.close()
        self._about.close()
        self._codes.close()

    def _check_room(self, rows: int, id_bytes: int, facts: int) -> None:
        if rows > self.segments.capacity:
            msg = (
                f"{rows} rows do not fit into a generation of {self.segments.capacity}: "
                "start with a larger --max-rows and an empty data folder"
            )
            raise OSError(errno.ENOSPC, msg)
        if id_bytes > len(self.segments.ids):
            msg = (
                f"item_ids of {id_bytes} bytes do not fit into a generation with room for "
                f"{len(self.segments.ids)}: start with a larger --max-id-bytes or --max-rows and "
                "an empty data folder"
            )
            raise OSError(errno.ENOSPC, msg)
        if facts > len(self.segments.facts):
            msg = (
                f"{facts} facts do not fit into a generation with room for "
                f"{len(self.segments.facts)}: start with a larger --max-rows and an empty data "
                "folder"
            )
            raise OSError(errno.ENOSPC, msg)


def check_rows(segments: Segments, first: int, count: int, checksum: int) -> None:
    """Compares stored rows with the checksum that their commit kept, and their codes with them.

    Raises:
        CorruptState: they differ.
    """
    upto = first + count
    fits = upto <= segments.capacity
    if fits:
        by_row = (segments.rows, segments.keys, segments.id_ends, segments.fact_ends)
        facts = segments.facts[segments.facts_end(first) : segments.facts_end(upto)]
        ids = segments.ids[segments.ids_end(first) : segments.ids_end(upto)]
        arrays = (*(a[first:upto] for a in by_row), facts, ids)
        fits = _checksum(*(a.reshape(-1).view(np.uint8).data for a in arrays)) == checksum
        fits = fits and are_codes_of(segments.codes, segments.rows[first:upto], first)
    if not fits:
        msg = (
            f"rows {first} to {upto - 1} of the catalogue differ from their checksum: "
            "start with an empty data folder; the log is replayed"
        )
        raise CorruptState(msg)


def _checksum(*parts: bytes | memoryview) -> int:
    value = 0
    for part in parts:
        value = crc32c.crc32c(part, value)
    return value


def _blocks(offsets: NDArray[np.int64] | None, stride: int) -> NDArray[np.int64]:
    return frozen(np.array([0, stride]) if offsets is None else offsets.copy())


def generation_folder(folder: Path, generation: int) -> Path:
    """Where one generation's files are."""
    return folder / f"generation-{generation:08d}"
