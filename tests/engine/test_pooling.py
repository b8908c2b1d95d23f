"""How much an interaction counts: type, sign and age."""

from dataclasses import replace

import numpy as np
import pytest

from rankstream.kernels.arrays import frozen
from rankstream.kernels.query import weigh
from rankstream.server.profiles.pooling import LONGEST_TTL_MS, Pooling
from rankstream.server.types import PoolingChange

POOLING = Pooling.uniform(half_life_ms=100.0, type_weights=np.array([0.0, 1.0, 3.0]))
EXPIRING = replace(POOLING, ttls_ms=np.array([LONGEST_TTL_MS, 100, LONGEST_TTL_MS]))


def weights(histories, pooling=POOLING, now=0, change=None, as_of=None):
    """Weights of ragged histories of (time, type, signed weight)."""
    rows = [row for history in histories for row in history]
    times, types, signed = zip(*rows, strict=True) if rows else ((), (), ())
    indptr = np.cumsum([0, *map(len, histories)])
    columns = zip((times, types, signed), (np.int64, np.uint16, np.float32), strict=True)
    arrays = [frozen(np.array(*column)) for column in columns]
    found = weigh(frozen(indptr), *arrays, pooling.weighing(now, change, as_of))
    assert found.dtype == np.float64
    return found.tolist()


def test_a_weight_halves_with_each_half_life_before_the_newest():
    assert weights([[(0, 1, 1.0), (100, 1, 1.0), (200, 1, 1.0)]]) == [0.25, 0.5, 1.0]


def test_ages_are_taken_from_each_users_own_newest():
    assert weights([[(0, 1, 1.0), (100, 1, 1.0)], [], [(10**12, 1, 1.0)]]) == [0.5, 1.0, 1.0]


def test_type_and_sign_multiply():
    assert weights([[(5, 2, -0.5), (5, 1, 2.0), (5, 0, 1.0)]]) == [-1.5, 2.0, 0.0]


def test_nobody_has_no_weights():
    assert weights([]) == []
    assert weights([[], []]) == []


def test_an_interaction_of_long_ago_counts_nothing_and_harms_nothing():
    assert weights([[(0, 1, 1000.0), (2**52, 1, 1.0)]]) == [0.0, 1.0]


@pytest.mark.parametrize(
    ("now", "expected"),
    [(50, [0.5, 1.5, 1.0]), (100, [0.5, 1.5, 1.0]), (101, [0.0, 1.5, 1.0]), (999, [0.0, 3.0, 0.0])],
)
def test_what_is_older_than_its_types_time_to_live_when_it_is_read_counts_nothing(now, expected):
    assert weights([[(0, 1, 1.0), (0, 2, 1.0), (100, 1, 1.0)]], EXPIRING, now) == expected


def test_as_of_a_time_says_what_has_expired_then():
    history = [[(0, 1, 1.0), (100, 1, 1.0), (200, 1, 1.0)]]

    assert weights(history, EXPIRING, now=10**13, as_of=150) == [0.0, 1.0, 0.0]
    assert weights(history, EXPIRING, now=10**13, as_of=100) == [0.5, 1.0, 0.0]


def test_a_time_to_live_of_a_request_is_of_every_type():
    history = [[(0, 1, 1.0), (0, 2, 1.0), (100, 1, 1.0)]]
    change = PoolingChange(ttl_ms=99)

    assert weights(history, POOLING, now=99, change=change) == [0.5, 1.5, 1.0]
    assert weights(history, EXPIRING, now=100, change=change) == [0.0, 0.0, 1.0]


def test_the_longest_time_to_live_is_longer_than_any_age():
    longest = PoolingChange(ttl_ms=LONGEST_TTL_MS)

    assert weights([[(0, 1, 1.0)]], now=2**62 - 1, change=longest) == [1.0]
