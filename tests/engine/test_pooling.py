"""How much an interaction counts: type, sign and age."""

import numpy as np

from rankstream.server.profiles.pooling import Pooling

POOLING = Pooling.uniform(half_life_ms=100.0, type_weights=np.array([0.0, 1.0, 3.0]))


def weights(histories):
    """Weights of ragged histories of (time, type, signed weight)."""
    rows = [row for history in histories for row in history]
    times, types, signed = zip(*rows, strict=True) if rows else ((), (), ())
    indptr = np.cumsum([0, *map(len, histories)])
    found = POOLING.weights(
        indptr, np.array(times, np.int64), np.array(types, np.uint16), np.array(signed, np.float32)
    )
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
