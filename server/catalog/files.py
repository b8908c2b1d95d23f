"""Files that grow in place and are mapped whole."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_STEP_BYTES = 4 << 20


class SparseFile:
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


def map_file(path: Path) -> NDArray[np.uint8]:
    """All of a file, ``uint8 [bytes]``, read-only."""
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def sync_folders(*folders: Path) -> None:
    """Waits until the files that were made in them are there."""
    for folder in folders:
        fd = os.open(folder, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
