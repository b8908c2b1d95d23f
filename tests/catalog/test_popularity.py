"""The bias: counters that merge in any order, and popularity that decays."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankstream.server.catalog.popularity import (
    MAX_BUCKETS,
    Popularity,
    add_counts,
    read_counter,
    read_counters,
)
from rankstream.server.store import Store

HALF_LIFE = 4.0


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = Store(tmp_path_factory.mktemp("popularity"), map_size_gib=1, write=True)
    yield made
    made.close()


class Undone(Exception):
    """Leaves a write transaction without a commit."""


def new_popularity(weight=1.0):
    return Popularity(weight=weight, half_life_s=HALF_LIFE * 10, bucket_s=10)


def add(txn, batch):
    """Adds (key, bucket, delta) records as the fold does: summed, sorted, without zeros."""
    total = Counter()
    for key, bucket, delta in batch:
        total[key, bucket] += delta
    rows = sorted((key, bucket, delta) for (key, bucket), delta in total.items() if delta)
    keys, buckets, deltas = zip(*rows, strict=True) if rows else ((), (), ())
    return add_counts(
        txn, np.array(keys, np.uint64), np.array(buckets, np.int64), np.array(deltas, np.int64)
    )


def fold(store, batches, popularity=None):
    """The counters that batches lead to; the store stays empty."""
    keys = {key for batch in batches for key, _, _ in batch}
    try:
        with store.write() as txn:
            for batch in batches:
                touched = add(txn, batch)
                if popularity is not None:
                    popularity.update(touched)
                    # What is kept of it must not show in what comes later.
                    popularity.bias(touched.keys)
            stored = {key: read_counter(txn, key) for key in keys}
            if popularity is not None:
                assert_loads_the_same(txn, popularity, keys)
            raise Undone
    except Undone:
        return {key: counter for key, counter in stored.items() if counter}


def assert_loads_the_same(txn, popularity, keys):
    """A restart finds the popularity that there was."""
    loaded, names = new_popularity(), np.array(sorted(keys), np.uint64)
    loaded.load(txn)
    np.testing.assert_array_equal(loaded.bias(names), popularity.bias(names))


def bias_of(store, counters, keys, weight=1.0):
    popularity = new_popularity(weight)
    batch = [(key, bucket, n) for key, counter in counters.items() for bucket, n in counter]
    try:
        with store.write() as txn:
            popularity.update(add(txn, batch))
            raise Undone
    except Undone:
        return popularity.bias(np.array(keys, np.uint64))


def expected_bias(counters, keys, weight):
    """The formula of the module, term by term."""
    newest = max((b for c in counters.values() for b, n in c if n > 0), default=0)
    popular = {
        key: sum(n * 2.0 ** ((bucket - newest) / HALF_LIFE) for bucket, n in counter)
        for key, counter in counters.items()
    }
    logs = [math.log1p(popular.get(key, 0.0)) for key in keys]
    greatest = max(logs, default=0.0)
    return [weight * value / greatest if greatest else 0.0 for value in logs]


deltas = st.tuples(st.integers(1, 4), st.integers(0, 9), st.integers(-2, 5).filter(bool))
adds = st.tuples(st.integers(1, 2), st.integers(0, 90), st.integers(1, 5))


@st.composite
def rebatched(draw, log):
    """A log, and the same records reordered and cut into other batches."""
    records = draw(st.lists(log, max_size=120))
    other = draw(st.permutations(records))
    cuts = sorted(draw(st.lists(st.integers(0, len(records)), max_size=4)))
    bounds = zip([0, *cuts], [*cuts, len(records)], strict=True)
    return records, [other[a:b] for a, b in bounds]


@settings(max_examples=40, deadline=None)
@given(case=rebatched(deltas))
def test_counters_do_not_depend_on_order_or_batches(store, case):
    records, batches = case

    assert fold(store, [records]) == fold(store, batches)


@settings(max_examples=40, deadline=None)
@given(case=rebatched(adds))
def test_the_newest_buckets_are_kept_whatever_the_order(store, case):
    records, batches = case
    total = {}
    for key, bucket, delta in records:
        counter = total.setdefault(key, {})
        counter[bucket] = counter.get(bucket, 0) + delta

    stored = fold(store, batches)

    assert stored == {k: sorted(c.items())[-MAX_BUCKETS:] for k, c in total.items()}


def test_a_bucket_that_sums_to_zero_is_gone(store):
    assert fold(store, [[(1, 5, 2)], [(1, 5, -2), (1, 6, 1)]]) == {1: [(6, 1)]}


def test_nothing_to_add_adds_nothing(store):
    assert fold(store, [[]]) == {}


@settings(max_examples=60, deadline=None)
@given(
    counters=st.dictionaries(
        st.integers(0, 2**64 - 1),
        st.dictionaries(st.integers(0, 40), st.integers(1, 1000), min_size=1, max_size=8),
        max_size=6,
    )
)
def test_the_bias_is_what_the_formula_says(store, counters):
    sorted_counters = {k: sorted(c.items()) for k, c in counters.items()}
    keys = [*counters, 12345]

    found = bias_of(store, sorted_counters, keys, weight=0.3)

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected_bias(sorted_counters, keys, 0.3), rtol=1e-6)


def test_the_bias_lies_between_zero_and_its_weight(store):
    found = bias_of(store, {1: [(0, 10)], 2: [(8, 10)], 3: [(8, 1)]}, [1, 2, 3, 4], weight=0.5)

    assert found[1] == np.float32(0.5)
    assert found[3] == 0
    assert found[1] > found[0] > found[2] > 0


def test_an_old_count_fades_as_the_log_goes_on(store):
    before = bias_of(store, {1: [(0, 10)], 2: [(0, 5)]}, [1, 2])
    after = bias_of(store, {1: [(0, 10)], 2: [(0, 5), (16, 5)]}, [1, 2])

    assert before.tolist()[0] == 1.0
    assert after.tolist()[1] == 1.0
    assert after[0] < 0.4


def test_counts_of_long_ago_do_not_overflow_or_vanish(store):
    (old, new) = bias_of(store, {1: [(0, 1), (20_000, 1)], 2: [(20_000, 1)]}, [1, 2])

    assert old == new == 1.0


def test_a_counter_below_zero_is_no_popularity(store):
    assert bias_of(store, {1: [(3, -4)], 2: [(3, 4)]}, [1, 2]).tolist() == [0.0, 1.0]


def test_a_counter_stops_at_what_it_can_hold(store):
    most = 2**31 - 1

    assert fold(store, [[(1, 5, most)], [(1, 5, 10)]]) == {1: [(5, most)]}


@settings(max_examples=30, deadline=None)
@given(case=rebatched(adds))
def test_popularity_follows_batch_by_batch_to_the_same_end(store, case):
    records, batches = case
    one, many = new_popularity(), new_popularity()
    keys = np.array([1, 2, 3], np.uint64)

    fold(store, [records], one)
    fold(store, batches, many)

    np.testing.assert_allclose(many.bias(keys), one.bias(keys), rtol=1e-6)


def test_popularity_grows_beyond_its_first_room(store):
    counters = {key: [(key % 7, key + 1)] for key in range(3000)}
    keys = np.arange(3000, dtype=np.uint64)
    grown = new_popularity()

    fold(store, [[(k, b, n) for b, n in c] for k, c in counters.items()], grown)

    np.testing.assert_allclose(grown.bias(keys), expected_bias(counters, keys, 1.0), rtol=1e-6)


def test_the_revision_grows_with_changes_alone(store):
    popularity = new_popularity()

    fold(store, [[]], popularity)
    assert popularity.revision == 0
    fold(store, [[(1, 0, 1)]], popularity)
    assert popularity.revision == 1


@pytest.mark.parametrize("before", [-1, 0, 3, 7, 8, 99])
def test_popularity_as_it_was_is_that_of_the_buckets_before(tmp_path, monkeypatch, before):
    monkeypatch.setattr("rankstream.server.catalog.popularity._PAGE", 2)
    rng = np.random.default_rng(3)
    batch = [(int(k), int(b), 1) for k, b in zip(*rng.integers(0, 9, (2, 60)), strict=True)]
    store = Store(tmp_path / "all", map_size_gib=1, write=True)
    with store.write() as txn:
        add(txn, batch)
    early = Store(tmp_path / "early", map_size_gib=1, write=True)
    with early.write() as txn:
        add(txn, [entry for entry in batch if entry[1] < before])
    then, wanted = new_popularity(), new_popularity()

    for page in read_counters(store, before):
        then.update(page)
    with early.read() as view:
        wanted.load(view)

    keys = np.arange(10, dtype=np.uint64)
    np.testing.assert_allclose(then.bias(keys), wanted.bias(keys), rtol=1e-6)
    store.close()
    early.close()
