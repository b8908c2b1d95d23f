"""The cache of compiled kernels: what processes that start at once leave is whole, and used."""

import os
import subprocess
import sys

_START = """
import numpy as np
from rankstream.kernels import top_k
from rankstream.kernels.top_k_cpu import search_serial
best = top_k(np.ones((1, 8), np.float32), np.eye(8, dtype=np.float32), 3)
stats = search_serial.stats
print(best.rows.tolist(), len(stats.cache_hits), len(stats.cache_misses))
"""


def test_first_starts_at_once_are_safe_and_a_later_one_compiles_nothing(tmp_path):
    where = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", _START]

    def start():
        return subprocess.Popen(command, env=where, stdout=subprocess.PIPE, text=True)

    first = [start() for _ in range(3)]
    said = [child.communicate(timeout=300)[0].split("]] ") for child in first]
    assert [child.returncode for child in first] == [0, 0, 0]
    assert {rows for rows, _ in said} == {"[[0, 1, 2"}

    later = start()
    assert later.communicate(timeout=300)[0] == "[[0, 1, 2]] 1 0\n"
