import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankstream.kernels import KernelArgumentError, pack_allowed, score_rows, top_k

STEADY = settings(derandomize=True, database=None, deadline=None, max_examples=60)
KINDS = ("random", "small integers", "all equal", "clustered", "huge", "denormal", "zero")


def vectors(rng, kind, count, dimensions):
    """float32 vectors of a kind that is hard in its own way."""
    shape = (count, dimensions)
    random = rng.standard_normal(shape)
    made = {
        "random": random,
        "small integers": rng.integers(-2, 3, shape),
        "all equal": np.full(shape, 0.3),
        "clustered": 1.0 + random * 1e-7,
        "huge": random * 1e37,
        "denormal": random * 1e-42,
        "zero": np.zeros(shape) * random,
    }
    return made[kind].astype(np.float32)


def csr(groups):
    """``(indptr, rows)`` of lists of rows."""
    indptr = np.cumsum([0, *(len(group) for group in groups)]).astype(np.int64)
    return indptr, np.array([row for group in groups for row in group], np.int32)


def assert_equal(assert_same, have, want):
    assert_same(have.rows, want.rows)
    assert_same(have.scores, want.scores)
    assert_same(have.counts, want.counts)


@st.composite
def searches(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    batch, count = draw(st.integers(0, 9)), draw(st.integers(0, 150))
    dimensions = draw(st.sampled_from([1, 2, 5, 7, 8, 9, 16, 31, 40]))
    kind = draw(st.sampled_from(KINDS))
    queries, items = (vectors(rng, kind, n, dimensions) for n in (batch, count))
    if count and draw(st.booleans()):
        items = items[rng.integers(0, max(1, count // 4), count)]
    bias = (
        vectors(rng, draw(st.sampled_from(KINDS)), count, 1)[:, 0] if draw(st.booleans()) else None
    )
    allowed = (
        rng.random(count) < draw(st.sampled_from([0.0, 0.1, 0.9])) if draw(st.booleans()) else None
    )
    excluded = None
    if draw(st.booleans()):
        excluded = [rng.integers(-2, count + 3, rng.integers(0, 40)).tolist() for _ in range(batch)]
    return queries, items, draw(st.integers(1, 160)), bias, allowed, excluded


def run(search):
    queries, items, k, bias, allowed, excluded = search
    return top_k(
        queries,
        items,
        k,
        bias=None if bias is None else np.ascontiguousarray(bias),
        allowed=None if allowed is None else pack_allowed(allowed),
        excluded=None if excluded is None else csr(excluded),
    )


@STEADY
@given(searches())
def test_equals_the_oracle_to_the_last_bit(oracle, assert_same, search):
    assert_equal(assert_same, run(search), oracle.top_k(*search))


def test_any_number_of_parts_gives_the_same(oracle, assert_same, parts):
    rng = np.random.default_rng(7)
    for batch, count in ((1, 5), (5, 130), (6, 700), (2, 0)):
        queries = vectors(rng, "small integers", batch, 13)
        items = vectors(rng, "small integers", count, 13)
        excluded = [rng.integers(0, max(count, 1), 30).tolist() for _ in range(batch)]
        search = (queries, items, 50, None, rng.random(count) < 0.7, excluded)
        assert_equal(assert_same, run(search), oracle.top_k(*search))


def test_ties_go_to_the_lower_row():
    items = np.ones((1000, 8), np.float32)
    assert top_k(items[:1], items, 5).rows.tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("order", [1, -1])
def test_sorted_catalogue(order):
    items = np.arange(1, 3001, dtype=np.float32)[::order].reshape(-1, 1).copy()
    best = top_k(np.ones((1, 1), np.float32), items, 3)
    assert best.scores.tolist() == [[3000.0, 2999.0, 2998.0]]
    assert best.rows[0, 0] == (2999 if order == 1 else 0)


def test_a_score_is_rounded_once():
    # S = 1 + 2^-24 lies between two fp32 numbers: rounding it before the bias would lose both.
    queries = np.array([[1.0, 2.0**-24]], np.float32)
    items = np.ones((1, 2), np.float32)
    bias = np.array([2.0**-40], np.float32)
    assert top_k(queries, items, 1, bias=bias).scores[0, 0] == np.float32(1.0 + 2.0**-23)
    assert top_k(queries, items, 1).scores[0, 0] == 1.0


def test_the_order_of_the_sum_is_the_documented_one(oracle):
    rng = np.random.default_rng(3)
    seen = set()
    for _ in range(300):
        q, x = (
            rng.standard_normal((1, 40)).astype(np.float32) * 10.0 ** rng.integers(-6, 7, 40)
            for _ in "qx"
        )
        q, x = q.astype(np.float32), x.astype(np.float32)
        bias = np.array([-np.float32(oracle.inner(q[0], x[0]))])
        have = top_k(q, x, 1, bias=bias).scores[0, 0]
        assert have == oracle.score(q[0], x[0], bias[0])
        naive = np.float32(np.sum(q[0].astype(np.float64) * x[0]) + np.float64(bias[0]))
        seen.add(bool(have == naive))
    assert False in seen, "the inputs must tell orders apart"


def test_fewer_allowed_than_k():
    items = np.eye(10, dtype=np.float32)
    mask = np.zeros(10, np.bool_)
    mask[[2, 9]] = True
    best = top_k(items[2:3], items, 4, allowed=pack_allowed(mask), excluded=csr([[9, 9, -1, 99]]))
    assert best.rows.tolist() == [[2, -1, -1, -1]]
    assert best.counts.tolist() == [1]
    assert best.scores.tolist() == [[1.0, -np.inf, -np.inf, -np.inf]]


def test_scores_that_overflow_keep_their_order():
    items = np.array([[-3e38], [3e38], [1.0], [3e38]], np.float32)
    best = top_k(np.array([[3e38]], np.float32), items, 4)
    assert best.rows.tolist() == [[1, 3, 2, 0]]
    assert best.scores[0, 0] == np.inf
    assert best.scores[0, 3] == -np.inf
    assert best.counts.tolist() == [4]


def test_a_zero_score_is_positive():
    best = top_k(np.array([[1e-40]], np.float32), np.array([[-1e-40], [0.0]], np.float32), 2)
    assert best.rows.tolist() == [[0, 1]]
    assert not np.signbit(best.scores).any()


def test_reads_a_memory_map(tmp_path, assert_same):
    rng = np.random.default_rng(1)
    items = vectors(rng, "random", 300, 24)
    (tmp_path / "segment").write_bytes(b"head" + items.tobytes())
    mapped = np.memmap(tmp_path / "segment", np.float32, "r", offset=4, shape=items.shape)
    buffer = np.frombuffer(items.tobytes(), np.float32).reshape(items.shape)
    want = top_k(items[:3], items, 20)
    for other in (mapped, buffer):
        assert_equal(assert_same, top_k(buffer[:3], other, 20), want)


def test_scan_and_candidates_agree(assert_same, parts):
    rng = np.random.default_rng(5)
    queries, items = vectors(rng, "random", 7, 33), vectors(rng, "random", 999, 33)
    bias = vectors(rng, "random", 999, 1).ravel()
    best = top_k(queries, items, 60, bias=bias)
    indptr = np.arange(0, 7 * 60 + 1, 60)
    scores = score_rows(queries, items, indptr, best.rows.ravel(), bias=bias)
    assert_same(scores.reshape(best.scores.shape), best.scores)


GOOD = np.ones((4, 8), np.float32)


BROKEN = [
    ({"queries": GOOD.astype(np.float64)}, "queries: has dtype <f8"),
    ({"queries": GOOD[0]}, r"queries: has shape \(8,\)"),
    ({"queries": GOOD[:, :4].copy()}, "queries: has 4 dimensions; expected 8"),
    ({"queries": GOOD * np.nan}, r"queries: is nan at \(0, 0\); expected finite"),
    ({"queries": GOOD * np.inf}, "queries: is inf"),
    ({"queries": [[1.0]]}, "queries: is list"),
    ({"items": GOOD.astype(">f4")}, "items: has dtype >f4"),
    ({"items": np.asfortranarray(GOOD)}, "items: is not C-contiguous"),
    ({"items": GOOD[::2]}, "items: is not C-contiguous"),
    ({"items": np.frombuffer(b"x" * 129, np.float32, 32, 1).reshape(4, 8)}, "items: is not C-"),
    ({"items": np.ones((4, 0), np.float32)}, r"items: has shape \(4, 0\)"),
    ({"k": 0}, "k: is 0; expected an integer of at least 1"),
    ({"k": 1.5}, "k: is 1.5"),
    ({"bias": np.ones(3, np.float32)}, r"bias: has shape \(3,\)"),
    ({"bias": np.array([0, 0, -np.inf, 0], np.float32)}, "bias: is -inf at row 2"),
    ({"bias": np.array([0, np.nan, 0, 0], np.float32)}, "bias: is nan at row 1"),
    ({"allowed": np.ones(4, np.bool_)}, "allowed: has dtype"),
    ({"allowed": np.ones(2, np.uint8)}, r"allowed: has shape \(2,\)"),
    ({"excluded": np.ones(2, np.int32)}, "excluded: is ndarray; expected a pair"),
    ({"excluded": (np.zeros(2, np.int64), np.ones(0, np.int32))}, "excluded indptr: has shape"),
    ({"excluded": csr([[1], [], [], [2]])[::-1]}, "excluded rows: has dtype <i8"),
    ({"excluded": (np.array([0, 2, 1, 1, 1]), np.ones(1, np.int32))}, "excluded indptr: runs"),
    ({"excluded": (np.array([0, 0, 0, 0, 0]), np.ones(1, np.int32))}, "excluded indptr: runs"),
]


def broken(change):
    """The arguments of a call with one of ``BROKEN``."""
    arguments = {"queries": GOOD, "items": GOOD, "k": 2, **change}
    if "items" in change and change["items"].shape[1] == 0:
        arguments["queries"] = change["items"]
    return arguments


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_refuses_what_breaks_the_contract(change, message, parts):
    with pytest.raises(KernelArgumentError, match=message):
        top_k(**broken(change))


def test_a_bad_bias_of_a_forbidden_row_is_not_looked_at():
    bias = np.array([0, np.nan, 0, 0], np.float32)
    mask = np.array([True, False, True, True])
    assert top_k(GOOD, GOOD, 4, bias=bias, allowed=pack_allowed(mask)).counts.tolist() == [3] * 4


def test_a_row_that_is_not_finite_harms_no_other():
    items = GOOD.copy()
    items[1] = np.nan
    assert set(top_k(GOOD[:1], items, 3).rows[0].tolist()) >= {0, 2, 3}
