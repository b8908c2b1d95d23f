"""BLAKE2b of many short texts at once, as 64-bit keys: eight texts side by side, one in each lane.

The function is RFC 7693 with a digest of 8 bytes, no key, no salt and a personalisation: what
``hashlib.blake2b(text, digest_size=8, person=person)`` computes. ``_compress`` emits LLVM vectors
of eight 64-bit words, which every target has as one, two or four registers.
"""

from functools import lru_cache
from typing import Any, Final, TypeAlias

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from rankstream.kernels.arrays import Int64, UInt8, UInt64, checked
from rankstream.kernels.compilation import compiled
from rankstream.kernels.errors import refuse
from rankstream.kernels.spans import read_word

Person: TypeAlias = tuple[np.uint64, np.uint64]
"""A personalisation as kernels take it: of ``person_words``."""

_LANES: Final = 8
_BLOCK: Final = 128
_PERSON: Final = 16
_ROUNDS: Final = 12

_INITIAL: Final = (
    0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
    0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
)  # fmt: skip
_PARAMETERS: Final = 0x01010008
"""One leaf, depth one, no key, a digest of 8 bytes."""

_STATE = np.array([_INITIAL[0] ^ _PARAMETERS, *_INITIAL[1:]], np.uint64)

_ORDERS: Final = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
    (11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4),
    (7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8),
    (9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13),
    (2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9),
    (12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11),
    (13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10),
    (6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5),
    (10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0),
)
_MIXES: Final = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip

_H: Final = 0
_M: Final = 8
_COUNT: Final = 24
_LAST: Final = 25
_ROWS: Final = 26
"""Rows of the working space, uint64[_ROWS, 8], a lane each column: from _H on the state, from _M on
the message, the count of bytes so far, and a mask, all ones in a text's last block."""

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_WORD = ir.IntType(64)
_VECTOR = ir.VectorType(_WORD, _LANES)


def _same(value: int) -> ir.Constant:
    """``value`` in every lane."""
    return ir.Constant(_VECTOR, [value] * _LANES)


def _rotated(builder: Any, value: Any, bits: int) -> Any:
    """``value`` rotated right."""
    return builder.or_(builder.lshr(value, _same(bits)), builder.shl(value, _same(64 - bits)))


def _mix(builder: Any, v: list[Any], places: tuple[int, ...], x: Any, y: Any) -> None:
    """The RFC's G: mixes two words of the message into four of the sixteen in work."""
    a, b, c, d = places
    for word, first, second in ((x, 32, 24), (y, 16, 63)):
        v[a] = builder.add(builder.add(v[a], v[b]), word)
        v[d] = _rotated(builder, builder.xor(v[d], v[a]), first)
        v[c] = builder.add(v[c], v[d])
        v[b] = _rotated(builder, builder.xor(v[b], v[c]), second)


def _emit_rounds(builder: Any, state: list[Any], message: list[Any], count: Any, last: Any) -> Any:
    """Emits the RFC's F: returns the new state."""
    v = state + [_same(word) for word in _INITIAL]
    v[12], v[14] = builder.xor(v[12], count), builder.xor(v[14], last)
    for order in (_ORDERS + _ORDERS)[:_ROUNDS]:
        for i, places in enumerate(_MIXES):
            _mix(builder, v, places, message[order[2 * i]], message[order[2 * i + 1]])
    return [builder.xor(h, builder.xor(v[i], v[i + 8])) for i, h in enumerate(state)]


