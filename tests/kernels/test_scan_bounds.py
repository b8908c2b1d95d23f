"""What the scan's bounds say of a score, and which codes it reads for how many rows."""

import itertools

import numpy as np
import pytest
from test_top_k import KINDS, assert_equal, vectors

from rankstream.kernels import scan, top_k
from rankstream.kernels.arrays import frozen
from rankstream.kernels.code_ways import NAMES, supported
from rankstream.kernels.codes import code_items
from rankstream.kernels.scan_cpu import Source, _scan_part, coded_queries, plan_turns
from rankstream.kernels.shortlist import empty
from rankstream.kernels.terms import Terms

WAYS_HERE = [number for number in NAMES if supported(number)]


@pytest.mark.parametrize("widths", [[24], [10, 14], [1] * 24])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "huge"])
def test_scores_lie_between_the_ends_that_the_scan_gives_them(kind, widths):
    rng = np.random.default_rng(8)
    items, queries = vectors(rng, kind, 700, 24), vectors(rng, kind, 3, 24)
    for bias in (np.zeros(700, np.float32), 1 + 1e-7 * vectors(rng, "random", 700, 1)[:, 0]):
        check_ends(queries, items, bias, np.cumsum([0, *widths]))


def test_many_small_blocks_beside_a_large_bias_are_not_rounded_away():
    # Each block adds less than half of what fp32 can tell from the sum so far.
    small = np.full((700, 40), 0.45 * 2.0**-13, np.float32)
    queries = np.full((2, 40), 2.0**-10, np.float32)
    queries[1] *= -1
    check_ends(queries, small, np.ones(700, np.float32), np.arange(41))


def check_ends(queries, items, bias, offsets):
    """Makes a candidate of every row, and compares its ends with its score in fp64."""
    codes = code_items(items, offsets)
    found = scan._shortlists(1, len(queries), 1024)
    nothing = frozen(np.empty(0, np.uint8)), frozen(np.empty(0, np.int64))
    terms = Terms(
        frozen(bias), frozen(bias.view(np.uint32)), *nothing, frozen(np.empty(0, np.int32))
    )
    items, queries = frozen(items.copy()), frozen(queries.copy())
    for number, layer in itertools.product(WAYS_HERE, (codes.fine, codes.coarse)):
        packed = layer is codes.coarse
        coded = coded_queries(queries, codes.offsets, codes.steps, int(packed))
        empty(found, 300)
        found.due[:], turns = 1 << 40, (plan_turns(len(items), 1), np.zeros(1, np.int64))
        source = Source(*layer, codes.steps, len(items), number, int(packed))
        # More than there are: nothing is narrowed, or scored.
        assert _scan_part(0, *turns, source, 1000, coded, queries, items, terms, found) == -1
        assert found.sizes.tolist() == [[len(items)] * len(queries)]
        for b, query in enumerate(queries.astype(float)):
            rows = found.rows[0, b, : len(items)]
            scores = (items.astype(float) @ query + bias)[rows]
            assert (found.lower[0, b, : len(items)] <= scores).all()
            assert (scores <= found.upper[0, b, : len(items)]).all()


def test_many_rows_are_read_coarsely_by_one_query_with_the_same_result(assert_same, monkeypatch):
    rng = np.random.default_rng(4)
    items = vectors(rng, "random", 40_000, 48)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    codes, bias = code_items(items), 0.1 * vectors(rng, "random", 40_000, 1)[:, 0]
    layers = []
    one_layer = scan._scan
    monkeypatch.setattr(scan, "_scan", lambda *a: layers.append(a[5]) or one_layer(*a))
    for size, expected in ((0, [True]), (1 << 40, [False])):
        monkeypatch.setattr(scan, "COARSE_BYTES", size)
        layers.clear()
        best = top_k(items[:1], items, 50, bias=bias, codes=codes)
        assert_equal(assert_same, best, top_k(items[:1], items, 50, bias=bias))
        assert layers == expected
        assert best.widened == 0


def test_what_is_too_coarse_in_six_bits_is_read_in_eight(assert_same, monkeypatch):
    monkeypatch.setattr(scan, "COARSE_BYTES", 0)
    monkeypatch.setattr(scan, "COARSE_ROOM", 1)
    layers = []
    one_layer = scan._scan
    monkeypatch.setattr(scan, "_scan", lambda *a: layers.append(a[5]) or one_layer(*a))
    rng = np.random.default_rng(4)
    # Near enough to be alike in six bits, and far enough apart for eight.
    items = 1.0 + np.float32(0.015) * vectors(rng, "random", 60_000, 16)
    query = np.ones((1, 16), np.float32)

    best = top_k(query, items, 10, codes=code_items(items))

    assert_equal(assert_same, best, top_k(query, items, 10))
    assert layers == [True, False]
    assert best.widened == 0


def test_a_shortlist_that_is_full_is_sharpened_before_it_is_given_up(assert_same):
    rng = np.random.default_rng(13)
    items = vectors(rng, "random", 150_000, 24)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    queries = items[:2] + vectors(rng, "random", 2, 24) / 4

    best = top_k(queries, items, 2_000, codes=code_items(items))

    assert best.widened == 0
    assert_equal(assert_same, best, top_k(queries, items, 2_000))
