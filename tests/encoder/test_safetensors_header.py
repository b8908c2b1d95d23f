import json

import folders
import pytest

from rankstream.server.encoder import safetensors_header
from rankstream.server.encoder.base import ModelRefused
from rankstream.server.encoder.safetensors_header import Tensor, read_header

A = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
B = {"dtype": "I8", "shape": [], "data_offsets": [24, 25]}


def write(tmp_path, header, data_bytes):
    file = tmp_path / "model.safetensors"
    folders.write_safetensors(file, header, data_bytes)
    return file


def test_an_honest_header_is_read_in_the_order_of_its_bytes(tmp_path):
    file = write(tmp_path, {"__metadata__": {"format": "pt"}, "b": B, "a": A}, 25)

    assert read_header(file) == (Tensor("a", (2, 3), 0, 24), Tensor("b", (), 24, 25))


def test_as_many_dimensions_as_are_allowed_are_read(tmp_path):
    file = write(tmp_path, {"a": A | {"shape": [1] * 15 + [6]}}, 24)

    assert read_header(file)[0].shape == (1,) * 15 + (6,)


def test_what_the_library_writes_is_read(tmp_path):
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"x": np.zeros((3, 4), np.float16), "y": np.zeros(0)}, tmp_path / "f")

    assert {tensor.name: tensor.shape for tensor in read_header(tmp_path / "f")} == {
        "x": (3, 4),
        "y": (0,),
    }


@pytest.mark.parametrize(
    ("header", "data_bytes", "reason"),
    [
        ({"a": A}, 23, "end at byte 24 of 23"),
        ({"a": A}, 25, "end at byte 24 of 25"),
        ({"a": A | {"data_offsets": [0, 1 << 40]}}, 24, "takes 24 bytes, not 0..1099511627776"),
        ({"a": A | {"data_offsets": [4, 28]}}, 28, "leaves a hole"),
        ({"a": A, "b": B | {"data_offsets": [23, 24]}}, 24, "overlaps"),
        ({"a": A | {"data_offsets": [24, 0]}}, 24, "takes 24 bytes"),
        ({"a": A | {"data_offsets": [-24, 0]}}, 24, "shape or offsets"),
        ({"a": A | {"data_offsets": [0, 24, 48]}}, 24, "3 offsets"),
        ({"a": A | {"shape": [1 << 47, 1 << 47]}}, 24, "takes"),
        ({"a": A | {"shape": [1] * 15 + [6, 1]}}, 24, "has 17 dimensions, over 16"),
        ({"a": A | {"shape": [(1 << 48) - 1] * 400}}, 24, "has 400 dimensions, over 16"),
        ({"a": A | {"shape": [(1 << 48) - 1] * 16}}, 24, "takes"),
        ({"a": A | {"shape": [2.0, 3]}}, 24, "shape or offsets"),
        ({"a": A | {"shape": [True, 6]}}, 24, "shape or offsets"),
        ({"a": A | {"dtype": "F12"}}, 24, "dtype 'F12'"),
        ({"a": A | {"dtype": ["F32"]}}, 24, "dtype"),
        ({"a": 1}, 24, "not an object"),
        ([], 0, "not an object"),
    ],
)
def test_a_lying_header_is_refused(tmp_path, header, data_bytes, reason):
    file = write(tmp_path, header, data_bytes)

    with pytest.raises(ModelRefused, match=reason):
        read_header(file)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x01\x00",
        (1 << 62).to_bytes(8, "little") + b"{}",
        (3).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"\xff\xff",
        (2).to_bytes(8, "little") + b"{,",
    ],
)
def test_bytes_that_are_no_header_are_refused(tmp_path, content):
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)

    with pytest.raises(ModelRefused, match="safetensors"):
        read_header(file)


def test_a_huge_header_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors_header, "MAX_HEADER_BYTES", 10)
    file = tmp_path / "model.safetensors"
    file.write_bytes((11).to_bytes(8, "little") + b" " * 11)

    with pytest.raises(ModelRefused, match="over 10 bytes"):
        read_header(file)


def test_a_name_that_occurs_twice_is_refused(tmp_path):
    entry = json.dumps(A)
    header = f'{{"a": {entry}, "a": {entry}}}'.encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(24))

    with pytest.raises(ModelRefused, match="occurs twice"):
        read_header(file)
