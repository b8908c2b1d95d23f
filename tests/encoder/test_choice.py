from pathlib import Path

import folders
import pytest

from rankstream.server.encoder.base import EncoderSettings, EncoderUnavailable, ModelRefused
from rankstream.server.encoder.choice import choose_backend, choose_precision
from rankstream.server.encoder.model_folder import read_model_folder
from rankstream.server.encoder.speed import faster, tokens_per_s
from rankstream.server.errors import InvalidArgument

BF16 = frozenset({"avx512_bf16"})


@pytest.fixture
def plain(tmp_path):
    return read_model_folder(folders.write_fake_model(tmp_path / "plain"))


@pytest.fixture
def quantised(tmp_path):
    root = folders.write_fake_model(tmp_path / "int8")
    folders.write_fake_int8(root)
    return read_model_folder(root)


def settings(**changes):
    return EncoderSettings(Path("unused"), **changes)


@pytest.mark.parametrize(
    ("precision", "flags", "chosen"),
    [
        ("auto", BF16, "bf16"),
        ("auto", frozenset(), "f32"),
        ("f32", BF16, "f32"),
        ("bf16", frozenset(), "bf16"),
    ],
)
def test_a_plain_folder_is_computed_in_what_the_cpu_has(plain, precision, flags, chosen):
    assert choose_precision(settings(precision=precision), plain, flags, True) == chosen


def test_an_int8_graph_is_taken_where_it_can_be_read(quantised):
    assert choose_precision(settings(), quantised, BF16, True) == "int8"
    assert choose_precision(settings(precision="f32"), quantised, BF16, True) == "f32"
    assert choose_precision(settings(backend="torch"), quantised, BF16, True) == "bf16"
    assert choose_precision(settings(), quantised, frozenset(), False) == "f32"


def test_int8_without_a_graph_says_how_to_make_one(plain):
    with pytest.raises(ModelRefused, match="rankstream model optimize --model"):
        choose_precision(settings(precision="int8"), plain, frozenset(), True)


def test_torch_reads_no_int8_graph(quantised):
    with pytest.raises(InvalidArgument, match="openvino alone"):
        choose_precision(settings(precision="int8", backend="torch"), quantised, BF16, True)


def test_an_adapter_is_not_merged_into_an_int8_graph(quantised):
    assert choose_precision(settings(adapter="a"), quantised, frozenset(), True) == "f32"
    with pytest.raises(InvalidArgument, match="takes none"):
        choose_precision(settings(precision="int8", adapter="a"), quantised, BF16, True)


def test_the_backend_is_measured_where_nothing_else_decides():
    assert choose_backend("auto", "f32", False, True)[0] == "auto"
    assert choose_backend("auto", "int8", False, True)[0] == "openvino"
    assert choose_backend("auto", "f32", True, True)[0] == "openvino"
    assert choose_backend("torch", "f32", False, True) == ("torch", "asked for")
    assert choose_backend("auto", "f32", False, False)[0] == "torch"


@pytest.mark.parametrize(
    ("wanted", "precision", "onnx"),
    [("openvino", "f32", False), ("auto", "int8", False), ("auto", "f32", True)],
)
def test_a_missing_library_is_named_with_its_cure(wanted, precision, onnx):
    with pytest.raises(EncoderUnavailable, match=r"pip install 'rankstream\[openvino\]'"):
        choose_backend(wanted, precision, onnx, False)


def test_torch_is_taken_only_where_it_is_clearly_faster():
    assert faster({"openvino": 100.0, "torch": 105.0})[0] == "openvino"
    name, reason = faster({"openvino": 1000.0, "torch": 2000.0})
    assert name == "torch"
    assert "openvino 1,000" in reason
    assert "torch 2,000" in reason


def test_the_quicker_of_two_has_more_tokens_a_second():
    def embed(work):
        return lambda batch: sum(batch.ids.sum() for _ in range(work))

    speeds = tokens_per_s({"quick": embed(1), "slow": embed(400)})

    assert speeds["quick"] > speeds["slow"] > 0
