"""Dense arrays as they travel: little-endian, row-major bytes with dtype and shape."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rankstream.client.errors import DataLoss, invalid
from rankstream.proto.v1 import common_pb2


def array_of(field: str, values: object) -> NDArray[np.float32]:
    """Numbers of any shape as float32.

    Raises:
        InvalidArgument: these are not finite numbers of float32's range; names ``field``.
    """
    try:
        with np.errstate(over="ignore"):
            array = np.asarray(values).astype(np.float32, casting="same_kind")
    except (TypeError, ValueError) as error:
        raise invalid(field=field, problem=f"{error}; expected an array of numbers") from None
    if not np.isfinite(array).all():
        problem = "holds NaN, infinity or a number beyond float32; expected finite numbers"
        raise invalid(field=field, problem=problem)
    return array


def vector_to_pb(field: str, values: object) -> common_pb2.Vector:
    """Protobuf form of numbers of any shape, as float32.

    Raises:
        InvalidArgument: as ``array_of``.
    """
    array = array_of(field, values)
    return common_pb2.Vector(
        data=array.astype("<f4").tobytes(), dtype=common_pb2.Vector.FLOAT32, shape=array.shape
    )


def vector_from_pb(vector: common_pb2.Vector) -> NDArray[np.float32]:
    """A writable float32 array of the message's shape.

    Raises:
        DataLoss: the bytes do not fill the shape, or the dtype is not known here.
    """
    shape = tuple(vector.shape)
    if vector.dtype != common_pb2.Vector.FLOAT32:
        message = f"the answer holds a vector of dtype {vector.dtype}; expected FLOAT32 (1)"
        raise DataLoss(message)
    if len(vector.data) != 4 * math.prod(shape):
        message = f"the answer holds {len(vector.data)} bytes for float32 of shape {shape}"
        raise DataLoss(message)
    return np.frombuffer(vector.data, dtype="<f4").reshape(shape).astype(np.float32)
