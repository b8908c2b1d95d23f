import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankstream.kernels import KernelArgumentError, rank_candidates, score_rows, top_k

STEADY = settings(derandomize=True, database=None, deadline=None, max_examples=60)


@st.composite
def candidates(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    batch, count = draw(st.integers(0, 7)), draw(st.integers(0, 40))
    dimensions = draw(st.sampled_from([1, 3, 8, 13, 24]))
    levels = draw(st.sampled_from([1, 3, 1000]))
    queries, items = (
        rng.integers(-levels, levels + 1, (n, dimensions)).astype(np.float32) / 7
        for n in (batch, count)
    )
    bias = rng.standard_normal(count).astype(np.float32) if draw(st.booleans()) else None
    sizes = rng.integers(0, 25, batch) * rng.integers(0, 2, batch)
    indptr = np.cumsum([0, *sizes]).astype(np.int64)
    rows = rng.integers(-1, count, indptr[-1]).astype(np.int32)
    return queries, items, indptr, rows, bias, draw(st.integers(1, 30))


@STEADY
@given(candidates())
def test_equals_the_oracle_to_the_last_bit(oracle, assert_same, given_candidates):
    queries, items, indptr, rows, bias, k = given_candidates
    want = oracle.score_rows(queries, items, indptr, rows, bias)
    assert_same(score_rows(queries, items, indptr, rows, bias=bias), want)
    ranking = rank_candidates(queries, items, indptr, rows, k, bias=bias)
    best = oracle.rank(indptr, rows, want, k)
    assert_same(ranking.positions, best.rows)
    assert_same(ranking.scores, best.scores)
    assert_same(ranking.counts, best.counts)


def test_any_number_of_parts_gives_the_same(oracle, assert_same, parts):
    rng = np.random.default_rng(2)
    queries, items = (rng.standard_normal((n, 20)).astype(np.float32) for n in (5, 60))
    for sizes in ([0, 1, 0, 30, 2], [0, 0, 0, 0, 0], [200, 0, 0, 0, 0], [1, 1, 1, 1, 1]):
        indptr = np.cumsum([0, *sizes]).astype(np.int64)
        rows = rng.integers(-1, 60, indptr[-1]).astype(np.int32)
        want = oracle.score_rows(queries, items, indptr, rows)
        assert_same(score_rows(queries, items, indptr, rows), want)


def test_duplicates_stay_in_their_order():
    items = np.array([[1.0], [2.0]], np.float32)
    rows = np.array([0, 1, -1, 0, 1, 0], np.int32)
    ranking = rank_candidates(items[:1], items, np.array([0, 6]), rows, 4)
    assert ranking.positions.tolist() == [[1, 4, 0, 3]]
    assert ranking.scores.tolist() == [[2.0, 2.0, 1.0, 1.0]]
    assert ranking.counts.tolist() == [4]


def test_ranking_every_row_is_top_k(assert_same):
    rng = np.random.default_rng(4)
    queries, items = (rng.integers(-2, 3, (n, 9)).astype(np.float32) for n in (3, 80))
    rows = np.tile(rng.permutation(80).astype(np.int32), 3)
    ranking = rank_candidates(queries, items, np.arange(0, 241, 80), rows, 50)
    best = top_k(queries, items, 50)
    assert_same(rows[ranking.positions], best.rows)
    assert_same(ranking.scores, best.scores)


GOOD = np.ones((4, 8), np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": np.array([0, 4], np.int32)}, "rows: is 4 at 1; expected -1 or a row below 4"),
        ({"rows": np.array([-2, 0], np.int32)}, "rows: is -2 at 0"),
        ({"rows": np.array([0, 1])}, "rows: has dtype <i8"),
        ({"rows": np.array([0], np.int32)}, "indptr: runs from 0 to 2"),
        ({"indptr": np.array([0, 2])}, r"indptr: has shape \(2,\)"),
        ({"bias": np.array([0, np.inf, 0, 0], np.float32)}, "bias: is inf at row 1"),
        ({"queries": GOOD * np.nan}, "queries: is nan"),
        ({"queries": np.ones((4, 7), np.float32)}, "queries: has 7 dimensions"),
    ],
)
def test_refuses_what_breaks_the_contract(change, message, parts):
    arguments = {
        "queries": GOOD,
        "items": GOOD,
        "indptr": np.array([0, 1, 2, 2, 2]),
        "rows": np.array([0, 1], np.int32),
        **change,
    }
    with pytest.raises(KernelArgumentError, match=message):
        score_rows(**arguments)
    with pytest.raises(KernelArgumentError, match=message):
        rank_candidates(**arguments, k=1)
