"""LoRA adapters: merged exactly, or refused with the reason."""

import dataclasses
import importlib.util
import json
import math

import adapters
import folders
import numpy as np
import pytest

from rankstream.server.encoder.adapter_folder import read_adapter
from rankstream.server.encoder.base import EncoderSettings, EncoderUnavailable, ModelRefused
from rankstream.server.encoder.load import load_encoder

TEXTS = ["toy story", "", "wood train for kids, red and blue!"]
BERT = tuple(
    f"encoder.layer.{n}.attention.self.{name}" for n in (0, 1) for name in ("query", "value")
)
QWEN = tuple(f"layers.{n}.self_attn.o_proj" for n in (0, 1))


@pytest.fixture(scope="module", autouse=True)
def peft():
    if importlib.util.find_spec("peft") is None:
        pytest.skip("LoRA adapters: pip install 'rankstream[lora]'")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return folders.write_random_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture
def adapter(tmp_path):
    return adapters.write_adapter(tmp_path / "adapter", BERT)


def encoder_of(cache, model, adapter="", backend="torch"):
    return load_encoder(EncoderSettings(cache, str(model), backend, "f32", adapter=str(adapter)))


def change(adapter, **changes):
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("backend", "changes", "scale"),
    [
        ("torch", {}, 6.0 / 3),
        ("torch", {"lora_alpha": 1}, 1 / 3),
        ("torch", {"use_rslora": True}, 6.0 / math.sqrt(3)),
        ("openvino", {"use_rslora": True}, 6.0 / math.sqrt(3)),
    ],
)
def test_an_adapter_is_added_to_the_weights(
    tmp_path, model, adapter, encoder_cache, backend, changes, scale
):
    change(adapter, **changes)
    merged = adapters.write_merged(model, adapter, tmp_path / "merged", scale)

    encoder = encoder_of(encoder_cache, model, adapter, backend)

    encoder.warm_up()
    expected = encoder_of(encoder_cache, merged).encode(TEXTS)
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=2e-5)
    plain = encoder_of(encoder_cache, model)
    assert folders.cosines(encoder.encode(TEXTS), plain.encode(TEXTS)).max() < 0.999
    assert encoder.fingerprint not in (
        plain.fingerprint,
        encoder_of(encoder_cache, merged).fingerprint,
    )


def test_a_decoder_takes_one_too(tmp_path, encoder_cache):
    model = folders.write_random_decoder(tmp_path / "model")
    adapter = adapters.write_adapter(tmp_path / "adapter", QWEN, task_type="CAUSAL_LM")
    merged = adapters.write_merged(model, adapter, tmp_path / "merged", 2.0)

    vectors = encoder_of(encoder_cache, model, adapter).encode(TEXTS)

    expected = encoder_of(encoder_cache, merged).encode(TEXTS)
    np.testing.assert_allclose(vectors, expected, atol=2e-5)


def test_its_weights_and_its_config_are_part_of_the_space(model, adapter, encoder_cache):
    first = encoder_of(encoder_cache, model, adapter).fingerprint

    change(adapter, lora_alpha=7)

    assert encoder_of(encoder_cache, model, adapter).fingerprint != first


@pytest.mark.parametrize(
    ("backend", "base", "reason"),
    [
        ("torch", {"hidden_size": 16}, "size mismatch"),
        ("torch", {"num_hidden_layers": 1}, "encoder.layer.1.* has no place in it"),
        ("torch", {"num_hidden_layers": 3}, "encoder.layer.2.* has no weights"),
        ("torch", {"architecture": "qwen3"}, "query.*not found in the base model"),
        ("openvino", {"num_hidden_layers": 1}, "encoder.layer.1.* has no place in it"),
    ],
)
def test_an_adapter_for_another_model_is_refused(
    tmp_path, adapter, encoder_cache, backend, base, reason
):
    other = folders.write_random_model(tmp_path / "other", **base)

    with pytest.raises(ModelRefused, match=f"(?s)not an adapter for this model: .*{reason}"):
        encoder_of(encoder_cache, other, adapter, backend)


