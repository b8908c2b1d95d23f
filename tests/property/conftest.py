"""The replicas scan their few rows by codes, as servers scan many."""

import sys

import pytest

import rankstream.kernels  # noqa: F401 - its modules are patched


@pytest.fixture(autouse=True, scope="session")
def codes_of_few_rows():
    with pytest.MonkeyPatch.context() as patch:
        module = sys.modules["rankstream.kernels.top_k"]
        patch.setattr(module, "worth", lambda codes, k: codes.row_count > 0)
        yield
