"""Adding to popularity counters: sorted runs of (bucket, count), the newest apart from the older.

A counter is a set of buckets with their counts. Its newest bucket is kept apart, because nearly
every event adds to it alone; the older ones are read and written only when a bucket begins, when an
event is late, or when the newest one comes to nothing.
"""

from typing import NamedTuple

import numpy as np

from rankstream.kernels.arrays import Float64, Int32, Int64
from rankstream.kernels.compilation import compiled


class Merged(NamedTuple):
    """U counters after a merge.

    Attributes:
        newest: ``[U, 2]`` int32 (bucket, count); count 0 where nothing is left.
        older: ``[T, 2]`` int32 (bucket, count), by counter, buckets rising.
        offsets: ``[U + 1]`` int64; counter u owns ``older[offsets[u]:offsets[u + 1]]``.
    """

    newest: Int32
    older: Int32
    offsets: Int64


@compiled
def merge_counts(
    newest: Int32,
    older: Int32,
    offsets: Int64,
    buckets: Int64,
    deltas: Int64,
    firsts: Int64,
    cap: int,
) -> Merged:
    """Adds deltas to counters that are given whole.

    Args:
        newest: ``[U, 2]`` int32 (bucket, count); count 0: the counter is empty.
        older: ``[T, 2]`` int32 (bucket, count), ragged by ``offsets``, buckets rising.
        offsets: ``[U + 1]`` int64.
        buckets: ``[E]`` int64, rising within a counter, each once.
        deltas: ``[E]`` int64.
        firsts: ``[U + 1]`` int64; counter u gets ``deltas[firsts[u]:firsts[u + 1]]``.
        cap: buckets of a counter that are kept, the newest.
    """
    users = newest.shape[0]
    room = older.shape[0] + users + buckets.shape[0]
    merged = np.empty((room, 2), np.int32)
    ends = np.zeros(users + 1, np.int64)
    kept = np.zeros((users, 2), np.int32)
    at = 0
    for u in range(users):
        start = at
        i, stop = offsets[u], offsets[u + 1]
        e, last = firsts[u], firsts[u + 1]
        own = newest[u, 1] != 0
        while i < stop or own or e < last:
            if i < stop:
                bucket, count = np.int64(older[i, 0]), np.int64(older[i, 1])
            elif own:
                bucket, count = np.int64(newest[u, 0]), np.int64(newest[u, 1])
            else:
                bucket, count = buckets[e], np.int64(0)
            if e < last and buckets[e] <= bucket:
                same = buckets[e] == bucket
                total = deltas[e] + (count if same else np.int64(0))
                bucket = buckets[e]
                e += 1
                if same:
                    if i < stop:
                        i += 1
                    else:
                        own = False
            else:
                total = count
                if i < stop:
                    i += 1
                else:
                    own = False
            if total != 0:
                merged[at, 0] = bucket
                merged[at, 1] = min(total, np.int64(2**31 - 1))
                at += 1
        if at > start:
            at -= 1
            kept[u, 0], kept[u, 1] = merged[at, 0], merged[at, 1]
        surplus = at - start - (cap - 1)
        if surplus > 0:
            for j in range(start, at - surplus):
                merged[j, 0], merged[j, 1] = merged[j + surplus, 0], merged[j + surplus, 1]
            at -= surplus
        ends[u + 1] = at
    return Merged(kept, merged[:at], ends)


@compiled
def levels_of(pairs: Int32, offsets: Int64, half_life: float) -> Float64:
    """``log2(sum of count * 2^(bucket / half_life))`` of each run of pairs; -inf if empty.

    Args:
        pairs: ``[T, 2]`` int32 (bucket, count), ragged by ``offsets``, buckets rising, counts > 0.
        offsets: ``[U + 1]`` int64.
        half_life: in buckets.

    Returns:
        ``[U]`` float64. Powers are taken from the newest bucket, so none overflows.
    """
    levels = np.full(offsets.shape[0] - 1, -np.inf)
    for u in range(levels.shape[0]):
        start, stop = offsets[u], offsets[u + 1]
        if stop == start:
            continue
        newest = pairs[stop - 1, 0]
        total = 0.0
        for i in range(start, stop):
            total += pairs[i, 1] * 2.0 ** ((pairs[i, 0] - newest) / half_life)
        if total > 0.0:
            levels[u] = np.log2(total) + newest / half_life
    return levels
