"""The backends on the default model and on small random ones, against each other."""

import dataclasses
import json
import subprocess
import sys
import threading

import folders
import numpy as np
import pytest

from rankstream.server.encoder import graph_cache
from rankstream.server.encoder.base import EncoderError, EncoderSettings, ModelRefused
from rankstream.server.encoder.golden import GOLDEN_TEXTS
from rankstream.server.encoder.load import load_encoder
from rankstream.server.encoder.sentence_modules import POOLINGS

MIXED = [f"item number {n} " + "with a longer description " * (n % 9) for n in range(40)]
SERVE = """
import json, sys
from pathlib import Path
from rankstream.server.encoder.base import EncoderSettings
from rankstream.server.encoder.load import load_encoder
encoder = load_encoder(EncoderSettings(Path(sys.argv[1]), backend="openvino", precision="f32"))
norm = float((encoder.encode(["warm"]) ** 2).sum())
heavy = [m for m in ("torch", "transformers", "openvino_telemetry") if m in sys.modules]
print(json.dumps({"norm": norm, "heavy": heavy, "fingerprint": encoder.fingerprint}))
"""


def cosine_of(encoder, left, right):
    a, b = encoder.encode([left, right])
    return float(a @ b)


@pytest.mark.parametrize(
    ("left", "right", "cosine"),
    [
        ("A man is eating food.", "Someone is having a meal.", 0.689),
        ("A man is eating food.", "A woman is playing violin.", -0.070),
        ("Toy Story (1995)", "Finding Nemo (2003)", 0.351),
    ],
)
def test_the_reference_gives_the_known_cosines(torch_f32, left, right, cosine):
    assert cosine_of(torch_f32, left, right) == pytest.approx(cosine, abs=0.002)


def test_alike_films_are_nearer(torch_f32):
    toys = "Toy Story. Animation, Children's, Comedy"

    alike = cosine_of(torch_f32, toys, "Finding Nemo. Animation, Children's, Comedy")

    assert alike > 0.2 + cosine_of(torch_f32, toys, "Alien. Action, Horror, Sci-Fi, Thriller")


def test_openvino_equals_torch(torch_f32, openvino_f32):
    texts = [*GOLDEN_TEXTS, *MIXED]

    cosines = folders.cosines(torch_f32.encode(texts), openvino_f32.encode(texts))

    assert cosines.min() >= 0.99999
    assert torch_f32.fingerprint == openvino_f32.fingerprint
    assert torch_f32.numerics != openvino_f32.numerics


def test_bf16_stays_near_and_is_a_space_of_its_own(torch_f32, openvino_f32, encoder_cache):
    settings = EncoderSettings(encoder_cache, backend="openvino", precision="bf16")
    try:
        bf16 = load_encoder(settings)
    except EncoderError as error:
        pytest.skip(f"bf16: {error}")
    texts = [*GOLDEN_TEXTS, *MIXED]

    bf16.warm_up()

    assert folders.cosines(torch_f32.encode(texts), bf16.encode(texts)).min() >= 0.999
    np.testing.assert_allclose(np.linalg.norm(bf16.encode(texts), axis=1), 1, atol=1e-6)
    assert bf16.fingerprint != openvino_f32.fingerprint


@pytest.mark.parametrize("name", ["torch_f32", "openvino_f32"])
def test_a_text_alone_and_in_a_batch_are_alike_and_in_order(request, name):
    encoder = request.getfixturevalue(name)

    together = encoder.encode(MIXED)
    alone = np.concatenate([encoder.encode([text]) for text in MIXED])

    assert together.dtype == np.float32
    assert folders.cosines(together, alone).min() >= 0.99999
    nearest = (together @ alone.T).argmax(axis=1)
    np.testing.assert_array_equal(nearest, np.arange(len(MIXED)))


def test_the_description_of_an_encoder(openvino_f32):
    assert (openvino_f32.dimension, openvino_f32.max_tokens) == (384, 256)
    assert openvino_f32.model_name == "all-MiniLM-L6-v2"
    assert (openvino_f32.backend, openvino_f32.precision) == ("openvino", "f32")
    assert openvino_f32.numerics.startswith("openvino-20")
    assert "/sdpa/" in openvino_f32.numerics


