"""The catalogue's matrix on disk: append-only files, two a generation, mapped by every worker.

``rows.f32`` holds the rows (float32, little-endian, ``stride`` apart), ``keys.u64`` their item
keys. Both are sparse files of their greatest size, given disk in steps, so that a mapping made once
stays valid and the rows are one contiguous matrix however many there are. A row is written, synced
and only then counted by a commit; a counted row is never written again.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import crc32c
import numpy as np
from numpy.typing import NDArray

from rankstream.server.errors import CorruptState, StateRefused

_STEP_BYTES = 16 << 20


class Segments:
    """One generation's files, mapped read-only; ``SegmentWriter`` adds to them.

    Attributes:
        rows: ``float32 [max_rows, stride]``; only the first ``Head.rows`` mean something.
        keys: ``uint64 [max_rows]``.
    """

    def __init__(self, folder: Path, generation: int, stride: int) -> None:
        place = generation_folder(folder, generation)
        self.stride = stride
        self._rows_map = _map(place / "rows.f32")
        self._keys_map = _map(place / "keys.u64")
        self.rows: NDArray[np.float32] = np.frombuffer(self._rows_map, np.float32).reshape(
            -1, stride
        )
        self.keys: NDArray[np.uint64] = np.frombuffer(self._keys_map, np.uint64)

    @property
    def capacity(self) -> int:
        """Rows that fit."""
        return len(self.keys)


class SegmentWriter:
    """Appends to one generation. One process, one thread."""

    def __init__(self, folder: Path, generation: int, stride: int, max_rows: int) -> None:
        place = generation_folder(folder, generation)
        self._stride = stride
        self._rows_fd = _create(place / "rows.f32", max_rows * stride * 4)
        self._keys_fd = _create(place / "keys.u64", max_rows * 8)
        _sync_folders(place, folder)
        self._given = {self._rows_fd: 0, self._keys_fd: 0}
        self.segments = Segments(folder, generation, stride)

    def append(
        self, first: int, rows: NDArray[np.float32], keys: NDArray[np.uint64]
    ) -> tuple[int, int]:
        """Writes rows ``first, first + 1, ...`` and waits until they are on disk.

        Args:
            first: the number of rows already committed.
            rows: ``float32 [n, stride]``, finite.
            keys: ``uint64 [n]``.

        Returns:
            ``(n, crc32c)`` for the commit.

        Raises:
            StateRefused: the generation is full.
            OSError: the disk is.
        """
        if first + len(rows) > self.segments.capacity:
            msg = (
                f"{first + len(rows)} rows do not fit into a generation of "
                f"{self.segments.capacity}: start with a larger --max-rows and an empty data folder"
            )
            raise StateRefused(msg)
        data, names = rows.tobytes(), keys.tobytes()
        self._write(self._rows_fd, data, first * self._stride * 4)
        self._write(self._keys_fd, names, first * 8)
        return len(rows), crc32c.crc32c(names, crc32c.crc32c(data))

    def close(self) -> None:
        """Closes the files; the mapping lives as long as its arrays."""
        os.close(self._rows_fd)
        os.close(self._keys_fd)

    def _write(self, fd: int, data: bytes, at: int) -> None:
        end = at + len(data)
        if end > self._given[fd]:
            # Asked for here, a full disk is an error; met in a mapping, it would be a SIGBUS.
            upto = min(-(-end // _STEP_BYTES) * _STEP_BYTES, os.fstat(fd).st_size)
            os.posix_fallocate(fd, self._given[fd], upto - self._given[fd])
            self._given[fd] = upto
        view = memoryview(data)
        while view:
            done = os.pwrite(fd, view, at)
            view, at = view[done:], at + done
        os.fdatasync(fd)


def check_rows(segments: Segments, first: int, count: int, checksum: int) -> None:
    """Compares stored rows with the checksum that their commit kept.

    Raises:
        CorruptState: they differ.
    """
    upto = first + count
    fits = upto <= segments.capacity
    if fits:
        data = segments.rows[first:upto].data.cast("B")
        names = segments.keys[first:upto].data.cast("B")
        fits = crc32c.crc32c(names, crc32c.crc32c(data)) == checksum
    if not fits:
        msg = (
            f"rows {first} to {upto - 1} of the catalogue differ from their checksum: "
            "start with an empty data folder; the log is replayed"
        )
        raise CorruptState(msg)


def generation_folder(folder: Path, generation: int) -> Path:
    """Where one generation's files are."""
    return folder / f"generation-{generation:08d}"


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _create(path: Path, size: int) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    if os.fstat(fd).st_size == 0:
        os.ftruncate(fd, size)
        os.fsync(fd)
    return fd


def _sync_folders(*folders: Path) -> None:
    for folder in folders:
        fd = os.open(folder, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
