"""Reads and checks the header of a safetensors file, and nothing behind it.

The format: 8 bytes little-endian length, that many bytes of JSON naming each tensor's dtype, shape
and byte range, then the bytes. A file is refused here, before anything of the size that it claims
is allocated.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankstream.server.encoder.base import ModelRefused

MAX_HEADER_BYTES = 16 << 20
# Torch allows 64, models use four; products of many more take for ever, and so do their digits.
MAX_DIMENSIONS = 16
ITEM_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"), 1),
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as the header declares it; ``start`` and ``stop`` are bytes after the header."""

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(path: Path) -> tuple[Tensor, ...]:
    """The tensors of a safetensors file, in the order of their bytes.

    Raises:
        ModelRefused: the header is malformed or does not describe the file exactly.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            _require(size >= 8 and length <= size - 8, path, f"header of {length} bytes in {size}")
            _require(length <= MAX_HEADER_BYTES, path, f"header is over {MAX_HEADER_BYTES} bytes")
            declared = json.loads(file.read(length), object_pairs_hook=_unique)
    except (OSError, ValueError, RecursionError) as error:
        message = f"{path}: not a safetensors file: {error}"
        raise ModelRefused(message) from error
    _require(isinstance(declared, dict), path, "header is not an object")
    declared.pop("__metadata__", None)
    tensors = sorted(
        (_tensor(path, name, entry) for name, entry in declared.items()),
        key=lambda tensor: (tensor.start, tensor.stop),
    )
    _check_cover(path, tensors, size - 8 - length)
    return tuple(tensors)


def _tensor(path: Path, name: str, entry: Any) -> Tensor:
    _require(isinstance(entry, dict), path, f"tensor {name!r} is not an object")
    width = ITEM_BYTES.get(str(entry.get("dtype")))
    _require(width is not None, path, f"tensor {name!r} has dtype {entry.get('dtype')!r}")
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    many = len(shape) if isinstance(shape, list) else 0
    problem = f"tensor {name!r} has {many} dimensions, over {MAX_DIMENSIONS}"
    _require(many <= MAX_DIMENSIONS, path, problem)
    _require(_counts(shape) and _counts(offsets), path, f"tensor {name!r}: shape or offsets")
    _require(len(offsets) == 2, path, f"tensor {name!r} has {len(offsets)} offsets")
    start, stop = offsets
    expected = math.prod(shape) * (width or 0)
    problem = f"tensor {name!r} of shape {shape} takes {expected} bytes, not {start}..{stop}"
    _require(stop - start == expected, path, problem)
    return Tensor(name, tuple(shape), start, stop)


def _check_cover(path: Path, tensors: list[Tensor], data_bytes: int) -> None:
    position = 0
    for tensor in tensors:
        what = "overlaps the one before" if tensor.start < position else "leaves a hole"
        _require(tensor.start == position, path, f"tensor {tensor.name!r} {what}")
        position = tensor.stop
    problem = f"tensors end at byte {position} of {data_bytes}"
    _require(position == data_bytes, path, problem)


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 48 for n in value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        message = "a name occurs twice"
        raise ValueError(message)
    return found


def _require(holds: bool, path: Path, problem: str) -> None:
    if not holds:
        message = f"{path}: lying safetensors header: {problem}; fetch the file again"
        raise ModelRefused(message)
