"""The servers of the end-to-end tests, for the examples of the documentation."""

import importlib.util
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "e2e"

for name in ("server_process", "requests_to", "server_fixtures"):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])

from server_fixtures import (  # noqa: E402, F401 - loaded just above
    encoder_cache,
    pytest_runtest_makereport,
    serve_shared,
)
