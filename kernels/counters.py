"""Popularity counters: sorted runs of (bucket, count), the newest apart from the older.

A counter is a set of buckets with their counts. Its newest bucket is kept apart, because nearly
every event adds to it alone; the older ones are read and written only when a bucket begins, when an
event is late, or when the newest one comes to nothing.
"""

import numpy as np

from rankstream.kernels.arrays import Bool, Float32, Float64, Int32, Int64, UInt64
from rankstream.kernels.compilation import compiled


@compiled
def sum_rows(rows: Int64) -> tuple[UInt64, Int64, Int64]:
    """Sums rows ``[n, 3]`` int64 of (key, bucket, delta).

    Returns:
        Keys ``[m]`` uint64, buckets and sums ``[m]`` int64: each pair once, in that order, those
        that sum to zero left out.
    """
    order = np.argsort(rows[:, 1].copy(), kind="mergesort")
    every = rows[:, 0].copy().view(np.uint64)
    order = order[np.argsort(every[order], kind="mergesort")]
    keys = np.empty(order.shape[0], np.uint64)
    buckets, sums = np.empty(order.shape[0], np.int64), np.empty(order.shape[0], np.int64)
    at, is_new = 0, True
    for i in range(order.shape[0]):
        row = order[i]
        keys[at], buckets[at] = every[row], rows[row, 1]
        sums[at] = rows[row, 2] if is_new else sums[at] + rows[row, 2]
        last = i + 1 == order.shape[0]
        is_new = last or every[order[i + 1]] != keys[at] or rows[order[i + 1], 1] != buckets[at]
        at += int(is_new and sums[at] != 0)
    return keys[:at], buckets[:at], sums[:at]


@compiled
def find_runs(keys: UInt64) -> tuple[UInt64, Int64]:
    """The different ones of sorted keys.

    Returns:
        ``[U]`` uint64 and ``firsts [U + 1]`` int64: key u is at
        ``keys[firsts[u]:firsts[u + 1]]``.
    """
    found, firsts = np.empty(keys.shape[0], np.uint64), np.zeros(keys.shape[0] + 1, np.int64)
    used = 0
    for i in range(keys.shape[0]):
        if i == 0 or keys[i] != keys[i - 1]:
            found[used], firsts[used] = keys[i], i
            used += 1
    firsts[used] = keys.shape[0]
    return found[:used], firsts[: used + 1]


@compiled
def add_to_newest(
    stored: Int32, buckets: Int64, deltas: Int64, firsts: Int64
) -> tuple[Int32, Int64]:
    """Adds deltas to the counters of which that changes the newest bucket alone.

    Args:
        stored: ``[2 U]`` int32: the newest (bucket, count) of each counter; count 0: it is empty.
        buckets: ``[E]`` int64, rising within a counter, each once.
        deltas: ``[E]`` int64.
        firsts: ``[U + 1]`` int64; counter u gets ``deltas[firsts[u]:firsts[u + 1]]``.

    Returns:
        ``[U, 2]`` int32, the newest (bucket, count) of each, and the indices ``[W]`` int64 of those
        to which nothing is added yet: they must be given whole.
    """
    newest = stored.copy().reshape(-1, 2)
    whole, used = np.empty(newest.shape[0], np.int64), 0
    for u in range(newest.shape[0]):
        first, count = firsts[u], np.int64(newest[u, 1])
        total = count + deltas[first]
        here = count == 0 or np.int64(newest[u, 0]) == buckets[first]
        if here and firsts[u + 1] == first + 1 and 0 < total < 2**31:
            newest[u, 0], newest[u, 1] = buckets[first], total
        else:
            whole[used] = u
            used += 1
    return newest, whole[:used]


