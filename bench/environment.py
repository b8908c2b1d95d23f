"""Where and with what a result was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_LIBRARIES = ("grpcio", "kafka-python", "lmdb", "numba", "numpy", "protobuf", "openvino", "torch")
_PAGE = bytes(4096)
_SYNCS = 50


def environment(cache: Path, seed: int, peers: Sequence[str]) -> dict[str, Any]:
    """Everything a reader needs to judge a number.

    Args:
        cache: the folder on whose disk the state is.
        seed: of all that is random.
        peers: distributions whose versions matter to this benchmark alone.
    """
    versions = {name: _version(name) for name in (*_LIBRARIES, *peers)}
    return {
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
        "commit": _commit(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "load_before": os.getloadavg()[0],
        "fdatasync_p50_ms": _fdatasync_ms(cache),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: version for name, version in versions.items() if version},
        "seed": seed,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _commit() -> str:
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def _fdatasync_ms(folder: Path) -> float:
    """The median time to make one page durable: what a commit costs at least."""
    folder.mkdir(parents=True, exist_ok=True)
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_SYNCS):
            started = time.perf_counter()
            os.write(file.fileno(), _PAGE)
            os.fdatasync(file.fileno())
            times.append(1e3 * (time.perf_counter() - started))
    return round(float(np.median(times)), 3)
