"""The bias: counters that merge in any order, and popularity that decays."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankstream.server.catalog.popularity import (
    COUNT,
    MAX_BUCKETS,
    Popularity,
    add_counts,
    read_counter,
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


def stored_after(store, batches):
    """The counters that batches of (key, bucket, delta) lead to; the store stays empty."""
    stored = {}
    try:
        with store.write() as txn:
            for batch in batches:
                columns = list(zip(*batch, strict=True)) or [(), (), ()]
                returned = add_counts(
                    txn,
                    np.array(columns[0], np.uint64),
                    np.array(columns[1], np.int64),
                    np.array(columns[2], np.int64),
                )
                for key, counter in returned.items():
                    blob = txn.get("counters", key.to_bytes(8, "little"))
                    np.testing.assert_array_equal(read_counter(blob), counter)
            for key, blob in txn.items_from("counters", b""):
                counter = read_counter(blob).tolist()
                if counter:
                    stored[int.from_bytes(key, "little")] = counter
            raise Undone
    except Undone:
        return stored


def bias_of(counters, keys, weight=1.0):
    popularity = Popularity(weight=weight, half_life_s=HALF_LIFE * 10, bucket_s=10)
    popularity.update({k: np.array(c, COUNT) for k, c in counters.items()})
    return popularity.bias(np.array(keys, np.uint64))


def expected_bias(counters, keys, weight):
    """The formula of the module, term by term."""
    newest = max((b for c in counters.values() for b, _ in c), default=0)
    popular = {
        key: sum(n * 2.0 ** ((bucket - newest) / HALF_LIFE) for bucket, n in counter)
        for key, counter in counters.items()
    }
    logs = [math.log1p(max(0.0, popular.get(key, 0.0))) for key in keys]
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

    assert stored_after(store, [records]) == stored_after(store, batches)


@settings(max_examples=40, deadline=None)
@given(case=rebatched(adds))
def test_the_newest_buckets_are_kept_whatever_the_order(store, case):
    records, batches = case
    total = {}
    for key, bucket, delta in records:
        counter = total.setdefault(key, {})
        counter[bucket] = counter.get(bucket, 0) + delta

    stored = stored_after(store, batches)

    assert stored == {k: sorted(c.items())[-MAX_BUCKETS:] for k, c in total.items()}


def test_a_bucket_that_sums_to_zero_is_gone(store):
    assert stored_after(store, [[(1, 5, 2)], [(1, 5, -2), (1, 6, 1)]]) == {1: [(6, 1)]}


def test_nothing_to_add_adds_nothing(store):
    assert stored_after(store, [[]]) == {}


@settings(max_examples=60, deadline=None)
@given(
    counters=st.dictionaries(
        st.integers(0, 2**64 - 1),
        st.dictionaries(st.integers(0, 40), st.integers(1, 1000), min_size=1, max_size=8),
        max_size=6,
    )
)
def test_the_bias_is_what_the_formula_says(counters):
    sorted_counters = {k: sorted(c.items()) for k, c in counters.items()}
    keys = [*counters, 12345]

    found = bias_of(sorted_counters, keys, weight=0.3)

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected_bias(sorted_counters, keys, 0.3), rtol=1e-6)


def test_the_bias_lies_between_zero_and_its_weight():
    found = bias_of({1: [(0, 10)], 2: [(8, 10)], 3: [(8, 1)]}, [1, 2, 3, 4], weight=0.5)

    assert found[1] == np.float32(0.5)
    assert found[3] == 0
    assert found[1] > found[0] > found[2] > 0


def test_an_old_count_fades_as_the_log_goes_on():
    before = bias_of({1: [(0, 10)], 2: [(0, 5)]}, [1, 2])
    after = bias_of({1: [(0, 10)], 2: [(0, 5), (16, 5)]}, [1, 2])

    assert before.tolist()[0] == 1.0
    assert after.tolist()[1] == 1.0
    assert after[0] < 0.4


def test_counts_of_long_ago_do_not_overflow_or_vanish():
    (old, new) = bias_of({1: [(0, 1), (20_000, 1)], 2: [(20_000, 1)]}, [1, 2])

    assert old == new == 1.0


def test_a_counter_below_zero_is_no_popularity():
    assert bias_of({1: [(3, -4)], 2: [(3, 4)]}, [1, 2]).tolist() == [0.0, 1.0]


def test_updates_one_by_one_are_the_same_as_all_at_once():
    counters = {key: [(key % 7, key + 1)] for key in range(3000)}
    once = Popularity(weight=1.0, half_life_s=HALF_LIFE * 10, bucket_s=10)
    for key, counter in counters.items():
        once.update({key: np.array([(0, 1)], COUNT)})
        once.update({key: np.array(counter, COUNT)})

    keys = np.arange(3000, dtype=np.uint64)

    np.testing.assert_array_equal(once.bias(keys), bias_of(counters, keys))


def test_the_revision_grows_with_changes_alone():
    popularity = Popularity(weight=1.0, half_life_s=1.0, bucket_s=1)

    popularity.update({})
    assert popularity.revision == 0
    popularity.update({1: np.array([(0, 1)], COUNT)})
    assert popularity.revision == 1


def test_stored_counters_are_loaded(tmp_path):
    store = Store(tmp_path, map_size_gib=1, write=True)
    with store.write() as txn:
        add_counts(txn, np.array([7], np.uint64), np.array([2]), np.array([3]))
    popularity = Popularity(weight=0.5, half_life_s=1.0, bucket_s=1)

    with store.read() as view:
        popularity.load(view)

    assert popularity.bias(np.array([7, 8], np.uint64)).tolist() == [0.5, 0.0]
    store.close()
