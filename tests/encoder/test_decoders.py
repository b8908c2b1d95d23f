"""Decoders as embedding models: causal, read from the last token, padded on the right."""

import folders
import numpy as np
import pytest

from rankstream.server.encoder.base import EncoderSettings
from rankstream.server.encoder.load import load_encoder
from rankstream.server.encoder.model_folder import read_model_folder
from rankstream.server.errors import InvalidArgument

TEXTS = ["toy story", "", "wood train for kids, red and blue!", "alien " * 90, "z"]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return folders.write_random_decoder(tmp_path_factory.mktemp("decoder") / "model")


def padded_on_the_left(folder, texts, **kwargs):
    """What the model's authors do: padding on the left, the vector at the last place."""
    import torch
    import transformers

    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]", padding_side="left"
    )
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    read = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        found = model(input_ids=read["input_ids"], attention_mask=read["attention_mask"])
    last = found.last_hidden_state[:, -1].numpy()
    return last / np.linalg.norm(last, axis=1, keepdims=True)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_right_padding_gives_what_left_padding_gives(decoder, encoder_cache, backend):
    encoder = load_encoder(EncoderSettings(encoder_cache, str(decoder), backend, "f32"))

    vectors = encoder.encode(TEXTS)

    encoder.warm_up()
    np.testing.assert_allclose(vectors, padded_on_the_left(decoder, TEXTS), atol=2e-5)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(vectors, alone, atol=2e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_one_padded_batch_gives_what_left_padding_gives(decoder, encoder_cache, backend):
    # Short beside long in the same batch, which the plan of batches would not do.
    from rankstream.server.encoder.batching import pad_batch

    encoder = load_encoder(EncoderSettings(encoder_cache, str(decoder), backend, "f32"))
    ids = [found.token_ids for found in encoder.tokenize(TEXTS)]

    pooled = encoder._pool(pad_batch(np.arange(len(ids)), ids, 0))

    vectors = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, padded_on_the_left(decoder, TEXTS), atol=2e-5)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_sliding_window_is_kept(tmp_path, encoder_cache, backend):
    changes = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}
    folder = folders.write_random_decoder(tmp_path / "model", **changes)
    encoder = load_encoder(EncoderSettings(encoder_cache, str(folder), backend, "f32"))

    vectors = encoder.encode(TEXTS)

    expected = np.concatenate([padded_on_the_left(folder, [text]) for text in TEXTS])
    np.testing.assert_allclose(vectors, expected, atol=2e-5)


def test_a_text_longer_than_is_read_ends_with_the_end_token(decoder, encoder_cache):
    settings = EncoderSettings(encoder_cache, str(decoder), "torch", "f32", max_tokens=16)

    (found,) = load_encoder(settings).tokenize(["toy " * 50])

    assert found.truncated
    assert found.tokens == ["toy"] * 15 + ["[SEP]"]


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_edges_of_text(decoder, encoder_cache, backend):
    settings = EncoderSettings(encoder_cache, str(decoder), backend, "f32", max_tokens=32)
    encoder = load_encoder(settings)
    long = "toy story " * (1 << 17)

    found = encoder.encode_counted(["", " \n", "\0", "\ud800", "?", long, long[: 32 * 64]])

    assert found.tokens.tolist()[:2] == [1, 1]
    assert found.tokens.tolist()[-2:] == [32, 32]
    assert found.truncated.tolist() == [False] * 5 + [True] * 2
    assert np.isfinite(found.vectors).all()
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)
    for left, right in ((0, 1), (3, 4), (5, 6)):
        np.testing.assert_allclose(found.vectors[left], found.vectors[right], atol=1e-6)


def test_a_long_context_is_not_read_unless_asked_for(decoder, encoder_cache):
    def load(**changes):
        settings = EncoderSettings(encoder_cache, str(decoder), "torch", "f32", **changes)
        return load_encoder(settings)

    assert read_model_folder(decoder).max_positions == 32768
    assert load().max_tokens == 512
    assert load(max_tokens=4096).max_tokens == 4096
    with pytest.raises(InvalidArgument, match="max_batch_tokens: 4096; a text of max_tokens, 8192"):
        load(max_tokens=8192)
    with pytest.raises(InvalidArgument, match="max_tokens: 40000; model reads 8 to 32768 tokens"):
        load(max_tokens=40000, max_batch_tokens=1 << 20)
