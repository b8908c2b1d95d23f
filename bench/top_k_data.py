"""What ``top_k.py`` searches: items and queries as files, which every process maps."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sizes import SEED

QUERIES = 256
_ROWS_AT_ONCE = 100_000
_ROWS_A_QUERY = 5


@dataclass(frozen=True, slots=True)
class Data:
    """Two files of float32.

    Attributes:
        items: ``[N, D]``.
        queries: ``[256, D]``.
    """

    items: Path
    queries: Path

    def load(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The items, mapped, and the queries; read-only both."""
        items = np.asarray(np.load(self.items, mmap_mode="r"))
        queries = np.load(self.queries)
        queries.flags.writeable = False
        return items, queries

    def shape(self) -> tuple[int, int]:
        """N and D."""
        count, dimensions = np.load(self.items, mmap_mode="r").shape
        return count, dimensions


def random_data(cache: Path, items: int, dimensions: int) -> Data:
    """Random unit vectors, made unless they are there."""
    place = cache / f"top-k-{items}x{dimensions}"
    made = Data(place / "items.npy", place / "queries.npy")
    if place.exists():
        return made
    partial = place.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    rng = np.random.default_rng(SEED)
    np.save(partial / "queries.npy", _units(rng.standard_normal((QUERIES, dimensions), np.float32)))
    file = np.lib.format.open_memmap(
        partial / "items.npy", mode="w+", dtype=np.float32, shape=(items, dimensions)
    )
    for first in range(0, items, _ROWS_AT_ONCE):
        rows = file[first : first + _ROWS_AT_ONCE]
        rows[:] = _units(rng.standard_normal(rows.shape, np.float32))
    file.flush()
    os.rename(partial, place)
    return made


def given_data(vectors: Path, scratch: Path) -> Data:
    """Somebody's vectors, and queries such as profiles are: the direction of the mean of five rows.

    Raises:
        ValueError: the file does not hold what is expected.
    """
    items = np.load(vectors, mmap_mode="r")
    if items.dtype != np.float32 or items.ndim != 2 or not items.flags.c_contiguous:
        msg = f"{vectors} holds {items.dtype} {items.shape}, expected float32 [N, D] in C order"
        raise ValueError(msg)
    rows = np.random.default_rng(SEED).integers(0, len(items), (QUERIES, _ROWS_A_QUERY))
    np.save(scratch / "queries.npy", _units(items[rows].mean(axis=1)))
    return Data(vectors, scratch / "queries.npy")


def _units(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units: NDArray[np.float32] = rows / np.maximum(lengths, np.finfo(np.float32).tiny)
    return units
