import numpy as np
import pytest

from rankstream.server.encoder.batching import (
    FREE_PADDING,
    PADDING_PART,
    pad_batch,
    plan_batches,
)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("budget", [256, 300, 4096])
def test_batches_keep_the_budget_and_hold_each_text_once(seed, budget):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 257, rng.integers(1, 200)).astype(np.int32)

    batches = list(plan_batches(lengths, budget))

    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for rows in batches:
        padded = lengths[rows].max() * len(rows)
        assert padded <= budget
        assert padded - lengths[rows].sum() <= max(FREE_PADDING, PADDING_PART * padded)


def test_equal_lengths_fill_the_budget_in_the_order_of_the_caller():
    batches = list(plan_batches(np.full(10, 8, np.int32), 32))

    assert [rows.tolist() for rows in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_long_text_does_not_pad_short_ones():
    batches = list(plan_batches(np.array([6, 256, 5], np.int32), 4096))

    assert [rows.tolist() for rows in batches] == [[1], [0, 2]]


def test_no_texts_no_batches():
    assert list(plan_batches(np.empty(0, np.int32), 4096)) == []


def test_padding_is_on_the_right_and_masked():
    batch = pad_batch(np.array([2, 0]), [[5], [9, 9], [6, 7, 8]], pad_id=1)

    np.testing.assert_array_equal(batch.rows, [2, 0])
    np.testing.assert_array_equal(batch.ids, [[6, 7, 8], [5, 1, 1]])
    np.testing.assert_array_equal(batch.mask, [[1, 1, 1], [1, 0, 0]])