def test_edges_of_text(openvino_f32):
    assert openvino_f32.encode([]).shape == (0, 384)
    empty, blank, nul, surrogate, question = openvino_f32.encode(["", " \n", "\0", "\ud800", "?"])

    np.testing.assert_allclose(np.linalg.norm(empty), 1, atol=1e-6)
    np.testing.assert_array_equal(empty, blank)
    assert np.isfinite(nul).all()
    np.testing.assert_array_equal(surrogate, question)


def test_counts_say_what_was_read(openvino_f32):
    encoded = openvino_f32.encode_counted(
        ["", "chess", "chess " * 300, "x" * (1 << 20), " " * 20_000]
    )

    assert encoded.tokens.tolist() == [2, 3, 256, 3, 2]
    assert encoded.truncated.tolist() == [False, False, True, True, True]
    assert encoded.vectors.shape == (5, 384)


def test_a_megabyte_is_read_up_to_the_bound(openvino_f32):
    text = "wooden train " * (1 << 17)

    whole, start = openvino_f32.encode([text, text[: 256 * 64]])

    np.testing.assert_array_equal(whole, start)


def test_bulk_comes_in_batches_that_cover_each_text_once(openvino_f32):
    seen = np.zeros(len(MIXED), int)
    expected = openvino_f32.encode(MIXED)

    for rows, vectors in openvino_f32.encode_batches(MIXED):
        seen[rows] += 1
        np.testing.assert_array_equal(vectors, expected[rows])

    assert (seen == 1).all()


def test_threads_share_an_encoder(openvino_f32):
    expected = openvino_f32.encode(MIXED)
    wrong = []

    def work():
        for _ in range(3):
            if not np.allclose(openvino_f32.encode(MIXED), expected, atol=1e-5):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_a_warm_start_imports_neither_torch_nor_transformers(openvino_f32, encoder_cache):
    done = subprocess.run(
        [sys.executable, "-c", SERVE, str(encoder_cache)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    report = json.loads(done.stdout)
    assert report["heavy"] == []
    assert report["norm"] == pytest.approx(1, abs=1e-5)
    assert report["fingerprint"] == openvino_f32.fingerprint


@pytest.fixture(scope="module")
def random_bert(tmp_path_factory):
    return folders.write_random_model(tmp_path_factory.mktemp("bert"))


def pooled_by_hand(folder, texts, pooling, normalise=True):
    """The same through transformers' own tokeniser and a loop over texts without padding."""
    import torch
    import transformers

    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    rows = []
    for text in texts:
        ids = torch.tensor([tokenizer(text, max_length=64, truncation=True)["input_ids"]])
        with torch.no_grad():
            hidden = model(input_ids=ids)[0][0].numpy()
        positions = np.arange(1, len(hidden) + 1)[:, None]
        pooled = {
            "mean": hidden.mean(axis=0),
            "cls": hidden[0],
            "max": hidden.max(axis=0),
            "lasttoken": hidden[-1],
            "weightedmean": (hidden * positions).sum(axis=0) / positions.sum(),
            "mean_sqrt_len_tokens": hidden.sum(axis=0) / np.sqrt(len(hidden)),
        }[pooling]
        rows.append(pooled / np.linalg.norm(pooled) if normalise else pooled)
    return np.array(rows)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("backend", "pooling"),
    [
        *(("torch", pooling) for pooling in POOLINGS),
        *(("openvino", p) for p in ("cls", "lasttoken", "weightedmean")),
    ],
)
def test_a_plain_folder_pools_as_asked(random_bert, encoder_cache, backend, pooling):
    texts = ["toy story", "", "wood train for kids, red and blue!", "alien " * 90, "z"]
    settings = EncoderSettings(
        encoder_cache, str(random_bert), backend, "f32", pooling=pooling, max_batch_tokens=128
    )
    encoder = load_encoder(settings)

    vectors = encoder.encode(texts)

    encoder.warm_up()
    assert (encoder.dimension, encoder.max_tokens, encoder.backend) == (32, 64, backend)
    np.testing.assert_allclose(vectors, pooled_by_hand(random_bert, texts, pooling), atol=2e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_model_without_fused_attention_falls_back(tmp_path, encoder_cache, backend):
    changes = {"pad_token_id": 1, "max_position_embeddings": 66}
    folder = folders.write_random_model(tmp_path / "mpnet", "mpnet", **changes)
    texts = ["toy story", "wood train for kids", ""]

    encoder = load_encoder(
        EncoderSettings(encoder_cache, str(folder), backend, "f32", pooling="max")
    )

    encoder.warm_up()
    assert "/eager/" in encoder.numerics
    assert encoder.max_tokens == 64
    by_hand = pooled_by_hand(folder, texts, "max")
    np.testing.assert_allclose(encoder.encode(texts), by_hand, atol=2e-5)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_sum_over_the_root_of_the_length_keeps_its_length(tmp_path, encoder_cache, backend):
    folder = folders.write_random_model(tmp_path / "model")
    folders.write_sentence_folder(folder, {"pooling_mode": "mean_sqrt_len_tokens"})
    texts = ["toy", "wood train for kids, red and blue!"]

    encoder = load_encoder(EncoderSettings(encoder_cache, str(folder), backend, "f32"))

    by_hand = pooled_by_hand(folder, texts, "mean_sqrt_len_tokens", normalise=False)
    np.testing.assert_allclose(encoder.encode(texts), by_hand, atol=1e-4)


def test_a_sentence_folder_without_normalize_is_left_as_long_as_it_is(tmp_path, encoder_cache):
    folder = folders.write_random_model(tmp_path / "model")
    folders.write_sentence_folder(folder, {"pooling_mode_cls_token": True})
    prompts = {"prompts": {"q": "toy "}, "default_prompt_name": "q"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))

    encoder = load_encoder(EncoderSettings(encoder_cache, str(folder), "torch", "f32"))
    (vector,) = encoder.encode(["story"])
    encoder.warm_up()

    by_hand = pooled_by_hand(folder, ["toy story"], "cls")[0]
    assert np.linalg.norm(vector) > 1.5
    np.testing.assert_allclose(vector / np.linalg.norm(vector), by_hand, atol=2e-5)


def test_weights_that_are_missing_are_not_made_up(tmp_path, encoder_cache):
    folder = folders.write_random_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))

    with pytest.raises(ModelRefused, match="no weights for encoder.layer.2"):
        load_encoder(EncoderSettings(encoder_cache, str(folder), "torch", "f32"))


