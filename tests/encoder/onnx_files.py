"""Small ONNX files, written byte by byte, so that they can also be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folders
import numpy as np

WIDTH, POSITIONS = 4, 64
TYPES = {np.dtype(np.float32): 1, np.dtype(np.int64): 7}
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, value: int | str | bytes) -> bytes:
    """A field of a protobuf message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    encoded = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(encoded)) + encoded


def tensor(name: str, values: Any, **changes: Any) -> bytes:
    """A TensorProto; ``shape``, ``kind``, ``raw`` and ``external`` may say what is not so."""
    array = np.asarray(values)
    dims = b"".join(field(1, n) for n in changes.get("shape", array.shape))
    made = dims + field(2, changes.get("kind", TYPES[array.dtype])) + field(8, name)
    if "external" in changes:
        pairs = changes["external"].items()
        entries = [field(13, field(1, key) + field(2, str(value))) for key, value in pairs]
        return made + b"".join(entries) + field(14, 1)
    return made + field(9, changes.get("raw", array.tobytes()))


def node(kind: str, inputs: list[str], output: str, attributes: bytes = b"") -> bytes:
    listed = b"".join(field(1, name) for name in inputs)
    return field(1, listed + field(2, output) + field(4, kind) + attributes)


def value(name: str, kind: int, *dims: str | int) -> bytes:
    """A ValueInfoProto."""
    listed = b"".join(field(1, field(1 if isinstance(dim, int) else 2, dim)) for dim in dims)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, listed)))


def model(nodes: bytes, tensors: list[bytes], inputs: list[bytes], output: bytes) -> bytes:
    graph = nodes + field(2, "graph") + b"".join(field(5, one) for one in tensors)
    graph += b"".join(field(11, one) for one in inputs) + field(12, output)
    return field(1, 8) + field(7, graph) + field(8, field(2, 17))


def weights(width: int = WIDTH) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    rows = {"words": len(folders.VOCABULARY), "types": 2, "positions": POSITIONS, "dense": width}
    return {name: rng.normal(size=(n, width)).astype(np.float32) for name, n in rows.items()}


def token_vectors(ids: list[int]) -> np.ndarray:
    """What the graph computes of one text, [T, WIDTH]."""
    found = weights()
    read = found["words"][ids] + found["types"][0] + found["positions"][: len(ids)]
    return np.tanh(read @ found["dense"])


def write_onnx_model(
    folder: Path, name: str = "model.onnx", width: int = WIDTH, **tensors: bytes
) -> Path:
    """A folder whose only weights are ONNX: three tables, a product and a hyperbolic tangent."""
    folders.write_fake_model(folder, hidden_size=width)
    (folder / "model.safetensors").unlink()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(encoder(width=width, **tensors))
    return folder


def encoder(
    inputs: tuple[str, ...] = INPUTS,
    last: str = "Tanh",
    output: bytes = b"",
    width: int = WIDTH,
    **tensors: bytes,
) -> bytes:
    nodes = node("Gather", ["words", "input_ids"], "a") + node(
        "Gather", ["types", "token_type_ids"], "b"
    )
    nodes += node("Gather", ["positions", "position_ids"], "c") + node("Add", ["a", "b"], "ab")
    nodes += node("Add", ["ab", "c"], "abc") + node("MatMul", ["abc", "dense"], "d")
    # The mask keeps its place among the inputs, as in a real encoder.
    nodes += node(
        "Cast", ["attention_mask"], "m", field(5, field(1, "to") + field(3, 1) + field(20, 2))
    )
    nodes += node("Unsqueeze", ["m", "two"], "m3") + node(last, ["d"], "e")
    nodes += node("Mul", ["e", "m3"], "last_hidden_state")
    held = [tensors.get(name) or tensor(name, values) for name, values in weights(width).items()]
    held.append(tensor("two", np.array([2])))
    asked = [value(name, 7, "B", "T") for name in inputs]
    return model(nodes, held, asked, output or value("last_hidden_state", 1, "B", "T", width))
