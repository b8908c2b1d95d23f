"""Messages that are nearly right: fields of a valid one changed, dropped, repeated or put in."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from google.protobuf.message import Message

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_CHANGED_BYTES = 0.25
_DEEPER = 0.5
_LONG = 300

_NUMBERS = [0, 1, 2, 127, 128, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1]
_DOUBLES = [0.0, -0.0, 1.0, -1.0, 1e-310, 1e300, -1e300, float("inf"), float("-inf"), float("nan")]
_TEXTS = [
    b"",
    b"\0",
    b"a\0b",
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    "\u202eodd \U0001f4a9".encode(),
    b"\r\nforged",
    b"../../etc/passwd",
    b"x" * _LONG,
    "é".encode() * _LONG,
    b"click",
    b"search",
    b"rate",
    b"$reset",
    b"$merge",
    b"price",
    b"image",
    b"attributes.x",
    b"-1",
]


@dataclass(frozen=True, slots=True)
class Tree:
    """A valid message, its fields apart.

    Attributes:
        fields: each as it is encoded.
        inner: those that are messages: (place among the fields, tag, the message).
    """

    fields: tuple[bytes, ...]
    inner: tuple[tuple[int, bytes, Tree], ...]


def tree_of(message: Message) -> Tree:
    """Takes a message apart."""
    return _tree(message.SerializeToString(), message.DESCRIPTOR)


def mutated(draw: Random, tree: Tree) -> bytes:
    """The message with one to three of its fields changed, at any depth, and perhaps some bytes."""
    data = _changed(draw, tree)
    return mutated_bytes(draw, data) if draw.random() < _CHANGED_BYTES else data


def mutated_bytes(draw: Random, valid: bytes) -> bytes:
    """Some bytes changed, cut out, repeated or put in, wherever they are."""
    data = bytearray(valid)
    for _ in range(1 + _below(draw, 3)):
        at = _below(draw, len(data) + 1)
        match _below(draw, 6):
            case 0 if at < len(data):
                data[at] ^= 1 << _below(draw, 8)
            case 1 if at < len(data):
                data[at] = (0, 1, 0x7F, 0x80, 0xFF)[_below(draw, 5)]
            case 2:
                del data[at : at + 1 + _below(draw, 8)]
            case 3:
                data[at:at] = draw.randbytes(1 + _below(draw, 8))
            case 4:
                del data[at:]
            case _:
                data[at:at] = data[at : at + 1 + _below(draw, 32)]
    return bytes(data)


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _changed(draw: Random, tree: Tree) -> bytes:
    fields = list(tree.fields)
    if tree.inner and draw.random() < _DEEPER:
        place, tag, message = tree.inner[_below(draw, len(tree.inner))]
        inside = _changed(draw, message)
        fields[place] = tag + varint(len(inside)) + inside
    else:
        for _ in range(1 + _below(draw, 3)):
            _change_field(draw, fields)
    return b"".join(fields)


def _change_field(draw: Random, fields: list[bytes]) -> None:
    """Changes one of the encoded fields, or adds one."""
    kind = _below(draw, 8)
    if not fields or kind == 0:
        number, wire_type = 1 + _below(draw, 30), _below(draw, 8)
        made = varint(number << 3 | wire_type) + _value(draw, wire_type)
        fields.insert(_below(draw, len(fields) + 1), made)
        return
    at = _below(draw, len(fields))
    if kind == 1:
        del fields[at]
    elif kind == 2:
        fields.insert(_below(draw, len(fields) + 1), fields[at])
    elif kind == 3:
        other = _below(draw, len(fields))
        fields[at], fields[other] = fields[other], fields[at]
    else:
        tag, end = _read_varint(fields[at], 0)
        fields[at] = fields[at][:end] + _value(draw, tag & 7)


def _value(draw: Random, wire_type: int) -> bytes:
    """A value of some wire type, often an extreme one, and sometimes one whose length lies."""
    if wire_type == _VARINT:
        return (
            varint(_NUMBERS[_below(draw, len(_NUMBERS))]) if draw.random() < 0.9 else b"\xff" * 11
        )
    if wire_type == _FIXED64:
        return struct.pack("<d", _DOUBLES[_below(draw, len(_DOUBLES))])
    if wire_type == _FIXED32:
        return draw.randbytes(4)
    if wire_type == _LENGTH:
        text = _TEXTS[_below(draw, len(_TEXTS))]
        lie = (1, 2**31, 2**63, 2**64 - 1)[_below(draw, 4)] if draw.random() < 0.05 else 0
        return varint((len(text) + lie) & (2**64 - 1)) + text
    return b""


def _below(draw: Random, count: int) -> int:
    # A fifth of what randrange costs.
    return int(draw.random() * count)


def _tree(data: bytes, descriptor: Any) -> Tree:
    # Any: what a message calls its descriptor and what the library calls one differ in its stubs.
    fields, inner = [], []
    for place, (tag, field, value) in enumerate(_split(data)):
        fields.append(field)
        known = descriptor.fields_by_number.get(tag >> 3)
        if known is not None and known.message_type is not None:
            inner.append((place, varint(tag), _tree(value, known.message_type)))
    return Tree(tuple(fields), tuple(inner))


def _split(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """The fields of a valid message: (tag, the field as encoded, its value)."""
    at = 0
    while at < len(data):
        tag, start = _read_varint(data, at)
        wire_type = tag & 7
        if wire_type == _VARINT:
            stop = _read_varint(data, start)[1]
        elif wire_type == _LENGTH:
            length, start = _read_varint(data, start)
            stop = start + length
        else:
            stop = start + (8 if wire_type == _FIXED64 else 4)
        yield tag, data[at:stop], data[start:stop]
        at = stop


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(data):
        number |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            break
    return number, at
