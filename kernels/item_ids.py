"""Reading the item ids of a request off the wire, without an object for each.

The wire is a serialised message of the form ``message ItemIds { repeated string item_ids = 1; }``,
in Protocol Buffers' encoding: https://protobuf.dev/programming-guides/encoding.
"""

import secrets
from typing import Final, NamedTuple

import numpy as np

from rankstream.kernels.arrays import Int64, UInt8, UInt64, checked, frozen
from rankstream.kernels.blake2b import hash_into, person_words
from rankstream.kernels.compilation import compiled
from rankstream.kernels.errors import refuse
from rankstream.kernels.key_table import mix
from rankstream.kernels.spans import is_same

_PERSON: Final = person_words(b"item")
_SEED = np.uint64(secrets.randbits(64))
"""Scatters keys in the tables of repeats, so that no client can choose ids that collide there."""

_VARINT, _FIXED64, _LENGTH, _GROUP, _GROUP_END, _FIXED32 = range(6)
_ITEM_ID: Final = 1 << 3 | _LENGTH
"""The tag of an item id."""

_MAX_SHIFT: Final = 63


class ItemIds(NamedTuple):
    """The ids of a request, each once, in the order of their first occurrence: C of them.

    text: uint8[T], the wire. starts, stops: int64[C]; id c is ``text[starts[c]:stops[c]]``. keys:
    uint64[C], the ids' keys. given: how many ids the request had, repeats counted.
    """

    text: UInt8
    starts: Int64
    stops: Int64
    keys: UInt64
    given: int


class BadItemId(NamedTuple):
    """The first id that is empty or too long: its place among those given, and its bytes."""

    place: int
    length: int


@compiled
def _read_varint(wire: UInt8, at: int) -> tuple[np.uint64, int]:
    """The varint at ``at``, and where it ends: -1 if it does not."""
    value, shift = np.uint64(0), 0
    while at < wire.shape[0] and shift <= _MAX_SHIFT:
        byte = wire[at]
        at += 1
        value |= np.uint64(byte & 0x7F) << np.uint64(shift)
        if byte < 0x80:
            return value, at
        shift += 7
    return value, -1


@compiled
def _read_field(wire: UInt8, at: int) -> tuple[np.uint64, int, int]:
    """The field at ``at``: its tag, where its value starts and where it stops, -1 if malformed."""
    tag, start = _read_varint(wire, at)
    kind, length = tag & np.uint64(7), np.uint64(0)
    if kind == _LENGTH and start >= 0:
        length, start = _read_varint(wire, start)
    if start < 0 or tag >> np.uint64(3) == 0 or kind > _FIXED32:
        return tag, start, -1
    if kind == _VARINT:
        return tag, start, _read_varint(wire, start)[1]
    if kind == _FIXED64:
        length = np.uint64(8)
    elif kind == _FIXED32:
        length = np.uint64(4)
    # Compared unsigned: a length of 2**63 or more is not one that fits.
    fits = length <= np.uint64(wire.shape[0] - start)
    return tag, start, start + np.int64(length) if fits else -1  # type: ignore[return-value]


@compiled
def _find_ids(wire: UInt8, starts: Int64, stops: Int64) -> tuple[int, int]:
    """How many ids there are, and where the wire is malformed, or -1; fills arrays of that size."""
    at = count = depth = 0
    while at < wire.shape[0]:
        tag, start, stop = _read_field(wire, at)
        kind = tag & np.uint64(7)
        depth += int(kind == _GROUP) - int(kind == _GROUP_END)
        if stop < 0 or depth < 0:
            return count, at
        if tag == _ITEM_ID and depth == 0:
            if count < starts.shape[0]:
                starts[count], stops[count] = start, stop
            count += 1
        at = stop
    return count, at if depth else -1


