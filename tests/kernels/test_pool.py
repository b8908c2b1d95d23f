import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankstream.kernels import (
    MAX_WEIGHT,
    KernelArgumentError,
    block_parts,
    contributions,
    pool,
    score_rows,
)

STEADY = settings(derandomize=True, database=None, deadline=None, max_examples=50)


def histories(rng, batch, count, longest):
    sizes = rng.integers(0, longest + 1, batch)
    indptr = np.cumsum([0, *sizes]).astype(np.int64)
    return rng.integers(-1, count, indptr[-1]).astype(np.int32), indptr


@st.composite
def pools(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    offsets = np.cumsum([0, *draw(st.lists(st.integers(1, 21), min_size=1, max_size=4))])
    width = int(offsets[-1]) + draw(st.integers(0, 5))
    items = rng.standard_normal((draw(st.integers(0, 30)), width))
    items *= draw(st.sampled_from([1.0, 1e37, 1e-42]))
    items[:, : offsets[1]] *= rng.random((len(items), 1)) < 0.5
    rows, indptr = histories(rng, draw(st.integers(0, 6)), len(items), 20)
    weights = rng.standard_normal(rows.size) * draw(st.sampled_from([1.0, 1e-200, 1e89]))
    block_weights = rng.integers(-1, 3, (indptr.size - 1, offsets.size - 1)) / 3
    return rows, indptr, weights, items.astype(np.float32), offsets, block_weights


@STEADY
@given(pools())
def test_pool_equals_the_oracle_to_the_last_bit(oracle, assert_same, arguments):
    with np.errstate(under="ignore"):
        queries, norms = oracle.pool(*arguments)
    have = pool(*arguments)
    assert_same(have.queries, queries)
    assert_same(have.norms, norms)


@STEADY
@given(pools(), st.integers(0, 2**32), st.integers(1, 25))
def test_contributions_equal_the_oracle_to_the_last_bit(oracle, assert_same, given_pool, seed, n):
    rows, indptr, weights, items, offsets, block_weights = given_pool
    pooled = pool(*given_pool)
    pair_rows, pair_indptr = histories(np.random.default_rng(seed), indptr.size - 1, len(items), 4)
    arguments = (
        *(rows, indptr, weights, pooled.norms, items, offsets, block_weights),
        *(pair_rows, pair_indptr, n),
    )
    with np.errstate(all="ignore"):
        interactions, best = oracle.contributions(*arguments)
    have = contributions(*arguments)
    assert_same(have.interactions, interactions)
    assert_same(have.contributions + 0.0, best + 0.0)
    parts = block_parts(pooled.queries, items, pair_indptr, pair_rows, offsets)
    assert_same(parts, oracle.block_parts(pooled.queries, items, pair_indptr, pair_rows, offsets))


def case(seed=0):
    """Two queries over 50 items in two blocks, with 3 pairs each."""
    rng = np.random.default_rng(seed)
    items = rng.standard_normal((50, 24)).astype(np.float32)
    rows, indptr = histories(rng, 2, 50, 30)
    offsets, block_weights = np.array([0, 16, 24]), np.array([[0.8, 0.2], [0.5, -0.5]])
    return rows, indptr, rng.standard_normal(rows.size), items, offsets, block_weights


def test_contributions_and_parts_sum_to_the_score():
    rows, indptr, weights, items, offsets, block_weights = arguments = case()
    queries, norms = pool(*arguments)
    pair_rows, pair_indptr = np.array([3, 7, 9, 3, 8, 49], np.int32), np.array([0, 3, 6])
    scores = score_rows(queries, items, pair_indptr, pair_rows)
    reasons = contributions(
        *(rows, indptr, weights, norms, items, offsets, block_weights, pair_rows, pair_indptr, 99)
    )
    np.testing.assert_allclose(reasons.contributions.sum(axis=1), scores, atol=1e-5)
    parts = block_parts(queries, items, pair_indptr, pair_rows, offsets)
    np.testing.assert_allclose(parts.sum(axis=1), scores, rtol=1e-6, atol=1e-6)


def test_blocks_are_normalised_apart_and_weighted():
    rows, indptr, weights, items, offsets, block_weights = arguments = case(1)
    queries, norms = pool(*arguments)
    for n, (start, stop) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        have = np.linalg.norm(queries[:, start:stop].astype(np.float64), axis=1)
        np.testing.assert_allclose(have, np.abs(block_weights[:, n]), rtol=1e-6)
    assert (norms > 0).all()


def test_nothing_known_gives_zero():
    items = np.ones((3, 8), np.float32)
    rows, indptr = np.array([-1, -1], np.int32), np.array([0, 2, 2])
    queries, norms = pool(rows, indptr, np.ones(2), items, np.array([0, 8]), np.ones((2, 1)))
    assert not queries.any()
    assert not norms.any()


def test_opposite_weights_cancel_to_zero():
    items = np.ones((1, 8), np.float32)
    rows, indptr = np.zeros(2, np.int32), np.array([0, 2])
    weights = np.array([0.5, -0.5])
    assert not pool(rows, indptr, weights, items, np.array([0, 8]), np.ones((1, 1))).queries.any()


def test_any_number_of_parts_gives_the_same(oracle, assert_same, parts):
    rng = np.random.default_rng(9)
    items = rng.standard_normal((30, 11)).astype(np.float32)
    offsets = np.array([0, 4, 11])
    for batch, longest in ((0, 0), (1, 40), (7, 9), (5, 0)):
        rows, indptr = histories(rng, batch, 30, longest)
        arguments = rows, indptr, rng.random(rows.size), items, offsets, rng.random((batch, 2))
        queries, norms = pool(*arguments)
        assert_same(queries, oracle.pool(*arguments)[0])
        explained = (*arguments[:3], norms, *arguments[3:], *histories(rng, batch, 30, 3), 4)
        have, want = contributions(*explained), oracle.contributions(*explained)
        assert_same(have.interactions, want[0])
        assert_same(have.contributions, want[1])


def test_reasons_tie_to_the_earlier_interaction():
    items = np.ones((2, 8), np.float32)
    rows, indptr = np.array([-1, 1, 0, 1], np.int32), np.array([0, 4])
    weights, offsets, ones = np.array([9.0, 1.0, 1.0, 2.0]), np.array([0, 8]), np.ones((1, 1))
    norms = pool(rows, indptr, weights, items, offsets, ones).norms
    pairs = np.array([0, -1], np.int32), np.array([0, 2])
    reasons = contributions(rows, indptr, weights, norms, items, offsets, ones, *pairs, 4)
    assert reasons.interactions.tolist() == [[3, 1, 2, -1], [-1, -1, -1, -1]]
    assert reasons.contributions[0, 3] == 0.0


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, np.full(2, 50, np.int32), "rows: is 50 at 0; expected -1 or a row below 50"),
        (0, np.array([0, -2], np.int32), "rows: is -2 at 1"),
        (1, np.array([0, 1, 3]), "indptr: runs from 0 to 3"),
        (2, np.array([0.0, np.nan]), "weights: is nan at 1; expected finite numbers"),
        (2, np.array([0.0, 2 * MAX_WEIGHT]), "weights: is 2e.90 at 1"),
        (2, np.ones(3), r"weights: has shape \(3,\)"),
        (3, np.ones((50, 24)), "items: has dtype <f8"),
        (4, np.array([0, 16, 25]), "block_offsets: is"),
        (4, np.array([0, 16, 16]), "block_offsets: is"),
        (4, np.array([1, 16, 24]), "block_offsets: is"),
        (5, np.ones((2, 3)), r"block_weights: has shape \(2, 3\)"),
        (5, np.full((2, 2), np.inf), "block_weights: is inf"),
    ],
)
def test_refuses_what_breaks_the_contract(position, value, message, parts):
    arguments = [np.zeros(2, np.int32), np.array([0, 1, 2]), np.ones(2), *case()[3:]]
    arguments[position] = value
    with pytest.raises(KernelArgumentError, match=message):
        pool(*arguments)
    pairs = np.zeros(1, np.int32), np.array([0, 1, 1])
    with pytest.raises(KernelArgumentError, match=message):
        contributions(*arguments[:3], np.ones((2, 2)), *arguments[3:], *pairs, 1)


def test_refuses_pairs_that_do_not_exist():
    items, offsets = np.ones((2, 8), np.float32), np.array([0, 8])
    with pytest.raises(KernelArgumentError, match="pair rows: is 2 at 0"):
        block_parts(items[:1], items, np.array([0, 1]), np.array([2], np.int32), offsets)
