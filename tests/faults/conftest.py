"""Makes servers, requests, the load, its oracle and the fuzz run importable by name."""

import importlib.util
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
BENCH = TESTS.parent / "bench"
MODULES = (
    "e2e/server_process",
    "e2e/requests_to",
    "e2e/server_fixtures",
    "profiles/profile_oracle",
    "faults/crash_load",
)

if str(BENCH) not in sys.path:
    # Behind everything else: its names are short, and nothing may be hidden by them.
    sys.path.append(str(BENCH))

for module in MODULES:
    name = Path(module).name
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, TESTS / f"{module}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])

from server_fixtures import (  # noqa: E402, F401 - loaded just above
    encoder_cache,
    pytest_runtest_makereport,
    serve,
    serve_shared,
)
