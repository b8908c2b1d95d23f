"""The oracle, the threads, and comparison to the last bit."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from rankstream.kernels import device


@pytest.fixture(scope="session")
def oracle() -> ModuleType:
    """The module ``oracle.py`` beside this file."""
    spec = importlib.util.spec_from_file_location(
        "kernels_oracle", Path(__file__).with_name("oracle.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=[1, 2, 3, 8])
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Splits every call into this many parts, however small it is."""
    monkeypatch.setattr(device, "PARALLEL_WORK", 0)
    monkeypatch.setattr(device, "_threads", request.param)
    return int(request.param)


@pytest.fixture(scope="session")
def assert_same() -> Callable[[Any, Any], None]:
    """Asserts that two arrays are equal to the last bit, in dtype and shape."""

    def same(have: Any, want: Any) -> None:
        assert have.dtype == want.dtype
        assert have.shape == want.shape
        np.testing.assert_array_equal(have, want)
        assert have.tobytes() == want.tobytes()

    return same