@intrinsic  # type: ignore[untyped-decorator]
def _compress(typingctx: Any, space: Any) -> Any:
    """Folds the message in every lane of the working space into the lane's state."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        starts = [builder.gep(data, [ir.Constant(_WORD, r * _LANES)]) for r in range(_ROWS)]
        rows = [builder.bitcast(start, _VECTOR.as_pointer()) for start in starts]
        loaded = [builder.load(row, align=8) for row in rows]
        state = _emit_rounds(
            builder, loaded[_H:_M], loaded[_M:_COUNT], loaded[_COUNT], loaded[_LAST]
        )
        for row, new in zip(rows[_H:_M], state, strict=True):
            builder.store(new, row, align=8)
        return context.get_dummy_value()

    return types.void(space), codegen


@compiled
def _load_block(space: UInt64, lane: int, text: UInt8, start: int, stop: int, block: int) -> bool:
    """Puts a block of ``text[start:stop]`` into ``lane``; returns whether it is the last one."""
    at = start + _BLOCK * block
    if at >= stop and block > 0:
        return False
    is_last = stop - at <= _BLOCK
    end = stop if is_last else at + _BLOCK
    space[_COUNT, lane] = np.uint64(end - start)
    space[_LAST, lane] = _ALL if is_last else np.uint64(0)
    for row in range(_M, _M + (end - at + 7) // 8):
        space[row, lane] = read_word(text, at, end)
        at += 8
    return is_last


@compiled
def _hash_lanes(
    space: UInt64, text: UInt8, starts: Int64, stops: Int64, person: Person, keys: UInt64
) -> None:
    """Hashes up to eight spans. A lane whose text has ended computes on; nobody reads it."""
    for row in range(_M):
        space[_H + row] = _STATE[row]
    space[_H + 6] ^= person[0]
    space[_H + 7] ^= person[1]
    left, block = starts.shape[0], 0
    while left > 0:
        space[_M:_COUNT] = 0
        ended = 0
        for lane in range(starts.shape[0]):
            if _load_block(space, lane, text, starts[lane], stops[lane], block):
                ended |= 1 << lane
        _compress(space)
        for lane in range(starts.shape[0]):
            if ended >> lane & 1:
                keys[lane] = space[_H, lane]
                left -= 1
        block += 1


@compiled
def hash_into(text: UInt8, starts: Int64, stops: Int64, person: Person, keys: UInt64) -> None:
    """``hash_spans`` for compiled code: fills ``keys``. The spans must lie inside ``text``.

    Args:
        text: uint8[T].
        starts: int64[C].
        stops: int64[C].
        person: of ``person_words``.
        keys: uint64[C].
    """
    space = np.empty((_ROWS, _LANES), np.uint64)
    for first in range(0, starts.shape[0], _LANES):
        some = slice(first, first + _LANES)
        _hash_lanes(space, text, starts[some], stops[some], person, keys[some])


@compiled
def _hash_inside(text: UInt8, starts: Int64, stops: Int64, person: Person, keys: UInt64) -> int:
    """Fills ``keys``: -1, or else the place of the first span that is not inside ``text``."""
    for i in range(starts.shape[0]):
        if not 0 <= starts[i] <= stops[i] <= text.shape[0]:
            return i
    hash_into(text, starts, stops, person, keys)
    return -1


@lru_cache
def person_words(person: bytes) -> Person:
    """A personalisation of at most 16 bytes as kernels take it.

    Raises:
        KernelArgumentError: it is longer.
    """
    if len(person) > _PERSON:
        refuse("person", f"has {len(person)} bytes", f"at most {_PERSON}")
    low, high = np.frombuffer(person.ljust(_PERSON, b"\0"), "<u8")
    return np.uint64(low), np.uint64(high)


def hash_spans(text: UInt8, starts: Int64, stops: Int64, person: bytes) -> UInt64:
    """The key of each span: its BLAKE2b digest of 8 bytes, as a little-endian integer.

    Args:
        text: uint8[T].
        starts: int64[C].
        stops: int64[C]; span c is ``text[starts[c]:stops[c]]``, which may be empty.
        person: the personalisation, at most 16 bytes.

    Returns:
        uint64[C].

    Raises:
        KernelArgumentError: an argument is not as described, or a span not inside ``text``.
    """
    text = checked("text", text, np.uint8, None)
    starts = checked("starts", starts, np.int64, None)
    stops = checked("stops", stops, np.int64, starts.size)
    keys = np.empty(starts.size, np.uint64)
    bad = _hash_inside(text, starts, stops, person_words(person), keys)
    if bad >= 0:
        refuse("spans", f"{starts[bad]}:{stops[bad]} at {bad}", f"spans inside 0:{text.size}")
    return keys
