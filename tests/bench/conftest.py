"""Makes the benchmarks' modules importable as they import each other, and servers for them."""

import importlib.util
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
BENCH = TESTS.parent / "bench"
MODULES = (
    "e2e/server_process",
    "e2e/requests_to",
    "e2e/server_fixtures",
    "bench/fake_ranking",
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

from fake_ranking import fake_server  # noqa: E402, F401 - loaded just above
from server_fixtures import (  # noqa: E402, F401 - likewise
    encoder_cache,
    pytest_runtest_makereport,
    serve,
    serve_shared,
)
