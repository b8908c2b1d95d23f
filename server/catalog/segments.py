"""The catalogue on disk: append-only files, two a generation, mapped by every worker.

``rows.f32`` holds the rows (float32, little-endian, ``stride`` apart). ``names.bin`` says whose
they are, in three parts: the item keys (uint64 a row), where each row's item_id ends (int64 a row),
and the item_ids themselves (UTF-8, one after the other). Three parts of one file, because each
file more is a sync more.

Both are sparse files of their greatest size, given disk in steps, so that a mapping made once stays
valid and the rows are one contiguous matrix however many there are. A row is written, synced and
only then counted by a commit; a counted row is never written again. What lies behind the counted
rows may be anything: the next append writes over it.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path

import crc32c
import numpy as np
from numpy.typing import NDArray

from rankstream.server.errors import CorruptState, StateRefused

_STEP_BYTES = 4 << 20
_ROWS, _NAMES = "rows.f32", "names.bin"


class Segments:
    """One generation's files, mapped read-only; ``SegmentWriter`` adds to them.

    Attributes:
        rows: ``float32 [max_rows, stride]``; only the first ``Head.rows`` mean something.
        keys: ``uint64 [max_rows]``.
        id_ends: ``int64 [max_rows]``: row r's item_id is ``ids[id_ends[r - 1] : id_ends[r]]``, that
            of row 0 begins at 0.
        ids: ``uint8 [bytes]``, UTF-8.
    """

    def __init__(self, folder: Path, generation: int, stride: int) -> None:
        place = generation_folder(folder, generation)
        self.stride = stride
        self.rows: NDArray[np.float32] = _map(place / _ROWS).view(np.float32).reshape(-1, stride)
        names, room = _map(place / _NAMES), 8 * len(self.rows)
        self.keys: NDArray[np.uint64] = names[:room].view(np.uint64)
        self.id_ends: NDArray[np.int64] = names[room : 2 * room].view(np.int64)
        self.ids: NDArray[np.uint8] = names[2 * room :]

    @property
    def capacity(self) -> int:
        """Rows that fit."""
        return len(self.keys)

    def ids_end(self, rows: int) -> int:
        """Where the item_ids of the first ``rows`` rows end."""
        return int(self.id_ends[rows - 1]) if rows else 0


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
        self._names = _File(place / _NAMES, room * (16 + max_id_bytes))
        _sync_folders(place, folder)
        self.segments = Segments(folder, generation, stride)

    def append(
        self,
        first: int,
        rows: NDArray[np.float32],
        keys: NDArray[np.uint64],
        ids: Sequence[str],
    ) -> tuple[int, int]:
        """Writes rows ``first, first + 1, ...`` and waits until they are on disk.

        Args:
            first: the number of rows already committed.
            rows: ``float32 [n, stride]``, finite.
            keys: ``uint64 [n]``.
            ids: the n item_ids.

        Returns:
            ``(n, crc32c)`` for the commit.

        Raises:
            StateRefused: the generation is full.
            OSError: the disk is.
        """
        names = [name.encode() for name in ids]
        begin = self.segments.ids_end(first)
        ends = begin + np.cumsum([len(name) for name in names], dtype=np.int64)
        self._check_room(first + len(rows), begin + sum(map(len, names)))
        parts = (rows.tobytes(), keys.tobytes(), ends.tobytes(), b"".join(names))
        room = 8 * self.segments.capacity
        self._rows.write(parts[0], first * rows.itemsize * self.segments.stride)
        self._names.write(parts[1], first * 8)
        self._names.write(parts[2], room + first * 8)
        self._names.write(parts[3], 2 * room + begin)
        self._rows.sync()
        self._names.sync()
        return len(rows), _checksum(*parts)

    def close(self) -> None:
        """Closes the files; the mapping lives as long as its arrays."""
        self._rows.close()
        self._names.close()

    def _check_room(self, rows: int, id_bytes: int) -> None:
        if rows > self.segments.capacity:
            msg = (
                f"{rows} rows do not fit into a generation of {self.segments.capacity}: "
                "start with a larger --max-rows and an empty data folder"
            )
            raise StateRefused(msg)
        if id_bytes > len(self.segments.ids):
            msg = (
                f"item_ids of {id_bytes} bytes do not fit into a generation with room for "
                f"{len(self.segments.ids)}: start with a larger --max-id-bytes or --max-rows and "
                "an empty data folder"
            )
            raise StateRefused(msg)


def check_rows(segments: Segments, first: int, count: int, checksum: int) -> None:
    """Compares stored rows with the checksum that their commit kept.

    Raises:
        CorruptState: they differ.
    """
    upto = first + count
    fits = upto <= segments.capacity
    if fits:
        arrays = (a[first:upto] for a in (segments.rows, segments.keys, segments.id_ends))
        ids = segments.ids[segments.ids_end(first) : segments.ids_end(upto)]
        fits = _checksum(*(a.data.cast("B") for a in arrays), ids.data) == checksum
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
