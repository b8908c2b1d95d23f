"""From stored profiles to query vectors: histories gathered, weighed and pooled.

The weight of an interaction is ``type_weight[type] * signed_weight * 2^(-(newest - event_time) /
half_life[type])``, in fp64 and in that order. Ages are taken from the profile's own newest
interaction (of those that have not expired, within their type's cap): an age common to all of them
would cancel in the normalisation that follows, and so no clock is needed. A type without a weight
counts nothing; of a type with a cap only the newest count; of a type with a time to live, only what
is not older: that age is taken from the time of reading.

A block's part of a query is as long as the block's weight, times the trust in the profile: where w
are the weights of its interactions with what is there, and s those of them that are stated (what
users say of themselves), ``sum(|w|) - (1 - trust) * sum(|s|)`` over ``sum(|w|)``. So a vector of
which little was done counts less beside popularity, and the more, the more recent events there are.
"""

from typing import Final, NamedTuple

import numpy as np

from rankstream.kernels.arrays import Float32, Float64, Int32, Int64, UInt16, UInt64, freeze
from rankstream.kernels.cells import SIEVE_CELLS, TEXT, settled_count
from rankstream.kernels.compilation import compiled
from rankstream.kernels.gather import gather_columns
from rankstream.kernels.key_table import KeyTable, look_up
from rankstream.kernels.pool import Pooled, pool_checked
from rankstream.kernels.retained import Rules
from rankstream.kernels.texts import Texts, listed

NO_TIME: Final = np.iinfo(np.int64).max
"""As of no time in particular: all that is stored counts."""

NO_TIME_YET: Final = np.iinfo(np.int64).min


class Past(NamedTuple):
    """The interactions of B profiles, oldest first; b's are ``indptr[b]:indptr[b + 1]``.

    Attributes:
        indptr: int64[B + 1].
        rows: int32[T] item rows; -1: no such item (now); -2 - i: text i of ``Extras``.
        weights: float64[T].
        types: uint16[T].
        event_times_ms: int64[T].
        headers: int64[B, 4], see ``cells.py``; -1 where nothing is stored.
    """

    indptr: Int64
    rows: Int32
    weights: Float64
    types: UInt16
    event_times_ms: Int64
    headers: Int64


class Weighing(NamedTuple):
    """How much an interaction counts.

    Attributes:
        half_lives_ms: float64[.] by type: age at which it counts half.
        type_weights: float64[.] by type.
        caps: int64[.] by type: how many of the newest count; empty: all.
        oldest_ms: int64[.] by type: what is earlier does not count; empty: all counts.
        as_of_ms: what is later does not count.
        stated: the type of what users say of themselves.
        trust: in a profile of nothing else, 0 to 1.
    """

    half_lives_ms: Float64
    type_weights: Float64
    caps: Int64
    oldest_ms: Int64
    as_of_ms: int = NO_TIME
    stated: int = -1
    trust: float = 1.0


class Space(NamedTuple):
    """The rows that queries are pooled from.

    Attributes:
        items: float32[N, D], finite, read-only as ``offsets``.
        offsets: int64[n_blocks + 1].
        block_weights: float64[n_blocks].
    """

    items: Float32
    offsets: Int64
    block_weights: Float64


class Extras(NamedTuple):
    """Vectors that are no items': of texts, and of what a request brings.

    Attributes:
        keys: uint64[E], ascending.
        vectors: float32[E, D], finite.
        labels: what each is called.
    """

    keys: UInt64
    vectors: Float32
    labels: Texts


class Added(NamedTuple):
    """Interactions that are in no history, such as what users say about themselves.

    Attributes:
        indptr: int64[B + 1]; those of b are ``indptr[b]:indptr[b + 1]``.
        texts: int32[.], rows of ``Extras``.
        weights: float64[.].
        types: uint16[.].
    """

    indptr: Int64
    texts: Int32
    weights: Float64
    types: UInt16


def no_extras(dimensions: int) -> Extras:
    """No vectors."""
    extras = Extras(np.empty(0, np.uint64), np.empty((0, dimensions), np.float32), listed([]))
    freeze((extras.keys, extras.vectors, *extras.labels))
    return extras


