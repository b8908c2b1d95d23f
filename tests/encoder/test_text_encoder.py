"""The encoder over backends that misbehave."""

import folders
import numpy as np
import pytest

from rankstream.server.encoder.base import EncoderError, ModelRefused, UnreadableText
from rankstream.server.encoder.fingerprint import Space
from rankstream.server.encoder.prompts import Prompts
from rankstream.server.encoder.text_encoder import CHUNK_TEXTS, Shape, TextEncoder
from rankstream.server.encoder.tokenizer import Tokenizer

DIMENSION = 8
SPACE = Space("", "", "", "", "", "mean", Prompts(), False, 64, 64, DIMENSION, True, "f32")


class Fake:
    """Answers with what ``answer`` makes of a batch."""

    name, numerics = "fake", "fake-1"

    def __init__(self, answer):
        self.answer = answer
        self.tokens = []

    def embed(self, batch):
        self.tokens.append(batch.ids.size)
        return self.answer(batch)


def honest(batch):
    """Depends on the tokens under the mask and on nothing else."""
    angles = np.arange(DIMENSION) * batch.mask.sum(axis=1, keepdims=True)
    return (np.cos(angles) + 2).astype(np.float32)


def tokenizer_in(folder, **options):
    folders.write_tokenizer(folder / "tokenizer.json", **options)
    return Tokenizer(folder / "tokenizer.json", 64, len(folders.VOCABULARY), False)


@pytest.fixture
def make(tmp_path):
    def build(answer, **options):
        tokenizer = tokenizer_in(tmp_path, **options)
        return TextEncoder(Fake(answer), tokenizer, SPACE, Shape("fake", 0, 256, DIMENSION))

    return build


def test_an_honest_backend_warms_up(make):
    make(honest).warm_up()


def test_batches_stay_under_the_budget_and_order_is_kept(make):
    fake_texts = ["a " * (n * 7 % 60) for n in range(100)]
    encoder = make(honest)

    vectors = encoder.encode(fake_texts)

    alone = np.concatenate([encoder.encode([text]) for text in fake_texts])
    np.testing.assert_array_equal(vectors, alone)


def test_a_bulk_longer_than_a_chunk_keeps_its_positions(make):
    texts = ["a " * (n % 5) for n in range(CHUNK_TEXTS + 3)]

    rows = np.concatenate([rows for rows, _ in make(honest).encode_batches(texts)])

    assert sorted(rows.tolist()) == list(range(len(texts)))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda batch: np.full((len(batch.ids), DIMENSION), np.nan, np.float32), "not finite"),
        (lambda batch: np.full((len(batch.ids), DIMENSION), np.inf, np.float32), "not finite"),
        (lambda batch: np.zeros((len(batch.ids), DIMENSION), np.float32), "length differs"),
        (lambda batch: np.ones((len(batch.ids), DIMENSION + 1), np.float32), "shape"),
        (lambda batch: np.eye(DIMENSION, dtype=np.float32)[: len(batch.ids)], "cosine 0.0"),
    ],
)
def test_a_warm_up_that_fails_says_why(make, answer, reason):
    with pytest.raises(ModelRefused, match=f"the warm-up failed: fake on fake.*{reason}"):
        make(answer).warm_up()


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, IndexError])
def test_a_backend_that_breaks_is_a_typed_error(make, kind):
    def broken(batch):
        message = "out of memory"
        raise kind(message)

    with pytest.raises(EncoderError, match="fake failed on a batch of shape.*out of memory"):
        make(broken).encode(["a"])
    # Not the model's fault: a process that starts again may fare better.
    with pytest.raises(EncoderError, match="out of memory") as failed:
        make(broken).warm_up()
    assert failed.value.status == "INTERNAL"


def test_a_tokenizer_without_special_tokens_still_reads_an_empty_text(tmp_path):
    folders.write_tokenizer(tmp_path / "t.json", special=False)
    tokens = Tokenizer(tmp_path / "t.json", 64, len(folders.VOCABULARY), True).tokenize(["", "TOY"])

    assert tokens.ids == [[0], [folders.VOCABULARY.index("toy")]]
    assert tokens.lengths.tolist() == [1, 1]


def test_what_the_model_reads_is_named(make):
    short, cut = make(honest).tokenize(["a", "a " * 100])

    names = [folders.VOCABULARY[token] for token in short.token_ids]
    assert short.tokens == names
    assert "a" in names
    assert (short.truncated, cut.truncated) == (False, True)
    assert len(cut.token_ids) == len(cut.tokens) == 64


def test_a_text_that_the_tokeniser_fails_on_is_a_typed_error(make):
    encoder = make(honest, unknown="[MISSING]")

    for unread in ("☃", "a \udc80 ☃"):
        with pytest.raises(UnreadableText, match="the tokeniser fails on a text: ."):
            encoder.encode(["a toy", unread])
    assert encoder.encode(["a toy"]).shape == (1, DIMENSION)


def test_a_tokeniser_that_fails_on_what_people_write_is_refused(make):
    with pytest.raises(ModelRefused, match="the warm-up failed: the tokeniser fails on a text"):
        make(honest, unknown="[MISSING]").warm_up()
