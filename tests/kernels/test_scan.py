"""The scan by codes: the plain scan's result to the last bit, whatever the data and the way."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_codes import WAYS
from test_top_k import BROKEN, GOOD, KINDS, assert_equal, broken, csr, vectors

from rankstream.kernels import KernelArgumentError, pack_allowed, scan, top_k
from rankstream.kernels.code_layers import TILE
from rankstream.kernels.code_ways import NAMES
from rankstream.kernels.codes import code_items, empty_codes, write_codes
from rankstream.kernels.shortlist import reached_by

STEADY = settings(derandomize=True, database=None, deadline=None, max_examples=80)
# The package shows the function by this name.
MODULE = sys.modules["rankstream.kernels.top_k"]


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Codes are used however few rows there are, with little room; coarse ones by one query."""
    monkeypatch.setattr(scan, "ROOM", TILE + 16)
    monkeypatch.setattr(scan, "COARSE_BYTES", 0)
    monkeypatch.setattr(MODULE, "worth", lambda codes, k: codes.row_count > 0)
    scan.use_way(NAMES[request.param])
    yield request.param
    scan.use_way("auto")


@st.composite
def searches(draw):
    """Queries, items, blocks, and what may be answered; for many rows and few."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    batch, count = (
        draw(st.sampled_from([1, 1, 1, *range(2, 15)])),
        draw(st.sampled_from([1, 63, 64, 65, 400, 3000])),
    )
    widths = draw(st.sampled_from([[1], [5], [8], [13, 3], [4, 6, 1], [40], [30, 7]]))
    kinds = st.sampled_from(KINDS)
    parts = [[vectors(rng, draw(kinds), n, width) for width in widths] for n in (batch, count)]
    queries, items = (np.ascontiguousarray(np.hstack(blocks)) for blocks in parts)
    if draw(st.booleans()):
        items = items[rng.integers(0, max(1, count // 4), count)]
    bias = vectors(rng, draw(kinds), count, 1)[:, 0].copy() if draw(st.booleans()) else None
    allowed = excluded = None
    if draw(st.booleans()):
        allowed = pack_allowed(rng.random(count) < draw(st.sampled_from([0.0, 0.02, 0.9])))
    if draw(st.booleans()):
        found = [rng.integers(-2, count + 3, rng.integers(0, 40)).tolist() for _ in range(batch)]
        excluded = csr(found)
    offsets = np.cumsum([0, *widths]).astype(np.int64)
    rest = {"bias": bias, "allowed": allowed, "excluded": excluded}
    coded = draw(st.sampled_from([count, count, count // 2]))
    return queries, items, offsets, coded, draw(st.sampled_from([1, 10, 100])), rest


def test_equals_the_plain_scan_to_the_last_bit(assert_same, way):
    @STEADY
    @given(searches())
    def check(search):
        queries, items, offsets, coded, k, rest = search
        codes = code_items(items[:coded], offsets)
        best = top_k(queries, items, k, codes=codes, **rest)
        assert_equal(assert_same, best, top_k(queries, items, k, **rest))

    check()


def test_any_number_of_parts_gives_the_same(assert_same, parts, way):
    rng = np.random.default_rng(11)
    for batch, count in ((1, 5), (7, 1300), (9, 5000), (2, 64)):
        queries, items = (vectors(rng, "small integers", n, 13) for n in (batch, count))
        excluded = csr([rng.integers(0, count, 30).tolist() for _ in range(batch)])
        rest = {"allowed": pack_allowed(rng.random(count) < 0.7), "excluded": excluded}
        best = top_k(queries, items, 20, codes=code_items(items), **rest)
        assert_equal(assert_same, best, top_k(queries, items, 20, **rest))


@pytest.mark.parametrize(("change", "message"), BROKEN)
@pytest.mark.usefixtures("parts")
def test_refuses_what_breaks_the_contract(change, message, way):
    with pytest.raises(KernelArgumentError, match=message):
        top_k(**broken(change), codes=code_items(GOOD))


def test_vectors_as_they_are_are_told_apart_by_their_codes(assert_same):
    rng = np.random.default_rng(3)
    items = vectors(rng, "random", 30_000, 96)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    queries = items[:9] + 0.05 * vectors(rng, "random", 9, 96)

    best = top_k(queries, items, 50, codes=code_items(items))

    assert best.widened == 0
    assert_equal(assert_same, best, top_k(queries, items, 50))


@pytest.mark.parametrize("kind", ["all equal", "clustered", "huge", "denormal"])
def test_what_codes_cannot_tell_apart_is_scanned_itself(assert_same, kind):
    rng = np.random.default_rng(5)
    items, queries = vectors(rng, kind, 9000, 8), vectors(rng, "random", 3, 8)
    rest = {"excluded": csr([[0, 1, 2], [], [5]]), "allowed": pack_allowed(np.arange(9000) % 3 < 2)}

    best = top_k(queries, items, 10, codes=code_items(items), **rest)

    if kind != "huge":
        assert best.widened == 3
    assert_equal(assert_same, best, top_k(queries, items, 10, **rest))


@pytest.mark.parametrize("far", [-1e3, -1e9, -1e30, 1e30])
def test_a_bias_far_from_all_others_widens_nothing(assert_same, far):
    rng = np.random.default_rng(16)
    items, bias = vectors(rng, "random", 20_000, 32), np.zeros(20_000, np.float32)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    bias[[5, 9_000]] = far

    best = top_k(items[:3], items, 10, bias=bias, codes=code_items(items))

    assert best.widened == 0
    assert_equal(assert_same, best, top_k(items[:3], items, 10, bias=bias))


def test_a_row_longer_than_all_others_widens_nothing(assert_same):
    rng = np.random.default_rng(17)
    items = vectors(rng, "random", 20_000, 32)
    items[777] *= 1e7

    best = top_k(items[:3], items, 10, codes=code_items(items))

    assert best.widened == 0
    assert_equal(assert_same, best, top_k(items[:3], items, 10))


@pytest.mark.parametrize("k", [1, 3, 50])
def test_what_k_values_reach_is_found_however_they_lie(k):
    rng = np.random.default_rng(18)
    for far in (0.0, -1e4, -3e38, 3e38, np.inf, -np.inf):
        values = rng.standard_normal(300).astype(np.float32)
        values[7] = far
        best = np.sort(values)[-k - max(1, k // 8)]
        found = reached_by(values, 300, k, np.float32(-np.inf))
        assert (values >= found).sum() >= k
        assert found >= best
        assert reached_by(values, 300, k, np.float32(found)) >= found
    unknown = np.full(9, -np.inf, np.float32)
    assert reached_by(unknown, 9, 1, np.float32(-3.0)) == -3.0


def test_few_rows_are_not_read_coarsely_whatever_room_their_codes_have():
    codes = code_items(np.zeros((100, 16), np.float32))
    whole = codes._replace(row_count=1 << 22)
    assert [scan.reads_coarse(one, 1) for one in (codes, whole)] == [False, True]
    assert not scan.reads_coarse(whole, 2)


def test_some_queries_are_widened_and_others_are_not(assert_same):
    rng = np.random.default_rng(6)
    items = np.hstack([vectors(rng, "random", 9000, 8), np.ones((9000, 1), np.float32)])
    queries = np.zeros((3, 9), np.float32)
    queries[0, :8] = queries[2, 2] = 1.0
    queries[1, 8] = 1.0

    best = top_k(queries, items, 10, codes=code_items(items), bias=np.ones(9000, np.float32))

    assert best.widened == 1
    plain = top_k(queries, items, 10, bias=np.ones(9000, np.float32))
    assert_equal(assert_same, best, plain)


def test_sums_that_overflow_on_their_way_conclude_nothing(assert_same):
    """The score does not overflow, but what its bound is made of does."""
    rng = np.random.default_rng(0)
    partly = np.zeros((6000, 2), np.float32)
    partly[:, 0] = -1e19 - 1e17 * rng.random(6000)
    partly[5000] = -2e19, 2.9e19
    bias = np.full(6000, -1e38, np.float32)
    bias[5000] = -2e38
    large = np.float32(1.9e19)
    wide = np.zeros((6000, 3), np.float32)
    wide[:, 1] = -2e38 / (127 * large) * (1 + 0.01 * rng.random(6000))
    wide[5000] = 127 * large, 0.004 * large, large
    query = np.array([[0, 127 * large, -large]], np.float32)

    for queries, items, offsets, rest in (
        (np.full((1, 2), 1e19, np.float32), partly, np.array([0, 1, 2]), {"bias": bias}),
        (query, wide, None, {}),
    ):
        best = top_k(queries, items, 3, codes=code_items(items, offsets), **rest)
        assert_equal(assert_same, best, top_k(queries, items, 3, **rest))
        assert best.rows[0, 0] == 5000


def test_rows_are_found_while_others_are_coded_beside_them(assert_same):
    rng = np.random.default_rng(15)
    items, count = vectors(rng, "random", 3_000, 32), 1_000
    made = empty_codes(len(items), np.array([0, 32]))
    assert write_codes(made, items[:count], 0) == -1
    codes = code_items(items[:count])._replace(fine=made.fine, coarse=made.coarse)
    queries = vectors(rng, "random", 3, 32)
    known = top_k(queries, items[:count], 20)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(
            lambda: [write_codes(made, items[at : at + 7], at) for at in range(count, 2_990, 7)]
        )
        while not done.done():
            found = top_k(queries, items[:count], 20, codes=codes)
            assert_equal(assert_same, found, known)
    assert set(done.result()) == {-1}


def test_threads_do_not_share_their_work(assert_same):
    rng = np.random.default_rng(14)
    items = vectors(rng, "random", 20_000, 32)
    codes = code_items(items)
    asked = [(vectors(rng, "random", 1 + n % 9, 32), 5 + 17 * (n % 4)) for n in range(24)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: top_k(one[0], items, one[1], codes=codes), asked))

    for best, (queries, k) in zip(found, asked, strict=True):
        assert_equal(assert_same, best, top_k(queries, items, k))


def test_a_bad_bias_of_an_allowed_row_is_refused(assert_same, way):
    rng = np.random.default_rng(1)
    items, bias = vectors(rng, "random", 500, 8), np.zeros(500, np.float32)
    codes = code_items(items[:300])
    for row in (7, 299, 300, 499):
        bias[:] = 0
        bias[row] = np.nan
        with pytest.raises(KernelArgumentError, match=f"bias: is nan at row {row}"):
            top_k(items[:2], items, 3, bias=bias, codes=codes)
        rest = {"bias": bias, "allowed": pack_allowed(np.arange(500) != row)}
        best = top_k(items[:2], items, 3, codes=codes, **rest)
        assert_equal(assert_same, best, top_k(items[:2], items, 3, **rest))


def test_a_bias_that_outweighs_all_else_is_exact_beside_one_that_is_not_looked_at(assert_same, way):
    rng = np.random.default_rng(12)
    items = vectors(rng, "random", 4000, 16)
    for size in (1e3, 1e7, 1e30):
        bias = (size * (1 + 1e-7 * rng.standard_normal(4000))).astype(np.float32)
        barred = rng.random(4000) < 0.3
        bias[barred] = rng.choice([np.nan, np.inf, -np.inf], barred.sum())
        rest = {"bias": bias, "allowed": pack_allowed(~barred)}
        best = top_k(items[:5], items, 20, codes=code_items(items), **rest)
        assert_equal(assert_same, best, top_k(items[:5], items, 20, **rest))


def test_codes_of_other_items_are_refused():
    items = np.ones((100, 6), np.float32)
    query = np.ones((1, 6), np.float32)
    for codes in (code_items(np.ones((101, 6), np.float32)), code_items(items[:, :5].copy())):
        with pytest.raises(KernelArgumentError, match="codes: are of"):
            top_k(query, items, 1, codes=codes)


def test_ways_are_named_and_unknown_ones_refused():
    assert scan.way_in_use() in NAMES.values()
    with pytest.raises(KernelArgumentError, match="auto, or one of .*plain"):
        scan.use_way("fastest")


def test_no_rows_have_codes_too():
    none = np.empty((0, 5), np.float32)
    best = top_k(np.ones((2, 5), np.float32), none, 3, codes=code_items(none))
    assert best.rows.shape == (2, 0)
