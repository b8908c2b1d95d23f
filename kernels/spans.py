"""Reading and comparing spans of bytes from compiled code, eight bytes at a time.

Words are as a little-endian machine loads them, the only kind that this package runs on.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from rankstream.kernels.arrays import UInt8
from rankstream.kernels.compilation import compiled

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@intrinsic  # type: ignore[untyped-decorator]
def _load_word(typingctx: Any, text: Any, at: Any) -> Any:
    """The eight bytes of ``text`` at ``at``, of any alignment, in the machine's byte order."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        word = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(64).as_pointer())
        return builder.load(word, align=1)

    return types.uint64(text, types.intp), codegen


@compiled
def read_word(text: UInt8, at: int, stop: int) -> np.uint64:
    """The first eight bytes of ``text[at:stop]``, which is not empty, low first, zero after it."""
    length = min(stop - at, 8)
    if at + 8 <= text.shape[0]:
        return _load_word(text, at) & (_ALL >> np.uint64(64 - 8 * length))  # type: ignore[no-any-return]
    word = np.uint64(0)
    for i in range(length):
        word |= np.uint64(text[at + i]) << np.uint64(8 * i)
    return word


@compiled
def is_same(a: UInt8, a_start: int, b: UInt8, b_start: int, length: int) -> bool:
    """Whether ``length`` bytes of ``a`` and ``b`` are the same. Both spans lie inside."""
    if length < 8:
        i = 0
        while i < length and a[a_start + i] == b[b_start + i]:
            i += 1
        return i == length
    last = length - 8
    for i in range(0, last, 8):
        if _load_word(a, a_start + i) != _load_word(b, b_start + i):
            return False
    # The last word overlaps the one before it, so that none reads past an end.
    return bool(_load_word(a, a_start + last) == _load_word(b, b_start + last))