def nothing_added(batch: int) -> Added:
    """No interactions, for each of ``batch`` profiles."""
    none = np.empty(0, np.int32), np.empty(0), np.empty(0, np.uint16)
    added = Added(np.zeros(batch + 1, np.int64), *none)
    freeze(added)
    return added


@compiled
def weigh(
    indptr: Int64, times: Int64, types: UInt16, signed: Float32, weighing: Weighing
) -> Float64:
    """Weights float64[T] of ragged histories, each sorted by time; 0: it does not count."""
    weights = np.zeros(times.shape[0], np.float64)
    kinds, lives, caps = weighing.type_weights, weighing.half_lives_ms, weighing.caps
    oldest = weighing.oldest_ms
    counts = np.zeros(caps.shape[0], np.int64)
    for b in range(indptr.shape[0] - 1):
        start, stop = indptr[b], indptr[b + 1]
        while stop > start and times[stop - 1] > weighing.as_of_ms:
            stop -= 1
        newest = NO_TIME_YET
        for t in range(stop - 1, start - 1, -1):
            kind = types[t]
            if kind < caps.shape[0]:
                counts[kind] += 1
                if counts[kind] > caps[kind]:
                    continue
            if kind < oldest.shape[0] and times[t] < oldest[kind]:
                continue
            newest = max(newest, times[t])
            if kind < kinds.shape[0]:
                age = np.float64(newest - times[t])
                weights[t] = kinds[kind] * np.float64(signed[t]) * np.exp2(-age / lives[kind])
        for t in range(start, stop):
            if types[t] < caps.shape[0]:
                counts[types[t]] = 0
    return weights


@compiled
def forget(indptr: Int64, times: Int64, types: UInt16, weighing: Weighing, rows: Int32) -> None:
    """Takes the rows from what is later than the time asked for, or has expired: it never was."""
    oldest = weighing.oldest_ms
    for t in range(indptr[0], indptr[-1]):
        expired = types[t] < oldest.shape[0] and times[t] < oldest[types[t]]
        if expired or times[t] > weighing.as_of_ms:
            rows[t] = -1


@compiled
def trust_in(past: Past, b: int, weighing: Weighing) -> float:
    """How far one profile's vector is trusted, 0 to 1."""
    total = stated = 0.0
    for t in range(past.indptr[b], past.indptr[b + 1]):
        if past.rows[t] != -1:
            weight = abs(past.weights[t])
            total += weight
            if past.types[t] == weighing.stated:
                stated += weight
    return (total - (1.0 - weighing.trust) * stated) / total if total > 0.0 else 1.0


@compiled
def trusted(past: Past, block_weights: Float64, weighing: Weighing) -> Float64:
    """How long each block's part of each query is: float64[B, n_blocks], as ``block_weights``."""
    lengths = np.empty((block_weights.shape[0], block_weights.shape[1]))
    for b in range(lengths.shape[0]):
        lengths[b] = block_weights[b] * trust_in(past, b, weighing)
    return lengths


@compiled
def find_rows(
    targets: UInt64, exts: UInt16, slots: UInt64, seed: np.uint64, texts: UInt64
) -> Int32:
    """The row of each target, as in ``Past``; ``texts`` are the keys of ``Extras``."""
    rows = np.empty(targets.shape[0], np.int32)
    look_up(slots, seed, targets, rows)
    for t in range(rows.shape[0]):
        if exts[t] & TEXT:
            at = np.searchsorted(texts, targets[t])
            found = at < texts.shape[0] and texts[at] == targets[t]
            rows[t] = np.int32(-2 - at if found else -1)
    return rows


