"""Reads and checks what an ONNX file says of its weights, and none of the weights.

The format is protobuf: fields of a number and a length, one inside the other. Walked here are the
tensors, wherever in a graph they stand: each must be as large as its shape says, in the file or in
one beside it. So a file is refused before anything of the size that it claims is allocated.
The numbers of fields and types are those of onnx.proto.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rankstream.server.encoder.base import ModelRefused
from rankstream.server.encoder.folder_json import inside
from rankstream.server.encoder.safetensors_header import MAX_DIMENSIONS, Tensor

# Protobuf reads no more; a larger model keeps its weights in files beside.
MAX_ONNX_BYTES = 2 << 30
MAX_FIELDS = 4_000_000
MAX_DEPTH = 16
CHUNK_BYTES = 1 << 20
# TensorProto.DataType -> bytes of an item; a string takes one and more.
ITEM_BYTES = {
    **dict.fromkeys((2, 3, 8, 9, 17, 18, 19, 20), 1),
    **dict.fromkeys((4, 5, 10, 16), 2),
    **dict.fromkeys((1, 6, 12), 4),
    **dict.fromkeys((7, 11, 13), 8),
}
# Message -> field -> message, along which tensors are reached.
INNER = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
# Of a TensorProto: fields that list numbers or strings -> bytes of one; 0: as many as it takes.
LISTED_BYTES = {4: 4, 5: 0, 6: 0, 7: 0, 10: 8, 11: 0}
STRINGS = 6
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class OnnxHeader:
    """What an ONNX file holds.

    Attributes:
        tensors: shapes by name; ``start`` and ``stop`` are bytes in the file that has them.
        external: the files beside it, in a fixed order.
    """

    tensors: tuple[Tensor, ...]
    external: tuple[Path, ...]


@dataclass(slots=True)
class _Claims:
    """What a TensorProto says of itself, field by field; ``listed`` is in items."""

    shape: list[int] = field(default_factory=list)
    kind: int = 0
    name: str = ""
    data: Span | None = None
    listed: int = 0
    external: dict[str, str] = field(default_factory=dict)
    beside: bool = False

    def add_dimensions(self, sizes: Iterable[int]) -> None:
        """Reads no further than the bound: a list may be as long as the file."""
        for size in sizes:
            if len(self.shape) == MAX_DIMENSIONS:
                problem = f"tensor {self.name!r} has over {MAX_DIMENSIONS} dimensions"
                raise ValueError(problem)
            self.shape.append(size)


def read_onnx_header(path: Path) -> OnnxHeader:
    """The tensors of an ONNX file, and the files beside it that hold some.

    Raises:
        ModelRefused: too large, not ONNX, or a tensor that is not as large as it says.
    """
    try:
        size = path.stat().st_size
        if not 0 < size <= MAX_ONNX_BYTES:
            message = f"{path}: {size} bytes; expected 1 to {MAX_ONNX_BYTES}"
            raise ModelRefused(message)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            walk = _Walk(path, data)
            walk.visit("model", (0, size), 0)
    except (OSError, ValueError) as error:
        message = f"{path}: not an ONNX file: {error}; fetch the file again"
        raise ModelRefused(message) from error
    if not walk.tensors:
        message = f"{path}: not an ONNX file with weights: it holds no tensor"
        raise ModelRefused(message)
    return OnnxHeader(tuple(walk.tensors), tuple(sorted(walk.external)))


class _Walk:
    """One look at a file. Raises ValueError where it is not what it says."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.tensors: list[Tensor] = []
        self.external: set[Path] = set()
        self._path = path
        self._data = data
        self._fields = 0

    def visit(self, message: str, span: Span, depth: int) -> None:
        """Reads the tensors in a message that stands at ``span``."""
        if depth > MAX_DEPTH:
            problem = f"over {MAX_DEPTH} graphs inside one another"
            raise ValueError(problem)
        for number, value in self._fields_of(span):
            kind = INNER[message].get(number)
            if kind is None or isinstance(value, int):
                continue
            if kind == "tensor":
                self._tensor(value)
            else:
                self.visit(kind, value, depth + 1)

    def _tensor(self, span: Span) -> None:
        claims = _Claims()
        for number, value in self._fields_of(span):
            self._claim(claims, number, value)
        width = ITEM_BYTES.get(claims.kind)
        if width is None or any(n < 0 for n in claims.shape):
            problem = f"tensor {claims.name!r} of type {claims.kind} and shape {claims.shape}"
            raise ValueError(problem)
        items = math.prod(claims.shape)
        start, stop = self._place(claims, items * width)
        listed = claims.listed and not claims.beside and claims.data is None
        found = claims.listed if listed else (stop - start) / width
        if found != items:
            problem = f"tensor {claims.name!r} of shape {claims.shape} has {found:g} items"
            raise ValueError(problem)
        self.tensors.append(Tensor(claims.name, tuple(claims.shape), start, stop))

    def _claim(self, claims: _Claims, number: int, value: int | Span) -> None:
        if number == 1:
            claims.add_dimensions([value] if isinstance(value, int) else self._packed(value))
        elif number == 2 and isinstance(value, int):
            claims.kind = value
        elif number == 14:
            claims.beside = value == 1
        elif number in LISTED_BYTES:
            claims.listed += 1 if isinstance(value, int) else self._count(number, value)
        elif isinstance(value, int):
            return
        elif number == 8:
            claims.name = self._text(value)
        elif number == 9:
            claims.data = value
        elif number == 13:
            entry = {n: self._text(v) for n, v in self._fields_of(value) if not isinstance(v, int)}
            claims.external[entry.get(1, "")] = entry.get(2, "")

    def _count(self, number: int, span: Span) -> int:
        """Items of a list; a number of no fixed size ends with the first byte below 128."""
        start, stop = span
        if number == STRINGS or LISTED_BYTES[number]:
            return 1 if number == STRINGS else (stop - start) // LISTED_BYTES[number]
        places = range(start, stop, CHUNK_BYTES)
        parts = (self._data[at : min(at + CHUNK_BYTES, stop)] for at in places)
        return sum(int(np.count_nonzero(np.frombuffer(part, np.uint8) < 128)) for part in parts)

    def _place(self, claims: _Claims, expected: int) -> Span:
        """Where the bytes are; refuses a file that is outside, missing or too short."""
        if not claims.beside:
            return claims.data or (0, 0)
        folder = self._path.parent
        file = folder / inside(folder, claims.external.get("location"))
        start = int(claims.external.get("offset") or 0)
        stop = start + int(claims.external.get("length") or expected)
        size = file.stat().st_size
        if not (file.is_file() and 0 <= start <= stop <= size):
            problem = f"tensor {claims.name!r} at bytes {start}..{stop} of {file.name}, {size} long"
            raise ValueError(problem)
        self.external.add(file)
        return start, stop

    def _fields_of(self, span: Span) -> Iterator[tuple[int, int | Span]]:
        """Number, and value or place, of each field of a message."""
        at, end = span
        while at < end:
            self._fields += 1
            if self._fields > MAX_FIELDS:
                problem = f"over {MAX_FIELDS} fields"
                raise ValueError(problem)
            tag, at = self._varint(at, end)
            number, kind = tag >> 3, tag & 7
            if kind == VARINT:
                value, at = self._varint(at, end)
                yield number, value
                continue
            if kind == BYTES:
                length, at = self._varint(at, end)
            elif kind in (FIXED32, FIXED64):
                length = 8 if kind == FIXED64 else 4
            else:
                problem = f"a field of unknown kind {kind} at byte {at}"
                raise ValueError(problem)
            if length > end - at:
                problem = f"a field of {length} bytes, of which there are {end - at}"
                raise ValueError(problem)
            yield number, (at, at + length)
            at += length

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                break
            byte = self._data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                # Sizes are int64.
                return value - (1 << 64) if value >> 63 else value, at
        problem = f"a number that does not end at byte {at}"
        raise ValueError(problem)

    def _packed(self, span: Span) -> Iterator[int]:
        at, end = span
        while at < end:
            value, at = self._varint(at, end)
            yield value

    def _text(self, span: Span) -> str:
        start, stop = span
        return self._data[start : min(stop, start + 1024)].decode()
