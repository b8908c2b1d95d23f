"""Vectors of which the first numbers are kept, as models with nested dimensions allow."""

import dataclasses

import folders
import numpy as np
import pytest

from rankstream.server.encoder.base import EncoderSettings
from rankstream.server.encoder.load import load_encoder
from rankstream.server.errors import InvalidArgument

TEXTS = ["toy story", "", "wood train for kids", "alien " * 40]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return folders.write_random_decoder(tmp_path_factory.mktemp("cut") / "model")


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_cut_vector_is_the_beginning_of_the_whole_one_normalised(decoder, encoder_cache, backend):
    settings = EncoderSettings(encoder_cache, str(decoder), backend, "f32")
    whole = load_encoder(settings)

    cut = load_encoder(dataclasses.replace(settings, dimensions=12))

    cut.warm_up()
    begin = whole.encode(TEXTS)[:, :12]
    expected = begin / np.linalg.norm(begin, axis=1, keepdims=True)
    np.testing.assert_allclose(cut.encode(TEXTS), expected, atol=1e-6)
    assert cut.encode_counted(TEXTS).vectors.shape == (4, 12)
    assert (whole.dimension, cut.dimension) == (folders.HIDDEN, 12)
    assert whole.fingerprint != cut.fingerprint


def test_without_normalisation_the_beginning_is_kept_as_it_is(tmp_path, encoder_cache):
    folder = folders.write_random_model(tmp_path / "model")
    folders.write_sentence_folder(folder, {"pooling_mode": "cls"})
    settings = EncoderSettings(encoder_cache, str(folder), "torch", "f32")

    cut = load_encoder(dataclasses.replace(settings, dimensions=12)).encode(TEXTS)

    np.testing.assert_array_equal(cut, load_encoder(settings).encode(TEXTS)[:, :12])


def test_the_folder_may_say_how_much_is_kept(tmp_path, encoder_cache):
    folder = folders.write_random_decoder(tmp_path / "model")
    folders.write_sentence_config(folder, truncate_dim=8)
    settings = EncoderSettings(encoder_cache, str(folder), "torch", "f32")

    assert load_encoder(settings).dimension == 8
    assert load_encoder(dataclasses.replace(settings, dimensions=32)).dimension == 32


@pytest.mark.parametrize("dimensions", [-1, 33, 1 << 40])
def test_more_than_there_are_is_refused(decoder, encoder_cache, dimensions):
    settings = EncoderSettings(encoder_cache, str(decoder), "torch", "f32", dimensions=dimensions)

    with pytest.raises(InvalidArgument, match=f"dimensions: {dimensions}; model gives 1 to 32"):
        load_encoder(settings)
