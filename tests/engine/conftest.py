"""A small server in this process, and the kernels' oracle by a name that says whose it is."""

import sys

import oracle
import pytest
from small_server import server  # noqa: F401

sys.modules["kernels_oracle"] = oracle


@pytest.fixture(autouse=True)
def codes_of_few_rows(monkeypatch):
    """A catalogue of a few rows is scanned by its codes, as a large one is."""
    module = sys.modules["rankstream.kernels.top_k"]
    monkeypatch.setattr(module, "worth", lambda codes, k: codes.row_count > 0)
