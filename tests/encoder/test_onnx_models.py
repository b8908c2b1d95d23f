"""Folders whose only weights are ONNX, read by OpenVINO."""

import importlib.util
import json

import folders
import numpy as np
import onnx_files
import pytest
from onnx_files import field, value

from rankstream.server.encoder.base import EncoderSettings, ModelRefused
from rankstream.server.encoder.load import load_encoder
from rankstream.server.encoder.model_folder import read_model_folder

TEXTS = ["toy story", "", "wood train for kids, red and blue!", "alien " * 30]


@pytest.fixture(autouse=True)
def openvino():
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("the OpenVINO backend: pip install 'rankstream[openvino]'")


def load(cache, folder, backend="openvino", **changes):
    return load_encoder(EncoderSettings(cache, str(folder), backend, "f32", **changes))


def by_hand(encoder, pooling):
    rows = []
    for text in encoder.tokenize(TEXTS):
        tokens = onnx_files.token_vectors(text.token_ids)
        places = np.arange(1, len(tokens) + 1)[:, None]
        pooled = {
            "mean": tokens.mean(axis=0),
            "lasttoken": tokens[-1],
            "weightedmean": (tokens * places).sum(axis=0) / places.sum(),
            "max": tokens.max(axis=0),
            "cls": tokens[0],
            "mean_sqrt_len_tokens": tokens.sum(axis=0) / np.sqrt(len(tokens)),
        }[pooling]
        rows.append(pooled / np.linalg.norm(pooled))
    return np.array(rows)


@pytest.mark.parametrize(
    ("name", "pooling"),
    [("model.onnx", "mean"), ("onnx/model.onnx", "lasttoken"), ("model.onnx", "weightedmean")],
)
def test_a_graph_is_read_and_pooled(tmp_path, encoder_cache, name, pooling):
    folder = onnx_files.write_onnx_model(tmp_path / "model", name)

    encoder = load(encoder_cache, folder, pooling=pooling)

    encoder.warm_up()
    np.testing.assert_allclose(encoder.encode(TEXTS), by_hand(encoder, pooling), atol=1e-5)
    assert encoder.dimension == onnx_files.WIDTH
    assert "/onnx/" in encoder.numerics


@pytest.mark.parametrize("pooling", ["cls", "max", "mean_sqrt_len_tokens"])
def test_other_poolings(tmp_path, encoder_cache, pooling):
    folder = onnx_files.write_onnx_model(tmp_path / "model")

    encoder = load(encoder_cache, folder, pooling=pooling)

    np.testing.assert_allclose(encoder.encode(TEXTS), by_hand(encoder, pooling), atol=1e-5)


def test_weights_beside_the_graph_are_part_of_the_space(tmp_path, encoder_cache):
    words = onnx_files.weights()["words"]
    place = {"location": "words.bin", "offset": 4, "length": words.nbytes}
    beside = onnx_files.tensor("words", words, external=place)
    folder = onnx_files.write_onnx_model(tmp_path / "model", words=beside)
    (folder / "words.bin").write_bytes(bytes(4) + words.tobytes())

    encoder = load(encoder_cache, folder)

    np.testing.assert_allclose(encoder.encode(TEXTS), by_hand(encoder, "mean"), atol=1e-5)
    (folder / "words.bin").write_bytes(bytes(4) + (2 * words).tobytes())
    other = load(encoder_cache, folder)
    assert other.fingerprint != encoder.fingerprint
    assert folders.cosines(other.encode(TEXTS), encoder.encode(TEXTS)).min() < 0.999


def test_safetensors_go_before_onnx(tmp_path):
    folder = folders.write_fake_model(tmp_path / "model")
    (folder / "model.onnx").write_bytes(b"rubbish")

    assert read_model_folder(folder).weights == (folder / "model.safetensors",)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"inputs": (*onnx_files.INPUTS, "pixels")},
            r"inputs \[.*'pixels'.*supported are input_ids",
        ),
        ({"last": "NoSuchOperator"}, "OpenVINO does not read it"),
        ({"output": value("m", 1, "B", "T")}, r"outputs \['m'\]; expected one of token vectors"),
    ],
)
def test_a_graph_of_another_kind_is_refused(tmp_path, encoder_cache, changes, reason):
    folder = onnx_files.write_onnx_model(tmp_path / "model")
    (folder / "model.onnx").write_bytes(onnx_files.encoder(**changes))

    with pytest.raises(ModelRefused, match=f"(?s)model.onnx: {reason}"):
        load(encoder_cache, folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden_size": None}, "expected a positive hidden_size"),
        ({"vocab_size": None}, "expected a positive vocab_size"),
        ({"hidden_size": 8}, "of two models"),
        ({"vocab_size": 1 << 30}, "of two models"),
    ],
)
def test_sizes_come_from_the_config_and_must_be_those_of_the_weights(tmp_path, changes, reason):
    folder = onnx_files.write_onnx_model(tmp_path / "model")
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    with pytest.raises(ModelRefused, match=reason):
        read_model_folder(folder)


def test_torch_and_adapters_need_safetensors(tmp_path, encoder_cache, monkeypatch):
    folder = onnx_files.write_onnx_model(tmp_path / "model")

    with pytest.raises(ModelRefused, match="backend torch reads no ONNX; use openvino"):
        load(encoder_cache, folder, "torch")
    with pytest.raises(ModelRefused, match="an adapter is merged into model.safetensors"):
        load(encoder_cache, folder, adapter=str(tmp_path))


def test_a_lying_or_cut_file_is_refused_before_openvino_sees_it(tmp_path):
    folder = onnx_files.write_onnx_model(tmp_path / "model")
    whole = (folder / "model.onnx").read_bytes()

    for content in (whole[:-1], whole[: len(whole) // 2], b"", b"rubbish", field(7, whole)):
        (folder / "model.onnx").write_bytes(content)
        with pytest.raises(ModelRefused, match="model.onnx"):
            read_model_folder(folder)
