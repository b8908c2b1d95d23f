"""Prompts: which there are, which is used for what, and what the model then reads."""

import dataclasses

import folders
import numpy as np
import pytest

from rankstream.server.encoder.base import EncoderSettings, ModelRefused
from rankstream.server.encoder.load import check_encoder, load_encoder
from rankstream.server.encoder.prompts import Prompts
from rankstream.server.errors import InvalidArgument

TEXTS = {"query": "toy ", "document": "wood train "}


@pytest.mark.parametrize(
    ("names", "default", "item", "query"),
    [
        (("query", "document"), None, "document", "query"),
        (("query", "passage"), None, "passage", "query"),
        (("passage", "document"), None, "document", None),
        (("query", "corpus"), "query", "corpus", "query"),
        (("clustering",), None, None, None),
        (("clustering",), "clustering", "clustering", "clustering"),
        ((), None, None, None),
    ],
)
def test_what_a_prompt_is_used_for_follows_from_its_name(names, default, item, query):
    used = Prompts(dict.fromkeys(names, "x"), default).in_use("", "")

    assert (used.item, used.query) == (item, query)


def test_a_setting_goes_before_names():
    prompts = Prompts(dict.fromkeys(("query", "document", "other"), "x"))

    used = prompts.in_use("query", "other")

    assert (used.item, used.query) == ("query", "other")


@pytest.mark.parametrize("field", ["item_prompt", "query_prompt"])
def test_a_setting_that_names_no_prompt_is_refused(field):
    asked = {"item_prompt": "", "query_prompt": ""} | {field: "qury"}

    with pytest.raises(InvalidArgument, match="no prompt 'qury'; there are 'document', 'query'"):
        Prompts(TEXTS).in_use(*asked.values())


def test_none_is_the_default_and_a_name_must_exist():
    prompts = Prompts(TEXTS)

    assert (prompts.before(None), prompts.before("query")) == ("", "toy ")
    assert dataclasses.replace(prompts, default="query").before(None) == "toy "
    for name in ("", "Query"):
        with pytest.raises(InvalidArgument, match="there are 'document', 'query'"):
            prompts.before(name)
    with pytest.raises(InvalidArgument, match="the model has no prompts"):
        Prompts().before("query")


@pytest.fixture(scope="module")
def prompted(tmp_path_factory):
    folder = folders.write_random_decoder(tmp_path_factory.mktemp("prompted") / "model")
    return folders.write_sentence_config(folder, prompts=TEXTS, default_prompt_name=None)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_prompt_stands_before_each_text(prompted, encoder_cache, backend):
    encoder = load_encoder(EncoderSettings(encoder_cache, str(prompted), backend, "f32"))
    texts = ["story", "", "alien " * 30]

    for name, before in TEXTS.items():
        plain = encoder.encode([before + text for text in texts])
        np.testing.assert_allclose(encoder.encode(texts, name), plain, atol=1e-6)
        np.testing.assert_allclose(encoder.encode_counted(texts, name).vectors, plain, atol=1e-6)
        for rows, vectors in encoder.encode_batches(texts, name):
            np.testing.assert_allclose(vectors, plain[rows], atol=1e-6)
        read = [found.tokens for found in encoder.tokenize(texts, name)]
        assert read == [found.tokens for found in encoder.tokenize([before + t for t in texts])]
    assert (encoder.prompts.item, encoder.prompts.query) == ("document", "query")
    for call in (encoder.encode, encoder.encode_counted, encoder.tokenize):
        with pytest.raises(InvalidArgument, match="prompt_name: no prompt 'qury'"):
            call(texts, "qury")


def test_a_default_prompt_stands_before_what_names_none(tmp_path, encoder_cache):
    folder = folders.write_random_decoder(tmp_path / "model")
    settings = EncoderSettings(encoder_cache, str(folder), "torch", "f32")
    without = load_encoder(settings)
    folders.write_sentence_config(folder, prompts={"q": "toy "}, default_prompt_name="q")
    encoder = load_encoder(settings)

    np.testing.assert_allclose(encoder.encode(["story"]), without.encode(["toy story"]), atol=1e-6)
    assert encoder.fingerprint != without.fingerprint
    assert (encoder.prompts.item, encoder.prompts.query) == ("q", "q")


def test_settings_choose_the_prompts_and_change_the_space(prompted, encoder_cache):
    settings = EncoderSettings(encoder_cache, str(prompted), "torch", "f32")
    plain = load_encoder(settings)

    swapped = load_encoder(
        dataclasses.replace(settings, item_prompt="query", query_prompt="document")
    )

    assert (swapped.prompts.item, swapped.prompts.query) == ("query", "document")
    assert swapped.fingerprint != plain.fingerprint
    with pytest.raises(InvalidArgument, match="item_prompt: no prompt 'passage'"):
        load_encoder(dataclasses.replace(settings, item_prompt="passage"))


def test_a_prompt_that_leaves_no_room_for_a_text_is_refused(tmp_path, encoder_cache):
    folder = folders.write_random_decoder(tmp_path / "model")
    folders.write_sentence_config(folder, prompts={"query": "toy " * 20})

    with pytest.raises(InvalidArgument, match="max_tokens: the prompt 'query' alone is as long"):
        load_encoder(EncoderSettings(encoder_cache, str(folder), "torch", "f32", max_tokens=16))


def test_a_prompt_that_the_tokeniser_fails_on_is_refused(tmp_path):
    folder = folders.write_fake_model(tmp_path / "model")
    folders.write_tokenizer(folder / "tokenizer.json", unknown="[MISSING]")
    folders.write_sentence_folder(folder, {"pooling_mode_mean_tokens": True})
    folders.write_sentence_config(folder, prompts={"query": "☃ "})

    with pytest.raises(ModelRefused, match="the model's prompts: the tokeniser fails on a text"):
        check_encoder(EncoderSettings(tmp_path / "cache", str(folder)))