@compiled
def append(past: Past, added: Added) -> Past:
    """Puts what is added behind each history. It has no time: 0."""
    size = past.rows.shape[0] + added.texts.shape[0]
    rows, types = np.empty(size, np.int32), np.empty(size, np.uint16)
    weights, times = np.empty(size, np.float64), np.zeros(size, np.int64)
    indptr = past.indptr + added.indptr
    for b in range(indptr.shape[0] - 1):
        at = indptr[b]
        for t in range(past.indptr[b], past.indptr[b + 1]):
            rows[at], types[at] = past.rows[t], past.types[t]
            weights[at], times[at] = past.weights[t], past.event_times_ms[t]
            at += 1
        for t in range(added.indptr[b], added.indptr[b + 1]):
            rows[at] = np.int32(-2 - added.texts[t])
            types[at], weights[at] = added.types[t], added.weights[t]
            at += 1
    return Past(indptr, rows, weights, types, times, past.headers)


@compiled
def gather_past(
    words: Int64,
    sizes: Int64,
    layout: int,
    rules: Rules,
    slots: UInt64,
    seed: np.uint64,
    weighing: Weighing,
    texts: UInt64,
    added: Added,
) -> tuple[Past, int]:
    """The interactions, and the first user whose values are not what their header says, or -1."""
    found = gather_columns(words, sizes, layout, rules)
    rows = find_rows(found.target_keys, found.exts, slots, seed, texts)
    times, types = found.event_times_ms, found.types
    weights = weigh(found.indptr, times, types, found.weights, weighing)
    if weighing.oldest_ms.shape[0] > 0:
        forget(found.indptr, times, types, weighing, rows)
    past = Past(found.indptr, rows, weights, types, times, found.headers)
    if added.texts.shape[0] > 0:
        past = append(past, added)
    return past, found.bad


@compiled
def text_targets(words: Int64, sizes: Int64) -> UInt64:
    """The keys of the texts among stored values, as ``gather_columns`` takes them; ascending."""
    cells, users = words[: words.shape[0] // 4 * 4].reshape(-1, 4), sizes.shape[0] // 2
    keys = np.empty(cells.shape[0], np.uint64)
    count = start = 0
    for i in range(sizes.shape[0]):
        stop = start + (sizes[i] >> 5)
        if i < users and stop > start:
            # Behind the header; a sieve's bits look like anything.
            start += 1 + (SIEVE_CELLS if settled_count(cells[start]) > 0 else 0)
        for cell in range(start, stop):
            if cells[cell, 3] < 0:
                keys[count] = np.uint64(cells[cell, 2])
                count += 1
        start = stop
    return np.unique(keys[:count]) if count > 0 else keys[:0]


def make_queries(
    words: Int64,
    sizes: Int64,
    layout: int,
    rules: Rules,
    table: KeyTable,
    weighing: Weighing,
    space: Space,
    extras: Extras,
    added: Added,
) -> tuple[Past, Pooled, Float64] | None:
    """Pools stored profiles; None where one is not what its header says.

    The last result is what they were pooled with: float64[B, n_blocks].

    Args:
        words: the stored values, as ``gather_columns`` takes them.
        sizes: likewise.
        layout: likewise.
        rules: likewise.
        table: item key -> row.
        weighing: how much an interaction counts.
        space: the rows, finite (not checked), and what weight their blocks have.
        extras: vectors of texts.
        added: what counts beside the histories.
    """
    past, bad = gather_past(
        words, sizes, layout, rules, table.slots, table.seed, weighing, extras.keys, added
    )
    if bad >= 0:
        return None
    block_weights = np.empty((len(past.headers), len(space.block_weights)))
    block_weights[:] = space.block_weights
    freeze((*past, block_weights))
    return pool_past(past, space, extras, block_weights, weighing)


def pool_past(
    past: Past, space: Space, extras: Extras, block_weights: Float64, weighing: Weighing
) -> tuple[Past, Pooled, Float64]:
    """Pools gathered interactions, as ``make_queries`` does.

    Arrays are read-only, ``block_weights`` is float64[B, n_blocks].
    """
    lengths = trusted(past, block_weights, weighing)
    freeze((lengths,))
    history = past.rows, past.indptr, past.weights
    pooled = pool_checked(*history, space.items, extras.vectors, space.offsets, lengths)
    return past, pooled, lengths
