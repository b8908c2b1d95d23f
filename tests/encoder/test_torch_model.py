"""What torch loads is what was checked, and of no more memory than the weights account for."""

import json
import shutil

import folders
import numpy as np
import pytest

from rankstream.server.encoder import torch_model
from rankstream.server.encoder.base import EncoderSettings, ModelRefused
from rankstream.server.encoder.load import load_encoder
from rankstream.server.encoder.model_folder import read_model_folder
from rankstream.server.encoder.safetensors_header import read_header
from rankstream.server.encoder.torch_model import load_model

TEXTS = ["toy story", "", "wood train for kids, red and blue!"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return folders.write_random_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture
def folder(tmp_path, model):
    return shutil.copytree(model, tmp_path / "model")


def encoder_of(cache, folder, backend="torch"):
    return load_encoder(EncoderSettings(cache, str(folder), backend, "f32"))


def change_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def write_other_weights(folder, name):
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    other = {key: np.ascontiguousarray(values[::-1]) for key, values in weights.items()}
    save_file(other, folder / name, metadata={"format": "pt"})


def name_other_weights(folder):
    write_other_weights(folder, "other.safetensors")
    change_config(folder, transformers_weights="other.safetensors")


def add_a_shard(folder):
    write_other_weights(folder, "shard-00001-model-00001-of-00001.safetensors")
    # The library would take such a shard for what the index names.
    (folder / "checked").mkdir()
    (folder / "model.safetensors").rename(folder / "checked" / "a.safetensors")
    names = read_header(folder / "checked" / "a.safetensors")
    index = {"weight_map": {tensor.name: "checked/a.safetensors" for tensor in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def name_another_config(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.4.0.0.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    change_config(folder, configuration_files=["config.4.0.0.json"])


@pytest.mark.parametrize("mislead", [name_other_weights, add_a_shard, name_another_config])
def test_no_other_file_is_read_than_those_that_were_checked(folder, model, encoder_cache, mislead):
    mislead(folder)

    vectors = encoder_of(encoder_cache, folder).encode(TEXTS)

    np.testing.assert_array_equal(vectors, encoder_of(encoder_cache, model).encode(TEXTS))


def test_shards_are_loaded_together(folder, model, encoder_cache):
    from safetensors.numpy import load_file, save_file

    whole = load_file(folder / "model.safetensors")
    names = sorted(whole)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: whole[name] for name in held}, folder / file, metadata={"format": "pt"})
    index = {name: file for file, held in parts.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "model.safetensors").unlink()

    vectors = encoder_of(encoder_cache, folder).encode(TEXTS)

    np.testing.assert_array_equal(vectors, encoder_of(encoder_cache, model).encode(TEXTS))


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"intermediate_size": 1 << 22}, r"Linear.weight \[4194304, 32\]"),
        ({"max_position_embeddings": 1 << 22}, r"Embedding.weight \[4194304, 32\]"),
        ({"type_vocab_size": 1 << 22}, r"Embedding.weight \[4194304, 32\]"),
    ],
)
def test_a_config_that_is_larger_than_the_weights_is_refused(folder, encoder_cache, changes, part):
    change_config(folder, **changes)

    with pytest.raises(ModelRefused, match=rf"config\.json: asks for 5\d\d MB .* up to {part}"):
        encoder_of(encoder_cache, folder)


def test_a_mask_of_positions_is_bounded(folder):
    import torch
    import transformers

    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": len(folders.VOCABULARY)}
    torch.manual_seed(7)
    decoder = transformers.GPTBigCodeModel(transformers.GPTBigCodeConfig(**sizes, n_positions=64))
    decoder.save_pretrained(folder)
    change_config(folder, hidden_size=32, num_hidden_layers=2)
    load_model(read_model_folder(folder), "sdpa")

    change_config(folder, n_positions=1 << 16)

    with pytest.raises(ModelRefused, match=r"asks for 4\d\d\d MB .* up to GPTBigCodeModel\.bias"):
        load_model(read_model_folder(folder), "sdpa")


def test_the_number_of_tensors_is_bounded(folder, monkeypatch):
    monkeypatch.setattr(torch_model, "MAX_PARTS", 10)

    with pytest.raises(ModelRefused, match="and 11 tensors up to .* expected at most"):
        load_model(read_model_folder(folder), "sdpa")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"num_labels": 1 << 20}, "num_labels"),
        ({"text_config": {"num_hidden_layers": 1 << 20}}, "num_hidden_layers"),
    ],
)
def test_a_list_of_the_config_is_bounded(folder, changes, name):
    change_config(folder, **changes)

    with pytest.raises(ModelRefused, match=f"config.json: {name} 1048576; expected at most 100000"):
        load_model(read_model_folder(folder), "sdpa")


def test_the_converter_refuses_it_too(folder, tmp_path, encoder_cache):
    change_config(folder, intermediate_size=1 << 22)

    with pytest.raises(ModelRefused, match=r"config\.json: asks for 5\d\d MB"):
        encoder_of(encoder_cache, folder, "openvino")


def test_a_model_of_two_parts_that_does_not_say_so_is_refused(folder):
    import transformers

    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 4}
    config = transformers.T5Config(**sizes, vocab_size=len(folders.VOCABULARY))
    transformers.T5Model(config).save_pretrained(folder)
    change_config(folder, is_encoder_decoder=None)
    said = json.loads((folder / "config.json").read_text())
    del said["is_encoder_decoder"]
    (folder / "config.json").write_text(json.dumps(said))

    with pytest.raises(ModelRefused, match="an encoder with a decoder"):
        load_model(read_model_folder(folder), "sdpa")
