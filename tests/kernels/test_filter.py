"""Columns and masks against loops in plain Python."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rankstream.kernels import KernelArgumentError, mark_rows, read_column

SLOW = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# Words at both ends of the range and in the middle, where signs would matter.
words = st.one_of(
    st.integers(0, 5),
    st.integers((1 << 63) - 2, (1 << 63) + 2),
    st.integers((1 << 64) - 3, (1 << 64) - 1),
)
rows_of_facts = st.lists(st.lists(st.tuples(st.integers(0, 2), words), max_size=4), max_size=60)
spans = st.lists(st.tuples(words, words), max_size=6)


def csr(facts_by_row):
    """As the segments keep them."""
    ends = np.cumsum([len(f) for f in facts_by_row], dtype=np.int64)
    flat = [fact for facts in facts_by_row for fact in facts]
    return ends, np.array(flat, np.uint64).reshape(-1, 2)


def bits(mask, count):
    return np.flatnonzero(np.unpackbits(mask, bitorder="little", count=count)).tolist()


def mark(rows, values, spans, count):
    lows, highs = (np.array([s[i] for s in spans], np.uint64) for i in (0, 1))
    return mark_rows(np.array(rows, np.int32), np.array(values, np.uint64), lows, highs, count)


@SLOW
@given(facts=rows_of_facts, column=st.integers(0, 3), cut=st.integers(0, 60))
def test_a_column_is_its_facts_in_the_order_of_the_rows(facts, column, cut):
    ends, flat = csr(facts)
    first = min(cut, len(facts))

    rows, values = read_column(ends, flat, first, len(facts), column)

    wanted = [(r, v) for r, f in enumerate(facts) if r >= first for c, v in f if c == column]
    assert list(zip(rows.tolist(), values.tolist(), strict=True)) == wanted
    before = read_column(ends, flat, 0, first, column)
    whole = read_column(ends, flat, 0, len(facts), column)
    for part, rest, all_of_it in zip(before, (rows, values), whole, strict=True):
        np.testing.assert_array_equal(np.concatenate([part, rest]), all_of_it)


@SLOW
@given(facts=rows_of_facts, spans=spans)
def test_a_row_passes_with_a_value_in_a_span(parts, facts, spans):
    pairs = [(row, value) for row, some in enumerate(facts) for _, value in some]
    count = len(facts)

    mask = mark([p[0] for p in pairs], [p[1] for p in pairs], spans, count)

    passing = {row for row, value in pairs if any(low <= value <= high for low, high in spans)}
    assert mask.dtype == np.uint8
    assert len(mask) == -(-count // 8)
    assert bits(mask, 8 * len(mask)) == sorted(passing)


@pytest.mark.parametrize(
    "missing", [(), (0,), (7, 8), (511, 512, 513), (1023,), range(0, 3000, 97)]
)
@pytest.mark.parametrize("count", [1, 8, 511, 512, 513, 3000])
def test_long_runs_with_and_without_holes(parts, count, missing):
    rows = np.setdiff1d(np.arange(count), list(missing))
    values = np.arange(count)[rows] * 7 % 11

    mask = mark(rows, values, [(3, 5), (9, 9)], count)

    wanted = rows[((values >= 3) & (values <= 5)) | (values == 9)]
    assert bits(mask, 8 * len(mask)) == wanted.tolist()


def test_a_row_of_many_values_passes_by_any_of_them(parts):
    rows = np.repeat(np.arange(700), 5)
    values = np.arange(3500) % 13

    mask = mark(rows, values, [(4, 4)], 700)

    assert bits(mask, 700) == sorted(set(rows[values == 4].tolist()))


def test_no_facts_and_no_spans_pass_nothing():
    assert mark([], [], [(0, 9)], 9).tolist() == [0, 0]
    assert mark([1, 2], [3, 3], [], 3).tolist() == [0]
    assert mark([], [], [(0, 9)], 0).tolist() == []
    rows, values = read_column(np.empty(0, np.int64), np.empty((0, 2), np.uint64), 0, 0, 1)
    assert (rows.dtype, values.dtype, len(rows)) == (np.int32, np.uint64, 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([0], [[1, 2]], 0, 2, 1), "rows"),
        (([1], [[1, 2]], 1, 0, 1), "rows"),
        (([2], [[1, 2]], 0, 1, 1), "ends"),
        (([-1, 1], [[1, 2]], 1, 2, 1), "ends"),
    ],
)
def test_facts_that_are_not_there_are_refused(arguments, words):
    ends, facts, *rest = arguments

    with pytest.raises(KernelArgumentError, match=words):
        read_column(np.array(ends, np.int64), np.array(facts, np.uint64), *rest)


@pytest.mark.parametrize("rows", [[0, 3], [-1, 0]])
def test_rows_beyond_the_mask_are_refused(rows):
    with pytest.raises(KernelArgumentError, match="rows"):
        mark(rows, [1, 1], [(0, 9)], 3)


def test_spans_of_two_lengths_are_refused():
    one, two = np.ones(1, np.uint64), np.ones(2, np.uint64)
    with pytest.raises(KernelArgumentError, match="highs"):
        mark_rows(np.zeros(1, np.int32), one, one, two, 1)
