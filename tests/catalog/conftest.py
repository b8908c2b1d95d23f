"""Makes the small server and the filters' oracle importable by name."""

import importlib.util
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
_FILES = {
    "small_server": TESTS / "engine" / "small_server.py",
    "filter_oracle": TESTS / "catalog" / "filter_oracle.py",
}

for name, path in _FILES.items():
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])


@pytest.fixture
def server(tmp_path):
    """A small server without items."""
    made = sys.modules["small_server"].SmallServer(tmp_path)
    yield made
    made.close()
