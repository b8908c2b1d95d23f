"""Kafka's default partitioner for many keys at once: murmur2, as the Java client computes it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rankstream.kernels.compilation import compiled

_M = np.uint32(0x5BD1E995)
_SEED = np.uint32(0x9747B28C)


@compiled
def _partitions(data, offsets, n_partitions):  # type: ignore[no-untyped-def]
    out = np.empty(offsets.size - 1, np.int32)
    for i in range(out.size):
        start, length = offsets[i], offsets[i + 1] - offsets[i]
        h = _SEED ^ np.uint32(length)
        words = length // 4
        for w in range(words):
            at = start + 4 * w
            k = (
                np.uint32(data[at])
                | np.uint32(data[at + 1]) << np.uint32(8)
                | np.uint32(data[at + 2]) << np.uint32(16)
                | np.uint32(data[at + 3]) << np.uint32(24)
            )
            k = np.uint32(k * _M)
            k = np.uint32(k ^ (k >> np.uint32(24)))
            k = np.uint32(k * _M)
            h = np.uint32(np.uint32(h * _M) ^ k)
        tail = start + 4 * words
        rest = length - 4 * words
        if rest > 2:
            h = np.uint32(h ^ np.uint32(data[tail + 2]) << np.uint32(16))
        if rest > 1:
            h = np.uint32(h ^ np.uint32(data[tail + 1]) << np.uint32(8))
        if rest > 0:
            h = np.uint32(np.uint32(h ^ np.uint32(data[tail])) * _M)
        h = np.uint32(h ^ (h >> np.uint32(13)))
        h = np.uint32(h * _M)
        h = np.uint32(h ^ (h >> np.uint32(15)))
        out[i] = np.int32(np.int64(h & np.uint32(0x7FFFFFFF)) % n_partitions)
    return out


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
    data = np.frombuffer(b"".join(keys) + b"\0", np.uint8)
    return _partitions(data.copy(), offsets, n_partitions)  # type: ignore[no-any-return]
