"""Makes the oracle and the in-memory store importable by name."""

import importlib.util
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "profiles"

for name in ("profile_oracle", "profile_memory"):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
