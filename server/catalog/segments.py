"""The catalogue on disk: append-only files, two a generation, mapped by every worker.

``rows.f32`` holds the rows (float32, little-endian, ``stride`` apart). ``about.bin`` says whose
they are and what filters test of them, in five parts: the item keys (uint64 a row), where each
row's item_id ends (int64 a row), where its facts end (likewise), the facts (``facts.py``: two
uint64 each, room for ``FACTS_A_ROW`` a row), and the item_ids (UTF-8, one after the other). Five
parts of one file, because each file more is a sync more.

Both are sparse files of their greatest size, given disk in steps, so that a mapping made once stays
valid and the rows are one contiguous matrix however many there are. A row is written, synced and
only then counted by a commit; a counted row is never written again. What lies behind the counted
rows may be anything: the next append writes over it.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

import crc32c
import numpy as np
from numpy.typing import NDArray

from rankstream.server.errors import CorruptState

_STEP_BYTES = 4 << 20
_ROWS, _ABOUT = "rows.f32", "about.bin"
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
    """

    def __init__(self, folder: Path, generation: int, stride: int) -> None:
        place = generation_folder(folder, generation)
        self.stride = stride
        self.rows: NDArray[np.float32] = _map(place / _ROWS).view(np.float32).reshape(-1, stride)
        about, at = _map(place / _ABOUT), _Places(len(self.rows))
        self.keys: NDArray[np.uint64] = about[: at.id_ends].view(np.uint64)
        self.id_ends: NDArray[np.int64] = about[at.id_ends : at.fact_ends].view(np.int64)
        self.fact_ends: NDArray[np.int64] = about[at.fact_ends : at.facts].view(np.int64)
        self.facts: NDArray[np.uint64] = about[at.facts : at.ids].view(np.uint64).reshape(-1, 2)
        self.ids: NDArray[np.uint8] = about[at.ids :]

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
    """

    def __init__(
        self, folder: Path, generation: int, stride: int, max_rows: int, max_id_bytes: int
    ) -> None:
        place = generation_folder(folder, generation)
        place.mkdir(parents=True, exist_ok=True)
        self._rows = _File(place / _ROWS, max_rows * stride * 4)
        # As many as rows.f32 has room for, should it be there already.
        room = self._rows.size // (stride * 4)
        self._at = _Places(room)
        self._about = _File(place / _ABOUT, self._at.ids + room * max_id_bytes)
        _sync_folders(place, folder)
        self.segments = Segments(folder, generation, stride)

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
        self._rows.sync()
        self._about.sync()
        return len(rows), _checksum(matrix, *(data for data, _ in parts))

    def close(self) -> None:
        """Closes the files; the mapping lives as long as its arrays."""
        self._rows.close()
        self._about.close()

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
    """Compares stored rows with the checksum that their commit kept.

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


class _File:
    """A sparse file of a fixed size, given disk in steps before they are written.

    Asked for so, a full disk is an error; met in a mapping, it would be a SIGBUS.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if os.fstat(self._fd).st_size == 0:
            os.ftruncate(self._fd, size)
            os.fsync(self._fd)
        self.size = os.fstat(self._fd).st_size
        self._given: set[int] = set()

    def write(self, data: bytes, at: int) -> None:
        """Writes, and does not wait for the disk."""
        for step in range(at // _STEP_BYTES, -(-(at + len(data)) // _STEP_BYTES)):
            if step not in self._given:
                start = step * _STEP_BYTES
                os.posix_fallocate(self._fd, start, min(_STEP_BYTES, self.size - start))
                self._given.add(step)
        view = memoryview(data)
        while view:
            done = os.pwrite(self._fd, view, at)
            view, at = view[done:], at + done

    def sync(self) -> None:
        """Waits until what was written is on disk."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Ends it."""
        os.close(self._fd)


def generation_folder(folder: Path, generation: int) -> Path:
    """Where one generation's files are."""
    return folder / f"generation-{generation:08d}"


def _map(path: Path) -> NDArray[np.uint8]:
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def _sync_folders(*folders: Path) -> None:
    for folder in folders:
        fd = os.open(folder, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
