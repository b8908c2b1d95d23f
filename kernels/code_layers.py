"""How codes lie in memory: two layers of the same rows, in eight bits and in six.

Rows lie in tiles of 64. The **fine** layer has of a tile, for every four dimensions (a *step*), the
four bytes of row 0, then those of row 1, to row 63: 256 bytes. A byte is a code c, of -126 to 126,
plus 126.

The **coarse** layer has the upper six bits of each byte, h; what they stand for is c = 4 (h - 31),
the middle of the four that share them, or one beside it. A *group* of four steps takes the place of
three: the first three in the lower six bits, and two bits each of the fourth above them. So one
query, which waits for memory, reads a quarter less.
"""

from typing import Final, NamedTuple

from rankstream.kernels.arrays import Float32, UInt8

TILE: Final = 64
"""Rows of a tile."""

STEP: Final = 4 * TILE
"""Bytes of a step of the fine layer."""

GROUP: Final = 4
"""Steps that the coarse layer packs together; every block has whole groups."""

COARSE_STEP: Final = STEP * (GROUP - 1) // GROUP
"""Bytes that a step takes of the coarse layer."""

MOST: Final = 126
FULL: Final = 126.5
"""What the greatest magnitude of a block is divided by: it rounds to MOST."""

MIDDLE: Final = 126
COARSE_MIDDLE: Final = 31
"""What stands for zero in the fine layer, and in the coarse one."""


class Layer(NamedTuple):
    """Codes of rows; read-only.

    Attributes:
        codes: uint8[tiles * bytes of a tile].
        scales: float32[tiles * n_blocks * 64], what a row's codes are multiplied by: s.
        errors: float32[tiles * n_blocks * 64], at least the length of what was lost: e.
        tops: float32[tiles * n_blocks], the greatest |s c| + e of a tile.
    """

    codes: UInt8
    scales: Float32
    errors: Float32
    tops: Float32
