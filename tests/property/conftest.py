"""Makes the oracles, the in-memory store and what drives the topics importable by name."""

import importlib.util
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
_FILES = {
    "profile_oracle": TESTS / "profiles" / "profile_oracle.py",
    "profile_memory": TESTS / "profiles" / "profile_memory.py",
    "small_server": TESTS / "engine" / "small_server.py",
    "topics_oracle": TESTS / "property" / "topics_oracle.py",
    "topics_log": TESTS / "property" / "topics_log.py",
    "topics_replica": TESTS / "property" / "topics_replica.py",
    "topics_runs": TESTS / "property" / "topics_runs.py",
}

for name, path in _FILES.items():
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