def test_weights_that_are_not_finite_are_refused(tmp_path, model, adapter, encoder_cache):
    from safetensors.numpy import load_file, save_file

    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {min(tensors): tensors[min(tensors)] * np.nan}, file)

    with pytest.raises(ModelRefused, match="not an adapter for this model: NaNs"):
        encoder_of(encoder_cache, model, adapter)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"peft_type": "IA3"}, "type 'IA3'; supported is LORA"),
        ({"peft_type": None}, "type None"),
        ({"bias": "all"}, "bias 'all' is not supported"),
        ({"modules_to_save": ["pooler"]}, "modules_to_save .* is not supported"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa'"),
        ({"megatron_config": {"a": 1}}, "megatron_config"),
        ({"layer_replication": [[0, 1 << 30]]}, "layer_replication"),
        ({"something_new": {"a": 1}}, "something_new"),
        ({"r": 1 << 40}, "rank 1099511627776, but no LoRA matrix"),
        ({"r": "3"}, "rank '3'"),
        ({"r": None}, "rank None"),
        ({"rank_pattern": {"query": 1 << 30}}, "rank 1073741824"),
        ({"rank_pattern": {"(a+)+$": 3}}, r"'\(a\+\)\+\$'; expected the name"),
        ({"rank_pattern": ["query"]}, "rank|lists of names"),
        ({"alpha_pattern": {"query": "x"}}, "lora_alpha 'x'"),
        ({"lora_alpha": None}, "lora_alpha None"),
        ({"target_modules": "(a+)+$"}, "to be lists of names"),
        ({"target_modules": ["(a+)+$"]}, "expected the name of a module"),
        ({"target_modules": [7]}, "expected the name of a module"),
        ({"exclude_modules": ".*"}, "to be lists of names"),
    ],
)
def test_what_is_not_a_plain_adapter_is_refused(adapter, changes, reason):
    change(adapter, **changes)

    with pytest.raises(ModelRefused, match=reason):
        read_adapter(adapter)


@pytest.mark.parametrize(
    ("tensor", "shape"),
    [
        ("query.lora_A.weight", (1 << 30, 0)),
        ("query.lora_A.weight", (4, 1000)),
        ("query.lora_B.weight", (1000, 4)),
        ("query.lora_magnitude_vector", (1000,)),
        ("query.weight", (1000, 1000)),
    ],
)
def test_a_rank_is_of_a_lora_matrix_and_no_other_number(adapter, tensor, shape):
    from safetensors.numpy import load_file, save_file

    file = adapter / "adapter_model.safetensors"
    save_file(load_file(file) | {tensor: np.zeros(shape, np.int8)}, file)

    for rank in set(shape) - {4}:
        change(adapter, r=rank)
        with pytest.raises(ModelRefused, match=f"rank {rank}, but no LoRA matrix"):
            read_adapter(adapter)


def test_a_rank_has_a_bound(adapter):
    from safetensors.numpy import load_file, save_file

    file = adapter / "adapter_model.safetensors"
    large = {f"{n}.lora_A.weight": np.zeros((n, 1), np.int8) for n in (4096, 4097)}
    save_file(load_file(file) | large, file)
    change(adapter, rank_pattern={"query": 4096})
    read_adapter(adapter)

    change(adapter, rank_pattern={"query": 4097})
    with pytest.raises(ModelRefused, match="rank 4097; expected at most 4096"):
        read_adapter(adapter)


def test_missing_and_foreign_files_are_named(adapter, tmp_path):
    weights = adapter / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    with pytest.raises(ModelRefused, match="lying safetensors header"):
        read_adapter(adapter)
    weights.unlink()
    with pytest.raises(ModelRefused, match=r"no adapter_model\.safetensors"):
        read_adapter(adapter)
    (adapter / "adapter_model.bin").write_bytes(whole)
    with pytest.raises(ModelRefused, match="pickles are never read"):
        read_adapter(adapter)
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(ModelRefused, match="adapter_config.json: not a readable JSON file"):
        read_adapter(adapter)
    with pytest.raises(ModelRefused, match="no such folder"):
        read_adapter(tmp_path / "missing")


def test_without_the_library_the_message_says_how_to_get_it(
    monkeypatch, model, adapter, encoder_cache
):
    settings = EncoderSettings(encoder_cache, str(model), "torch", "f32")
    load_encoder(settings)
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "peft" else real(name)
    )

    with pytest.raises(EncoderUnavailable, match=r"pip install 'rankstream\[lora\]'"):
        load_encoder(dataclasses.replace(settings, adapter=str(adapter)))
