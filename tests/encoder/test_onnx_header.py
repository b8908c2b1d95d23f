"""ONNX files whose tensors are not what they say, refused before anything is allocated."""

import numpy as np
import onnx_files
import pytest
from onnx_files import field, tensor

from rankstream.server.encoder import onnx_header
from rankstream.server.encoder.base import ModelRefused
from rankstream.server.encoder.onnx_header import read_onnx_header

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)
OUTSIDE = ["../w.bin", "/etc/passwd", "a/../../w.bin", "..\\w.bin"]


def write(tmp_path, *tensors, more=b""):
    file = tmp_path / "model.onnx"
    file.write_bytes(field(7, b"".join(field(5, one) for one in tensors) + more))
    return file


def test_the_tensors_of_an_honest_file_are_read(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(onnx_files.encoder())

    found = {one.name: one.shape for one in read_onnx_header(file).tensors}

    expected = {name: values.shape for name, values in onnx_files.weights().items()}
    assert found == expected | {"two": (1,)}


def test_tensors_in_nodes_and_lists_of_numbers_are_read(tmp_path):
    listed = field(1, 3) + field(2, 7) + field(8, "listed") + field(7, b"\1\2\3")
    inner = field(5, field(5, tensor("inner", ROWS)))
    deep = field(5, field(6, field(1, inner) + field(5, listed)))
    file = write(tmp_path, tensor("own", ROWS), more=field(1, deep))

    assert [one.name for one in read_onnx_header(file).tensors] == ["own", "inner", "listed"]


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": (2, 4)},
        {"shape": (1 << 50, 1 << 50)},
        {"shape": (2, -3)},
        {"raw": b""},
        {"raw": bytes(25)},
        {"kind": 0},
        {"kind": 99},
        {"kind": 11},
    ],
)
def test_a_tensor_that_is_not_as_large_as_it_says_is_refused(tmp_path, changes):
    with pytest.raises(ModelRefused, match="not an ONNX file: tensor 'rows'"):
        read_onnx_header(write(tmp_path, tensor("rows", ROWS, **changes)))


def test_a_list_that_is_shorter_than_its_shape_is_refused(tmp_path):
    for count in (1 << 40, 3, 1):
        listed = field(1, count) + field(2, 1) + field(8, "rows") + field(4, bytes(8))
        with pytest.raises(ModelRefused, match=r"tensor 'rows' of shape .* has 2 items"):
            read_onnx_header(write(tmp_path, listed))


def test_a_list_does_not_stand_for_bytes_that_are_there(tmp_path):
    both = tensor("rows", ROWS, raw=b"1234") + field(4, bytes(24))

    with pytest.raises(ModelRefused, match=r"tensor 'rows' of shape .* has 1 items"):
        read_onnx_header(write(tmp_path, both))


def test_many_dimensions_are_refused_and_not_read_to_their_end(tmp_path):
    kind = field(2, 1) + field(4, bytes(8))
    one_by_one = field(1, (1 << 48) - 1) * 400 + kind
    packed = field(1, b"\1" * 17) + kind
    # What follows the bound is no number, and nobody sees it.
    endless = field(1, b"\1" * 17 + b"\xff" * (1 << 20)) + kind

    for dimensions in (one_by_one, packed, endless):
        with pytest.raises(ModelRefused, match="tensor '' has over 16 dimensions"):
            read_onnx_header(write(tmp_path, dimensions))

    allowed = field(1, b"\1" * 15 + b"\2") + kind
    assert read_onnx_header(write(tmp_path, allowed)).tensors[0].shape == (1,) * 15 + (2,)


def test_weights_beside_the_file_are_read_where_they_lie(tmp_path):
    (tmp_path / "w.bin").write_bytes(bytes(8) + ROWS.tobytes())
    place = {"location": "w.bin", "offset": 8, "length": 24}

    found = read_onnx_header(write(tmp_path, tensor("rows", ROWS, external=place)))

    assert found.external == (tmp_path / "w.bin",)
    assert found.tensors[0].shape == (2, 3)


@pytest.mark.parametrize(
    "change",
    [
        *({"location": path} for path in OUTSIDE),
        {"location": ""},
        {"location": "missing"},
        {"offset": 9},
        {"offset": -8},
        {"length": 23},
        {"length": 1 << 60},
        {"length": "many"},
    ],
)
def test_weights_outside_the_folder_or_beyond_a_file_are_refused(tmp_path, change):
    inner = tmp_path / "model"
    inner.mkdir()
    for folder in (tmp_path, inner):
        (folder / "w.bin").write_bytes(bytes(8) + ROWS.tobytes())
    place = {"location": "w.bin", "offset": 8, "length": 24} | change

    with pytest.raises(ModelRefused, match="model"):
        read_onnx_header(write(inner, tensor("rows", ROWS, external=place)))


def test_every_beginning_of_a_file_is_refused(tmp_path):
    file = tmp_path / "model.onnx"
    whole = onnx_files.encoder()

    for size in range(0, whole.index(b"last_hidden_state") + 20, 7):
        file.write_bytes(whole[:size])
        with pytest.raises(ModelRefused, match="onnx"):
            read_onnx_header(file)


@pytest.mark.parametrize("seed", range(50))
def test_damage_is_refused_or_harmless(tmp_path, seed):
    rng = np.random.default_rng(seed)
    file = tmp_path / "model.onnx"
    damaged = bytearray(onnx_files.encoder())
    for place in rng.integers(0, len(damaged), 20):
        damaged[place] = rng.integers(256)
    file.write_bytes(damaged)
    try:
        tensors = read_onnx_header(file).tensors
    except ModelRefused:
        return
    assert sum(one.stop - one.start for one in tensors) <= len(damaged)


@pytest.mark.parametrize("content", [b"", b"\x80" * 20, b"rubbish", bytes(100), field(1, 8)])
def test_what_is_no_onnx_is_refused(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)

    with pytest.raises(ModelRefused, match=r"model\.onnx: (not an ONNX file|0 bytes)"):
        read_onnx_header(tmp_path / "model.onnx")


def test_bounds_end_a_file_that_would_take_for_ever(tmp_path, monkeypatch):
    nested = b""
    for _ in range(20):
        nested = field(1, field(5, field(6, nested)))
    file = write(tmp_path, tensor("rows", ROWS), more=nested)
    with pytest.raises(ModelRefused, match="graphs inside one another"):
        read_onnx_header(file)

    file = write(tmp_path, tensor("rows", ROWS))
    monkeypatch.setattr(onnx_header, "MAX_FIELDS", 5)
    with pytest.raises(ModelRefused, match="over 5 fields"):
        read_onnx_header(file)
    monkeypatch.setattr(onnx_header, "MAX_ONNX_BYTES", 10)
    with pytest.raises(ModelRefused, match="expected 1 to 10"):
        read_onnx_header(file)
