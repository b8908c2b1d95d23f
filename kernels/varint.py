"""Reading the numbers of Protocol Buffers' wire: https://protobuf.dev/programming-guides/encoding."""

import numpy as np

from rankstream.kernels.arrays import UInt8
from rankstream.kernels.compilation import compiled


@compiled
def read_varint(text: UInt8, at: int, stop: int) -> tuple[np.uint64, int]:
    """The varint at ``at``, and where it ends; -1: it does not, or takes more than 64 bits."""
    value, shift = np.uint64(0), 0
    while at < stop and shift < 70:
        byte = np.uint64(text[at])
        at += 1
        value |= (byte & np.uint64(0x7F)) << np.uint64(shift)
        if byte < 0x80:
            return value, at if shift < 63 or byte < 2 else -1
        shift += 7
    return value, -1


@compiled
def read_span(text: UInt8, at: int, stop: int) -> tuple[int, int]:
    """Where the bytes stand whose length is at ``at``; ``(-1, -1)``: not within ``stop``."""
    size, start = read_varint(text, at, stop)
    if start < 0 or start - at > 5 or size > np.uint64(stop - start):
        return -1, -1
    return start, start + int(size)


@compiled
def is_ascii(text: UInt8, start: int, stop: int, most: int) -> bool:
    """Whether a span is at most ``most`` ASCII characters, none of them NUL."""
    if stop - start > most:
        return False
    for at in range(start, stop):
        if text[at] == 0 or text[at] >= 0x80:
            return False
    return True
