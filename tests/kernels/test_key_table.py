import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankstream.kernels import KernelArgumentError, KeyTable

STEADY = settings(derandomize=True, database=None, deadline=None, max_examples=60)
KEYS = st.integers(0, 40) | st.sampled_from([2**64 - 1, 2**63, 2**40]) | st.integers(0, 2**64 - 1)
WRITES = st.lists(st.lists(st.tuples(KEYS, st.integers(-1, 2**31 - 1)), max_size=60), max_size=12)


def arrays(pairs):
    keys = np.array([key for key, _ in pairs], np.uint64)
    return keys, np.array([row for _, row in pairs], np.int32)


@STEADY
@given(WRITES, st.lists(KEYS))
def test_equals_a_dict(writes, asked):
    table, model = KeyTable(), {}
    for pairs in writes:
        table.insert(*arrays(pairs))
        for key, row in pairs:
            model.pop(key, None) if row < 0 else model.update({key: row})
        assert len(table) == len(model)
    asked += [key for pairs in writes for key, _ in pairs]
    want = [model.get(key, -1) for key in asked]
    assert table.lookup(np.array(asked, np.uint64)).tolist() == want


@pytest.mark.parametrize("step", [1, 2**20, 2**33, 2**44])
def test_regular_keys_are_found_quickly(step):
    keys = np.arange(20_000, dtype=np.uint64) * np.uint64(step)
    table = KeyTable()
    table.insert(keys, np.arange(20_000, dtype=np.int32))
    assert table.lookup(keys).tolist() == list(range(20_000))
    used = np.flatnonzero(table._slots[:, 1])
    gaps = np.diff(np.flatnonzero(np.diff(used) > 1))
    assert gaps.max() < 200, "a run of occupied slots is long: keys are not scattered"


def test_turnover_does_not_grow_the_table():
    table = KeyTable()
    for start in range(0, 100_000, 100):
        keys = np.arange(start, start + 100, dtype=np.uint64)
        table.insert(keys, np.zeros(100, np.int32))
        table.insert(keys, np.full(100, -1, np.int32))
    assert len(table) == 0
    assert table._slots.shape[0] <= 2048


def test_capacity_is_reserved_at_once():
    table = KeyTable(1000)
    slots = table._slots
    table.insert(np.arange(1000, dtype=np.uint64), np.zeros(1000, np.int32))
    assert table._slots is slots


def test_refuses_what_breaks_the_contract():
    table, keys = KeyTable(), np.arange(2, dtype=np.uint64)
    with pytest.raises(KernelArgumentError, match="keys: has dtype <i8"):
        table.lookup(np.arange(2))
    with pytest.raises(KernelArgumentError, match=r"rows: has shape \(3,\)"):
        table.insert(keys, np.zeros(3, np.int32))
    with pytest.raises(KernelArgumentError, match="rows: has -2; expected rows of at least -1"):
        table.insert(keys, np.array([0, -2], np.int32))
    assert len(table) == 0
