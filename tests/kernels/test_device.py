"""Threads: each case in a process of its own, because numba's layer is chosen once."""

import os
import subprocess
import sys
import types

import numba
import pytest

import rankstream.kernels
from rankstream.kernels import KernelArgumentError, configure_threads

CONCURRENT = """
import threading
import numpy as np
from rankstream.kernels import configure_threads, require_omp, top_k
configure_threads(2)
rng = np.random.default_rng(0)
items = rng.standard_normal((20_000, 96), np.float32)
want = top_k(items[:5], items, 30)
start, failures = threading.Barrier(4), []
def work():
    start.wait()
    for _ in range(20):
        if not np.array_equal(top_k(items[:5], items, 30).rows, want.rows):
            failures.append(1)
threads = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
require_omp()
print("failures", len(failures))
"""
WRONG_LAYER = """
import numba
numba.config.THREADING_LAYER = "workqueue"
@numba.njit(parallel=True)
def count(n):
    total = 0
    for i in numba.prange(n):
        total += i
    return total
count(9)
from rankstream.kernels import KernelConfigurationError, require_omp
try:
    require_omp()
except KernelConfigurationError as error:
    print(error)
"""
WARM_UP = """
import sys
import numba
from rankstream import kernels
def compiled():
    modules = [module for name, module in sys.modules.items() if "rankstream.kernels" in name]
    values = [value for module in modules for value in vars(module).values()]
    return {(id(v), s) for v in values for s in getattr(v, "signatures", ())}
kernels.configure_threads(2)
try:
    kernels.require_omp()
except kernels.KernelConfigurationError as error:
    print(error)
kernels.warm_up(100, 3)
assert numba.get_num_threads() == kernels.thread_count() == 2
before = compiled()
assert len(before) > 10
import numpy as np
from rankstream.kernels import device
for work in (device.PARALLEL_WORK, 0):
    n, device.PARALLEL_WORK = 10, work
    items = np.frombuffer(np.ones((n, 100), np.float32).tobytes(), np.float32).reshape(n, 100)
    ones = np.ones((2, 3))
    indptr, rows = np.array([0, 5, 10]), np.arange(10, dtype=np.int32)
    offsets = np.array([0, 5, 9, 90])
    queries, norms = kernels.pool(rows, indptr, np.ones(10), items, offsets, ones)
    mask = kernels.pack_allowed(np.ones(n, np.bool_))
    kernels.top_k(queries, items, 5, bias=items[:, 0].copy(), allowed=mask, excluded=(indptr, rows))
    kernels.rank_candidates(queries, items, indptr, rows, 3)
    kernels.contributions(
        rows, indptr, np.ones(10), norms, items, offsets, ones, rows, indptr, 3)
    many = np.zeros(n, np.int32)
    kernels.score_rows(queries, items, np.array([0, n, n]), many, bias=items[:, 0].copy())
    kernels.block_parts(queries, items, indptr, rows, offsets)
    kernels.pool(many, np.array([0, n, n]), np.ones(n), items, offsets, ones)
    kernels.KeyTable().lookup(np.arange(n, dtype=np.uint64))
print("compiled since:", compiled() - before)
"""


FEWER = """
import os, threading
import numpy as np
from rankstream.kernels import configure_threads, top_k
configure_threads(2)
items = np.ones((20_000, 96), np.float32)
def work():
    top_k(items[:5], items, 3)
    print(os.environ["OMP_WAIT_POLICY"], len(os.listdir("/proc/self/task")) - before)
before = len(os.listdir("/proc/self/task"))
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def run(program):
    """What ``program`` prints in a process that sees four cores."""
    # One thread for BLAS: numba loads scipy, where it is installed, and its pool would be counted.
    environment = {**os.environ, "NUMBA_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("OMP_WAIT_POLICY", None)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python_threads_may_call_at_once():
    assert run(CONCURRENT) == "failures 0\n"


def test_another_layer_is_refused():
    assert "run on numba's 'workqueue' layer, expected 'omp'" in run(WRONG_LAYER)


def test_nothing_is_compiled_after_warm_up():
    lines = run(WARM_UP).splitlines()
    assert lines[0] == "no parallel kernel has run yet; call warm_up first"
    assert lines[1] == "compiled since: set()"
    assert len(lines) == 2


@pytest.mark.parametrize("count", [0, numba.config.NUMBA_NUM_THREADS + 1])
def test_threads_are_between_one_and_the_cores(count):
    with pytest.raises(KernelArgumentError, match=f"count: is {count}; expected 1 to"):
        configure_threads(count)


def test_no_more_threads_run_than_configured():
    assert run(FEWER) == "passive 2\n"


def test_public_names_are_the_exported_ones():
    public = {
        name
        for name, value in vars(rankstream.kernels).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public == set(rankstream.kernels.__all__)
