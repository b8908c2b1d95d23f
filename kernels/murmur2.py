"""Kafka's default partitioner for many keys at once: murmur2, as the Java client computes it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels.arrays import Int32, Int64, UInt8
from rankstream.kernels.compilation import compiled

_M = np.uint32(0x5BD1E995)
_SEED = np.uint32(0x9747B28C)


@compiled
def partition_of(text: UInt8, start: int, stop: int, n_partitions: int) -> int:
    """The partition of the key ``text[start:stop]``."""
    length = stop - start
    h = _SEED ^ np.uint32(length)
    tail = start + length // 4 * 4
    for at in range(start, tail, 4):
        k = (
            np.uint32(text[at])
            | np.uint32(text[at + 1]) << np.uint32(8)
            | np.uint32(text[at + 2]) << np.uint32(16)
            | np.uint32(text[at + 3]) << np.uint32(24)
        )
        k = np.uint32(k * _M)
        k = np.uint32(k ^ (k >> np.uint32(24)))
        k = np.uint32(k * _M)
        h = np.uint32(np.uint32(h * _M) ^ k)
    if stop - tail > 2:
        h = np.uint32(h ^ np.uint32(text[tail + 2]) << np.uint32(16))
    if stop - tail > 1:
        h = np.uint32(h ^ np.uint32(text[tail + 1]) << np.uint32(8))
    if stop - tail > 0:
        h = np.uint32(np.uint32(h ^ np.uint32(text[tail])) * _M)
    h = np.uint32(h ^ (h >> np.uint32(13)))
    h = np.uint32(h * _M)
    h = np.uint32(h ^ (h >> np.uint32(15)))
    return int(np.int64(h & np.uint32(0x7FFFFFFF)) % n_partitions)


@compiled
def _partitions(text: UInt8, offsets: Int64, n_partitions: int) -> Int32:
    """The partition of each key ``text[offsets[i]:offsets[i + 1]]``."""
    found = np.empty(offsets.shape[0] - 1, np.int32)
    for i in range(found.shape[0]):
        found[i] = partition_of(text, offsets[i], offsets[i + 1], n_partitions)
    return found


def partitions_of(keys: list[bytes], n_partitions: int) -> NDArray[np.int32]:
    """The partition of each key.

    Args:
        keys: record keys, B of them.
        n_partitions: partitions of the topic, at least 1.

    Returns:
        ``int32 [B]``, each in ``[0, n_partitions)``.
    """
    offsets = np.zeros(len(keys) + 1, np.int64)
    np.cumsum([len(k) for k in keys], out=offsets[1:])
    return _partitions(np.frombuffer(b"".join(keys), np.uint8), offsets, n_partitions)