@compiled
def merge_counts(
    newest: Int32,
    whole: Int64,
    older: Int32,
    offsets: Int64,
    added: tuple[Int64, Int64, Int64],
    cap: int,
) -> tuple[Int32, Int64]:
    """Adds deltas to counters that are given whole.

    Args:
        newest: ``[U, 2]`` int32 (bucket, count); count 0: nothing. Set for those of ``whole``.
        whole: ``[W]`` int64, indices of the counters to add to.
        older: ``[T, 2]`` int32 (bucket, count), ragged by ``offsets``, buckets rising.
        offsets: ``[W + 1]`` int64.
        added: buckets, deltas and firsts, as for ``add_to_newest``.
        cap: buckets of a counter that are kept, the newest.

    Returns:
        The older pairs then, and their offsets.
    """
    buckets, deltas, firsts = added
    room = older.shape[0] + whole.shape[0] + buckets.shape[0]
    merged = np.empty((room, 2), np.int32)
    ends = np.zeros(whole.shape[0] + 1, np.int64)
    at = 0
    for w in range(whole.shape[0]):
        start, u = at, whole[w]
        i, stop = offsets[w], offsets[w + 1]
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
        newest[u, 0], newest[u, 1] = 0, 0
        if at > start:
            at -= 1
            newest[u, 0], newest[u, 1] = merged[at, 0], merged[at, 1]
        surplus = at - start - (cap - 1)
        if surplus > 0:
            for j in range(start, at - surplus):
                merged[j, 0], merged[j, 1] = merged[j + surplus, 0], merged[j + surplus, 1]
            at -= surplus
        ends[w + 1] = at
    return merged[:at], ends


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


@compiled
def newest_bucket(newest: Int32) -> tuple[bool, int]:
    """Whether any counter holds something, and the newest bucket of those that do.

    Args:
        newest: ``[S, 2]`` int32: the newest (bucket, count) of each.
    """
    found, bucket = False, 0
    for s in range(newest.shape[0]):
        if newest[s, 1] > 0 and (not found or newest[s, 0] > bucket):
            found, bucket = True, int(newest[s, 0])
    return found, bucket


@compiled
def refresh_powers(
    slots: Int64, newest: Int32, older: Float64, half_life: float, now: int, powers: Float64
) -> None:
    """Sets ``powers[s] = log1p(popularity at bucket now)`` of some counters.

    Each is computed by itself, so that it does not matter which are refreshed together.

    Args:
        slots: ``[n]`` int64, which.
        newest: ``[S, 2]`` int32: the newest (bucket, count) of each.
        older: ``[S]`` float64, the levels of the others (``levels_of``).
        half_life: in buckets.
        now: the bucket it is.
        powers: ``[S]`` float64.
    """
    for i in range(slots.shape[0]):
        s = slots[i]
        level = older[s]
        # A correction of a bucket that was dropped since can lead below zero: no popularity.
        if newest[s, 1] > 0:
            own = np.log2(np.float64(newest[s, 1])) + newest[s, 0] / half_life
            high, low = max(level, own), min(level, own)
            level = high + np.log2(1.0 + np.exp2(low - high))
        powers[s] = np.log1p(np.exp2(level - now / half_life))


@compiled
def bias_of(powers: Float64, slots: Int32, live: Bool, weight: float, floor: float) -> Float32:
    """The bias of some items: their share of the greatest power of those that live.

    Args:
        powers: ``[S]`` float64.
        slots: ``[n]`` int32, -1: never counted.
        live: ``[n]`` bool.
        weight: the greatest bias.
        floor: the least share, as long as anything is popular.

    Returns:
        ``[n]`` float32.
    """
    bias = np.zeros(slots.shape[0], np.float32)
    greatest = 0.0
    for i in range(slots.shape[0]):
        if live[i] and slots[i] >= 0:
            greatest = max(greatest, powers[slots[i]])
    if greatest == 0.0:
        return bias
    for i in range(slots.shape[0]):
        share = powers[slots[i]] / greatest if slots[i] >= 0 else 0.0
        bias[i] = np.float32(weight * min(max(share, floor), 1.0))
    return bias
