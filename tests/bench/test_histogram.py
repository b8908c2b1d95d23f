import json
import math

import numpy as np
import pytest
from histogram import LARGEST_US, RELATIVE_ERROR, Histogram, bucket_of, highest_of
from hypothesis import given
from hypothesis import strategies as st

latencies = st.lists(st.integers(0, 10**10), min_size=1, max_size=300)
percents = st.one_of(st.floats(0, 100), st.sampled_from([50.0, 90.0, 99.0, 99.9, 100.0]))


def histogram_of(values, failed=0):
    made = Histogram()
    for value in values:
        made.record(value)
    for _ in range(failed):
        made.record_failure()
    return made


@given(latencies, percents)
def test_a_percentile_is_never_below_the_true_one_nor_far_above(values, percent):
    true = np.percentile(values, percent, method="inverted_cdf") / 1e3

    found = histogram_of(values).percentile_ms(percent)

    assert true <= found <= true * (1 + RELATIVE_ERROR) + 1e-9


@given(st.integers(0, LARGEST_US))
def test_a_bucket_holds_its_value_and_ends_near_it(us):
    top = highest_of(bucket_of(us))

    assert us <= top <= us * (1 + RELATIVE_ERROR)
    assert bucket_of(top) == bucket_of(us)
    assert bucket_of(top + 1) == bucket_of(us) + 1


@given(st.lists(latencies, min_size=1, max_size=5), st.integers(0, 4))
def test_merged_is_as_if_one_had_counted_all(parts, failed):
    whole = histogram_of([value for part in parts for value in part], failed * len(parts))

    assert Histogram.merged(histogram_of(part, failed) for part in parts) == whole


@given(latencies, st.integers(0, 9))
def test_json_keeps_everything(values, failed):
    made = histogram_of(values, failed)

    assert Histogram.from_json(json.loads(json.dumps(made.as_json()))) == made


def test_failures_rank_above_every_latency():
    made = histogram_of([1000] * 98, failed=2)

    assert made.percentile_ms(98) == 1.0
    assert made.percentile_ms(99) == math.inf
    assert (made.answered, made.total) == (98, 100)


def test_999_of_1000_are_the_percentile_that_they_are():
    made = histogram_of([1] * 999 + [900_000])

    assert made.percentile_ms(99.9) == 0.001
    assert made.percentile_ms(99.91) == 900.0


@pytest.mark.parametrize(("us", "counted"), [(-3, 0), (LARGEST_US + 5, LARGEST_US)])
def test_what_cannot_be_is_counted_at_the_edge(us, counted):
    assert histogram_of([us]).max_us == counted


def test_nothing_has_no_percentile():
    assert math.isnan(Histogram().percentile_ms(50))
