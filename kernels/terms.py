"""What a row has beside its vector: a bias, and whether it may be answered; 64 rows at a time."""

from typing import NamedTuple

import numpy as np

from rankstream.kernels.arrays import Float32, Int32, Int64, UInt8, UInt32
from rankstream.kernels.code_layers import TILE
from rankstream.kernels.compilation import compiled

INFINITE = np.uint32(0x7F800000)
_MAGNITUDE = np.uint32(0x7FFFFFFF)


class Terms(NamedTuple):
    """What may be answered.

    Attributes:
        bias: float32[N], or empty.
        bias_bits: uint32[N], the same bits.
        allowed: uint8[ceil(N / 8)], or empty: all.
        indptr: int64[B + 1], or empty: nothing is excluded.
        excluded: int32[.], ascending for each query.
    """

    bias: Float32
    bias_bits: UInt32
    allowed: UInt8
    indptr: Int64
    excluded: Int32


@compiled
def allowed_word(allowed: UInt8, start: int, count: int) -> np.uint64:
    """Which of the rows ``start:start + 64`` may be answered, and exist, as bits."""
    word = np.uint64(0)
    if allowed.size == 0:
        word = ~word
    else:
        first = start >> 3
        for i in range(min(8, allowed.shape[0] - first)):
            word |= np.uint64(allowed[first + i]) << np.uint64(8 * i)
    left = count - start
    if left < TILE:
        word &= (np.uint64(1) << np.uint64(left)) - np.uint64(1)
    return word


@compiled
def load_bias(bits: UInt32, bias: Float32, start: int, biases: Float32) -> np.uint32:
    """Copies a tile's bias; returns the greatest magnitude, as bits: of integers, as vectors do."""
    most = np.uint32(0)
    count = min(TILE, bias.shape[0] - start)
    for i in range(count):
        most = max(most, bits[start + i] & _MAGNITUDE)
    biases[0, :count] = bias[start : start + count]
    biases[0, count:] = np.float32(0.0)
    return most


@compiled
def greatest_finite(bits: UInt32, start: int) -> np.uint32:
    """As ``load_bias``, of the finite ones: what must not be answered may have any bias."""
    most = np.uint32(0)
    for i in range(min(TILE, bits.shape[0] - start)):
        magnitude = bits[start + i] & _MAGNITUDE
        if magnitude < INFINITE:
            most = max(most, magnitude)
    return most


@compiled
def first_infinite(bits: UInt32, start: int, word: np.uint64) -> int:
    """The first row of a tile that may be answered and whose bias is not finite, or -1."""
    for i in range(min(TILE, bits.shape[0] - start)):
        if (word >> np.uint64(i)) & np.uint64(1) and bits[start + i] & _MAGNITUDE >= INFINITE:
            return start + i
    return -1
