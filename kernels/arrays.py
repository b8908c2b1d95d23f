"""Checks of array arguments.

Every check returns a read-only view, so that kernels exist in one signature only.
"""

import operator
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rankstream.kernels.errors import refuse
from rankstream.kernels.screening import first_above, rises

Bool: TypeAlias = npt.NDArray[np.bool_]
Float32: TypeAlias = npt.NDArray[np.float32]
Float64: TypeAlias = npt.NDArray[np.float64]
Int32: TypeAlias = npt.NDArray[np.int32]
Int64: TypeAlias = npt.NDArray[np.int64]
UInt8: TypeAlias = npt.NDArray[np.uint8]
UInt16: TypeAlias = npt.NDArray[np.uint16]
UInt32: TypeAlias = npt.NDArray[np.uint32]
UInt64: TypeAlias = npt.NDArray[np.uint64]

MAX_ROWS = 2**31 - 1
_DTYPES = {
    kind: np.dtype(kind)
    for kind in (np.bool_, np.float32, np.float64, np.int32, np.int64, np.uint8, np.uint64)
}
_MOST = {kind: float(np.finfo(kind).max) for kind in (np.float32, np.float64)}


def checked(name: str, value: Any, dtype: Any, *shape: int | None) -> npt.NDArray[Any]:
    """A read-only view of ``value``, an aligned C-contiguous array of ``dtype`` and ``shape``.

    Args:
        name: The argument's name, for the error.
        value: What the caller passed.
        dtype: The only accepted dtype, in native byte order.
        shape: A length for each dimension; None accepts any.

    Raises:
        KernelArgumentError: it is not such an array.
    """
    problem = _problem(value, dtype, shape)
    if problem:
        lengths = ", ".join("any" if length is None else str(length) for length in shape)
        refuse(name, problem, f"a C-contiguous {np.dtype(dtype).name} array of shape [{lengths}]")
    if not value.flags.writeable and type(value) is np.ndarray:
        return value
    view: npt.NDArray[Any] = value.view(np.ndarray)
    view.flags.writeable = False
    return view


def _problem(value: Any, dtype: Any, shape: tuple[int | None, ...]) -> str | None:
    """What is wrong with ``value``, or None."""
    if not isinstance(value, np.ndarray):
        return f"is {type(value).__name__}"
    # Looked up: a comparison with a type makes a dtype of it first.
    if value.dtype is not _DTYPES[dtype] and value.dtype != dtype:
        return f"has dtype {value.dtype.str}"
    if len(shape) == 1 and value.ndim == 1:
        fits = shape[0] is None or len(value) == shape[0]
    else:
        fits = value.ndim == len(shape)
        for have, want in zip(value.shape, shape, strict=False):
            fits = fits and want in (None, have)
    if not fits:
        return f"has shape {value.shape}"
    flags = value.flags
    return None if flags.c_contiguous and flags.aligned else "is not C-contiguous and aligned"


def checked_finite(name: str, value: Any, dtype: Any, *shape: int | None) -> npt.NDArray[Any]:
    """As ``checked``, and every element is finite."""
    array = checked(name, value, dtype, *shape)
    place = first_above(array.reshape(-1), _MOST[dtype])
    if place >= 0:
        where = tuple(int(i) for i in np.unravel_index(place, array.shape))
        refuse(name, f"is {array[where]} at {where}", "finite numbers")
    return array


def checked_pair(queries: Any, items: Any) -> tuple[Float32, Float32]:
    """``queries [B, D]``, finite, and ``items [N, D]``, whose finiteness the caller keeps."""
    queries = checked_finite("queries", queries, np.float32, None, None)
    items = checked_items(items)
    if items.shape[1] != queries.shape[1]:
        problem = f"has {queries.shape[1]} dimensions"
        refuse("queries", problem, f"{items.shape[1]}, the items' dimensions")
    return queries, items


def checked_items(items: Any) -> Float32:
    """``items [N, D]`` float32, D >= 1, with rows that int32 can number."""
    matrix: Float32 = checked("items", items, np.float32, None, None)
    if matrix.shape[1] == 0 or matrix.shape[0] > MAX_ROWS:
        problem = f"has shape {matrix.shape}"
        refuse("items", problem, f"at least 1 dimension, at most {MAX_ROWS} rows")
    return matrix


def checked_indptr(name: str, indptr: Any, batch: int, total: int) -> Int64:
    """``indptr [B + 1]`` int64, rising from 0 to ``total``; b owns ``indptr[b]:indptr[b + 1]``."""
    offsets: Int64 = checked(name, indptr, np.int64, batch + 1)
    if offsets[0] != 0 or offsets[-1] != total or not rises(offsets, 0):
        problem = f"runs from {offsets[0]} to {offsets[-1]} or falls somewhere"
        refuse(name, problem, f"offsets that rise from 0 to {total}")
    return offsets


def checked_bias(bias: Any, count: int) -> Float32:
    """``bias [N]`` float32, empty for None. Kernels check that what they use is finite."""
    return NO_BIAS if bias is None else checked("bias", bias, np.float32, count)


def checked_count(name: str, value: Any) -> int:
    """An integer of at least 1."""
    try:
        count = operator.index(value)
    except TypeError:
        refuse(name, f"is {value!r}", "an integer of at least 1")
    if count < 1:
        refuse(name, f"is {count}", "an integer of at least 1")
    return count


def checked_block_offsets(block_offsets: Any, width: int) -> Int64:
    """``block_offsets [n_blocks + 1]`` int64: rises from 0 to at most ``width``."""
    offsets = checked("block_offsets", block_offsets, np.int64, None)
    starts_at_zero = offsets.size >= 2 and offsets[0] == 0
    if not (starts_at_zero and rises(offsets, 1) and offsets[-1] <= width):
        problem = f"is {offsets.tolist()}"
        wanted = f"offsets that rise from 0 to at most {width}, the items' dimensions"
        refuse("block_offsets", problem, wanted)
    return offsets


def first_bad(bad: Int64) -> int:
    """The lowest place that some part of a call refused, or -1: the same for any split."""
    return int(min((place for place in bad if place >= 0), default=-1))


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """``array`` itself, made read-only."""
    array.flags.writeable = False
    return array


def freeze(arrays: Iterable[npt.NDArray[Any]]) -> None:
    """Makes arrays read-only: to a kernel, a writable array is another type, compiled apart."""
    for array in arrays:
        array.flags.writeable = False


NO_BIAS: Float32 = frozen(np.empty(0, np.float32))
"""What kernels take for "no bias"."""
