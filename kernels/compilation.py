"""How every kernel is compiled: without the GIL, cached on disk, with IEEE arithmetic as written.

Compiled code is cached beside the source, per CPU model; where that folder is read-only, set
``NUMBA_CACHE_DIR`` to one that is not, or each process compiles anew. The cache notices a change of
a kernel's own file only: after editing a file whose functions others call (``lanes.py``,
``heap.py``, ``cells.py``, ``spans.py`` and more), delete the ``*.nbi`` files.

No kernel uses fast-math: a score is defined to the last bit.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compiles ``function`` for one thread."""
    jit = numba.njit(nogil=True, cache=True, error_model="numpy")
    return cast("Callable[P, R]", jit(function))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compiles ``function`` into its callers.

    For small functions that take tuples of arrays: a call that stays one counts a reference to each
    of the arrays, which is more than such a function does.
    """
    jit = numba.njit(nogil=True, cache=True, error_model="numpy", forceinline=True)
    return cast("Callable[P, R]", jit(function))


def parallel(function: Callable[P, R]) -> Callable[P, R]:
    """Compiles ``function``, whose ``prange`` loops run on all threads."""
    jit = numba.njit(nogil=True, cache=True, error_model="numpy", parallel=True)
    return cast("Callable[P, R]", jit(function))
