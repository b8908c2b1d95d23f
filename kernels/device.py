"""Threads of the kernels: how many, and on which layer.

Kernels are called from several Python threads at once. numba's ``workqueue`` layer aborts the
process then, and which layer it picks by itself depends on what was imported before; so it is
always OpenMP (GNU's needs the system's ``libgomp``), and ``require_omp`` asserts that.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numba

from rankstream.kernels.errors import KernelConfigurationError, refuse

LAYER: Final = "omp"
PARALLEL_WORK = 1 << 22
"""Multiply-adds from which a call is split across threads, about a millisecond's: where the cores
have other work, waiting for a woken thread takes as long."""

_threads: int | None = None
_told = threading.local()


def configure_threads(count: int) -> None:
    """Sets how many threads a kernel call uses, and OpenMP as their layer.

    Call it before the first parallel kernel, whose layer then stays. OpenMP's threads are told to
    sleep between calls (``OMP_WAIT_POLICY``, unless it is set): spinning, they would take a core
    from everything else in the process, also when nothing is asked.

    Raises:
        KernelArgumentError: ``count`` is below 1, or above the cores that numba may use.
    """
    global _threads
    cores = int(numba.config.NUMBA_NUM_THREADS)
    if not 1 <= count <= cores:
        refuse("count", f"is {count}", f"1 to {cores} threads, the cores of this process")
    numba.config.THREADING_LAYER = LAYER
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    _threads = count


def thread_count() -> int:
    """Threads of a kernel call; the cores this process may use, unless configured."""
    if _threads is None:
        configure_threads(int(numba.config.NUMBA_NUM_THREADS))
    return _threads or 1


def split(work: int) -> int:
    """Into how many parts to split ``work`` multiply-adds; 1 stays in the caller's thread."""
    parts = thread_count()
    if work < PARALLEL_WORK or parts == 1:
        return 1
    # numba keeps this per calling thread: without it, more threads than asked would be woken. Once
    # each, because after a scan, which empties the caches, it takes 30 us.
    if getattr(_told, "parts", 0) != parts:
        numba.set_num_threads(min(parts, numba.config.NUMBA_NUM_THREADS))
        _told.parts = parts
    return parts


@contextmanager
def always_split() -> Iterator[None]:
    """Splits every call, however small; for warming up."""
    global PARALLEL_WORK
    usual, PARALLEL_WORK = PARALLEL_WORK, 0
    try:
        yield
    finally:
        PARALLEL_WORK = usual


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
