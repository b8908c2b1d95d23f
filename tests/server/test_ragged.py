"""Lists of different lengths side by side."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rankstream.server.ragged import ragged


@given(st.lists(st.lists(st.integers(-1, 100), max_size=5), max_size=6))
def test_each_list_is_found_between_its_pointers(lists):
    indptr, rows = ragged([np.array(x, np.int32) for x in lists])

    assert (indptr.dtype, rows.dtype) == (np.int64, np.int32)
    assert [rows[a:b].tolist() for a, b in zip(indptr, indptr[1:], strict=False)] == lists
    assert indptr[-1] == len(rows)
