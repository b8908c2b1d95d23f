import numpy as np
import pytest

from rankstream.training.intervals import mean_interval, share_interval


# Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17,
# 1998, table I, method 3.
@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_a_share_has_wilsons_interval(hits, trials, low, high):
    assert share_interval(hits, trials) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("hits", "trials"), [(0, 0), (2, 1), (-1, 5)])
def test_impossible_counts_are_refused(hits, trials):
    with pytest.raises(ValueError, match="expected 1 trial or more"):
        share_interval(hits, trials)


def test_a_means_interval_is_that_of_the_normal_where_there_are_many():
    values = np.random.default_rng(3).normal(5.0, 2.0, 4_000)
    half = 1.96 * values.std() / len(values) ** 0.5

    low, high = mean_interval(values, seed=1)

    assert low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.15 * half)
    assert (low, high) == mean_interval(values, seed=1)


def test_no_values_have_no_interval():
    with pytest.raises(ValueError, match="no values"):
        mean_interval(np.array([]), seed=1)
