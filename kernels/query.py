"""From stored profiles to query vectors: histories gathered, weighed and pooled.

The weight of an interaction is ``type_weight[type] * signed_weight * 2^(-(newest - event_time) /
half_life)``, in fp64 and in that order. Ages are taken from the profile's own newest interaction:
an age common to all of them would cancel in the normalisation that follows, and so no clock is
needed. A type without a weight counts nothing.
"""

from typing import NamedTuple

import numpy as np

from rankstream.kernels.arrays import Float32, Float64, Int32, Int64, UInt16, UInt64, freeze
from rankstream.kernels.compilation import compiled
from rankstream.kernels.gather import gather_columns
from rankstream.kernels.key_table import KeyTable, look_up
from rankstream.kernels.pool import Pooled, pool_checked
from rankstream.kernels.retained import Rules


class Past(NamedTuple):
    """The interactions of B profiles, oldest first; b's are ``indptr[b]:indptr[b + 1]``.

    Attributes:
        indptr: int64[B + 1].
        rows: int32[T] item rows; -1: no such item (now).
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
        half_life_ms: age at which it counts half.
        type_weights: float64[.] by type.
    """

    half_life_ms: float
    type_weights: Float64


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


@compiled
def weigh(
    indptr: Int64, times: Int64, types: UInt16, signed: Float32, weighing: Weighing
) -> Float64:
    """Weights float64[T] of ragged histories, each sorted by time."""
    weights = np.empty(times.shape[0], np.float64)
    kinds = weighing.type_weights
    for b in range(indptr.shape[0] - 1):
        for t in range(indptr[b], indptr[b + 1]):
            age = np.float64(times[indptr[b + 1] - 1] - times[t])
            own = kinds[types[t]] if types[t] < kinds.shape[0] else 0.0
            weights[t] = own * np.float64(signed[t]) * np.exp2(-age / weighing.half_life_ms)
    return weights


@compiled
def gather_past(
    words: Int64,
    sizes: Int64,
    layout: int,
    rules: Rules,
    slots: UInt64,
    seed: np.uint64,
    weighing: Weighing,
) -> tuple[Past, int]:
    """The interactions, and the first user whose values are not what their header says, or -1."""
    found = gather_columns(words, sizes, layout, rules)
    rows = np.empty(found.target_keys.shape[0], np.int32)
    look_up(slots, seed, found.target_keys, rows)
    times, types = found.event_times_ms, found.types
    weights = weigh(found.indptr, times, types, found.weights, weighing)
    return Past(found.indptr, rows, weights, types, times, found.headers), found.bad


def make_queries(
    words: Int64,
    sizes: Int64,
    layout: int,
    rules: Rules,
    table: KeyTable,
    weighing: Weighing,
    space: Space,
) -> tuple[Past, Pooled] | None:
    """Pools stored profiles; None where one is not what its header says.

    Args:
        words: the stored values, as ``gather_columns`` takes them.
        sizes: likewise.
        layout: likewise.
        rules: likewise.
        table: item key -> row.
        weighing: how much an interaction counts.
        space: the rows, finite (not checked), and what weight their blocks have.
    """
    past, bad = gather_past(words, sizes, layout, rules, table.slots, table.seed, weighing)
    if bad >= 0:
        return None
    block_weights = np.empty((len(past.headers), len(space.block_weights)))
    block_weights[:] = space.block_weights
    freeze((*past, block_weights))
    history = past.rows, past.indptr, past.weights
    return past, pool_checked(*history, space.items, space.offsets, block_weights)
