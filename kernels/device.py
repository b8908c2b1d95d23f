"""Threads of the kernels: how many, and on which layer.

Kernels are called from several Python threads at once. numba's ``workqueue`` layer aborts the
process then, and which layer it picks by itself depends on what was imported before; so it is
always OpenMP here, and ``require_omp`` asserts it.
"""

import os
from typing import Final

import numba
from numba.np.ufunc import parallel as layer
from rankstream.kernels.errors import KernelConfigurationError, refuse

LAYER: Final = "omp"
PARALLEL_WORK: Final = 1 << 18
"""Multiply-adds from which a call is split across threads: waking them must pay."""

_threads: int | None = None


def configure_threads(count: int) -> None:
    """Sets how many threads a kernel call uses, and OpenMP as their layer.

    Call it before the first parallel kernel: the pool is started then and cannot grow.

    Raises:
        KernelArgumentError: ``count`` is below 1.
        KernelConfigurationError: the pool runs already and is smaller.
    """
    global _threads
    if count < 1:
        refuse("count", f"is {count}", "at least 1 thread")
    if not layer._is_initialized:
        numba.config.THREADING_LAYER = LAYER
        numba.config.NUMBA_NUM_THREADS = count
    elif count > layer.get_thread_count():
        problem = f"the pool was started with {layer.get_thread_count()} threads, cannot grow to"
        message = f"{problem} {count}; call configure_threads before the first kernel"
        raise KernelConfigurationError(message)
    _threads = count


def thread_count() -> int:
    """Threads of a kernel call; the cores this process may use, unless configured."""
    if _threads is None:
        configure_threads(len(os.sched_getaffinity(0)))
    return _threads or 1


def split(work: int) -> int:
    """Into how many parts to split ``work`` multiply-adds; 1 stays in the caller's thread."""
    return 1 if work < PARALLEL_WORK else thread_count()


def require_omp() -> None:
    """Asserts that parallel kernels run on OpenMP; call it after one of them has run.

    Raises:
        KernelConfigurationError: no parallel kernel has run yet, or another layer was chosen before
            ``configure_threads``.
    """
    try:
        chosen = numba.threading_layer()
    except ValueError as error:
        message = "no parallel kernel has run yet; call warm_up first"
        raise KernelConfigurationError(message) from error
    if chosen != LAYER:
        message = f"kernels run on numba's {chosen!r} layer, expected {LAYER!r}; "
        message += "call configure_threads before any other numba code runs in parallel"
        raise KernelConfigurationError(message)