def test_a_tokenizer_of_another_model_is_refused(tmp_path, encoder_cache):
    folder = folders.write_random_model(tmp_path / "model", vocab_size=40)

    with pytest.raises(ModelRefused, match="but the model has 40 tokens"):
        load_encoder(EncoderSettings(encoder_cache, str(folder), "torch", "f32"))


def test_a_closed_encoder_says_so(random_bert, encoder_cache):
    encoder = load_encoder(EncoderSettings(encoder_cache, str(random_bert), "torch", "f32"))
    encoder.close()
    encoder.close()

    with pytest.raises(EncoderError, match="closed"):
        encoder.encode(["toy"])


def refusing(error):
    def refuse(*_):
        raise error

    return refuse


def test_a_model_that_openvino_cannot_take_is_served_by_torch(
    random_bert, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(graph_cache, "_run_child", refusing(EncoderError("no such operation")))
    settings = EncoderSettings(tmp_path, str(random_bert), precision="f32")

    encoder = load_encoder(settings)

    assert encoder.backend == "torch"
    assert encoder.encode(["a toy"]).shape == (1, folders.HIDDEN)
    assert "picked torch: OpenVINO cannot convert or compile it: no such operation" in caplog.text
    with pytest.raises(EncoderError, match="no such operation"):
        load_encoder(dataclasses.replace(settings, backend="openvino"))


def test_a_model_that_is_refused_is_not_given_to_torch(random_bert, tmp_path, monkeypatch):
    refused = ModelRefused("some weights are missing")
    monkeypatch.setattr(graph_cache, "_run_child", refusing(refused))

    with pytest.raises(ModelRefused, match="some weights are missing"):
        load_encoder(EncoderSettings(tmp_path, str(random_bert), precision="f32"))