@compiled
def _drop_repeats(text: UInt8, starts: Int64, stops: Int64, keys: UInt64, seed: np.uint64) -> int:
    """Moves the first of each id to the front, in order; returns how many there are."""
    size = 16
    while size < 2 * keys.shape[0]:
        size *= 2
    table, mask = np.zeros(size, np.int32), np.uint64(size - 1)
    kept = 0
    for i in range(keys.shape[0]):
        start, length = starts[i], stops[i] - starts[i]
        at = mix(keys[i], seed) & mask
        while table[at] != 0:
            j = table[at] - 1
            same = keys[j] == keys[i] and stops[j] - starts[j] == length
            if same and is_same(text, starts[j], text, start, length):
                break
            at = (at + np.uint64(1)) & mask
        if table[at] == 0:
            starts[kept], stops[kept], keys[kept] = start, stops[i], keys[i]
            kept += 1
            table[at] = kept
    return kept


@compiled
def _read(
    wire: UInt8, max_bytes: int, seed: np.uint64
) -> tuple[Int64, Int64, UInt64, int, int, int]:
    """Spans and keys without repeats, the ids given, the first bad one, where it is malformed."""
    nothing = np.empty(0, np.int64)
    given, malformed = _find_ids(wire, nothing, nothing)
    starts, stops = np.empty(given, np.int64), np.empty(given, np.int64)
    keys = np.empty(given, np.uint64)
    if malformed >= 0:
        return starts, stops, keys, given, -1, malformed
    kept, bad, malformed = read_into(wire, max_bytes, seed, starts, stops, keys)
    if bad >= 0:
        return starts, stops, keys, given, bad, -1
    return starts[:kept], stops[:kept], keys[:kept], given, -1, malformed


@compiled
def read_into(
    wire: UInt8, max_bytes: int, seed: np.uint64, starts: Int64, stops: Int64, keys: UInt64
) -> tuple[int, int, int]:
    """Reads ids into arrays that are as long as there are ids given, repeats counted.

    Returns:
        How many there are without repeats, the first bad one or -1, where it is malformed or -1.
    """
    given, malformed = _find_ids(wire, starts, stops)
    if malformed >= 0 or given != starts.shape[0]:
        return 0, -1, max(malformed, 0)
    for i in range(given):
        if not 0 < stops[i] - starts[i] <= max_bytes:
            return 0, i, -1
    hash_into(wire, starts, stops, _PERSON, keys)
    return _drop_repeats(wire, starts, stops, keys, seed), -1, -1


def read_item_ids(wire: bytes, max_bytes: int) -> ItemIds | BadItemId:
    """The ids of a request without repeats, or the first that is empty or too long.

    Fields other than item ids are skipped. That ids are UTF-8 is the sender's promise: bytes that
    are not are nobody's id, so such an id is unknown.

    Args:
        wire: the serialised message.
        max_bytes: the most bytes of an id.

    Raises:
        KernelArgumentError: ``wire`` is no serialised message.
    """
    text = np.frombuffer(wire, np.uint8)
    starts, stops, keys, given, bad, malformed = _read(text, max_bytes, _SEED)
    if malformed >= 0:
        refuse(
            "wire", f"is malformed from byte {malformed} of {text.size}", "a message of item ids"
        )
    if bad >= 0:
        return BadItemId(bad, int(stops[bad] - starts[bad]))
    return ItemIds(text, frozen(starts), frozen(stops), frozen(keys), given)


@compiled
def _distinct(keys: UInt64, seed: np.uint64) -> UInt64:
    """Repeats of keys are repeats of ids that are all empty."""
    kept, empty = keys.copy(), np.zeros(keys.shape[0], np.int64)
    return kept[: _drop_repeats(np.empty(0, np.uint8), empty, empty, kept, seed)]


def distinct_keys(keys: UInt64) -> UInt64:
    """``keys`` uint64[T] without repeats, in the order of their first occurrence."""
    return frozen(_distinct(checked("keys", keys, np.uint64, None), _SEED))
