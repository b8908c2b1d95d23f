"""Keeping the best k of many scored rows: sortable keys, and a bounded heap of them.

A key is a uint64: the score, mapped so that unsigned order is numeric order, above the inverted
row. So the greater key is the better result, and of equal scores the lower row wins.
"""

import numpy as np

from rankstream.kernels.arrays import UInt64
from rankstream.kernels.compilation import compiled

_SIGN = np.uint32(0x80000000)
_ONES = np.uint32(0xFFFFFFFF)
_SHIFT = np.uint64(32)


@compiled
def key_of(score: np.float32, row: int) -> np.uint64:
    """The key of a score (not NaN, no -0) and a row."""
    bits = np.float32(score).view(np.uint32)
    ordered = bits ^ (_ONES if bits & _SIGN else _SIGN)
    return (np.uint64(ordered) << _SHIFT) | np.uint64(_ONES - np.uint32(row))


@compiled
def score_of(key: np.uint64) -> np.float32:
    """The score in a key."""
    ordered = np.uint32(key >> _SHIFT)
    return np.uint32(ordered ^ (_SIGN if ordered & _SIGN else _ONES)).view(np.float32)


@compiled
def row_of(key: np.uint64) -> np.int32:
    """The row in a key."""
    return np.int32(_ONES - np.uint32(key & np.uint64(_ONES)))


@compiled
def _sift_down(heap: UInt64, size: int, at: int) -> None:
    key = heap[at]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = key


@compiled
def _sift_up(heap: UInt64, at: int) -> None:
    key = heap[at]
    while at > 0:
        parent = (at - 1) // 2
        if heap[parent] <= key:
            break
        heap[at] = heap[parent]
        at = parent
    heap[at] = key


@compiled
def keep(heap: UInt64, size: int, key: np.uint64) -> int:
    """Offers ``key`` to the min-heap ``heap[:size]`` bounded by its length; returns its size."""
    if size < heap.shape[0]:
        heap[size] = key
        _sift_up(heap, size)
        return size + 1
    if key > heap[0]:
        heap[0] = key
        _sift_down(heap, size, 0)
    return size


@compiled
def sort_best_first(heap: UInt64, size: int) -> None:
    """Turns the min-heap ``heap[:size]`` into descending order."""
    for last in range(size - 1, 0, -1):
        worst = heap[0]
        heap[0] = heap[last]
        heap[last] = worst
        _sift_down(heap, last, 0)
