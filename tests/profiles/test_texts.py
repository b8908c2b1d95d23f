"""Texts that interactions are with: remembered, encoded, forgotten."""

import numpy as np
import pytest

from rankstream.server.errors import CorruptState
from rankstream.server.profiles.texts import (
    Given,
    StoredText,
    TextCommit,
    read_extras,
    remember_texts,
    text_of,
    texts_to_encode,
)
from rankstream.server.types import text_key

DIMENSIONS, STRIDE = 3, 8


def remember(store, *texts, most=100):
    with store.write() as txn:
        remember_texts(txn, {text_key(t): t for t in texts}, most)


def encode(store, most=100, extra=1):
    """Encodes what waits: a text's vector is its length, and ones."""
    with store.read() as view:
        texts, upto, before = texts_to_encode(view, most)
    vectors = {n: np.array([len(t), 1, extra], np.float32) for n, t in texts.items()}
    with store.write() as txn:
        TextCommit(vectors, upto, store.slot).apply(txn)
    return sorted(texts.values()), upto > before


def extras(store, *texts, given=()):
    keys = sorted(text_key(text) for text in texts)
    with store.read() as view:
        return read_extras(view, keys, given, DIMENSIONS, STRIDE)


def labels(found):
    ends = [0, *found.labels.ends.tolist()]
    return [found.labels.text[a:b].tobytes().decode() for a, b in zip(ends, ends[1:], strict=False)]


def test_a_text_is_encoded_once_in_the_order_it_came(store):
    remember(store, "red shoes", "blue hat")
    remember(store, "red shoes", "scarf")

    assert encode(store, 2) == (["blue hat", "red shoes"], True)
    assert encode(store, 2) == (["scarf"], True)
    assert encode(store, 2) == ([], False)


def test_a_text_without_a_vector_is_no_extra(store):
    remember(store, "red shoes")
    assert len(extras(store, "red shoes").keys) == 0

    encode(store)

    found = extras(store, "red shoes", "never seen")
    assert found.keys.tolist() == [text_key("red shoes")]
    assert found.vectors.tolist() == [[9, 1, 1, 0, 0, 0, 0, 0]]
    assert labels(found) == ["red shoes"]


def test_extras_are_in_the_order_of_their_keys_with_what_is_given_among_them(store):
    texts = [f"text {n}" for n in range(20)]
    remember(store, *texts)
    encode(store)
    own = Given(5, "ü" * 300, np.arange(8, dtype=np.float32))

    found = extras(store, *texts, given=[own])

    assert found.keys.tolist() == sorted([5, *map(text_key, texts)])
    assert found.vectors[0].tolist() == list(range(8))
    # Cut at a character, not within one.
    assert labels(found)[0] == "ü" * 100


def test_the_oldest_texts_are_forgotten(store):
    for n in range(30):
        remember(store, f"text {n}", most=10)
    encode(store)

    kept = [n for n in range(30) if len(extras(store, f"text {n}").keys)]

    assert kept == list(range(20, 30))


def test_a_text_in_use_stays_with_its_vector(store):
    remember(store, "always", most=10)
    encode(store)
    for n in range(100):
        remember(store, f"text {n}", "always", most=10)

    assert len(extras(store, "always").keys) == 1


def test_a_vector_for_a_text_that_was_forgotten_meanwhile_is_dropped(store):
    remember(store, "a", most=1)
    with store.read() as view:
        texts, upto, _ = texts_to_encode(view, 10)
    remember(store, "b", most=1)

    with store.write() as txn:
        TextCommit({n: np.ones(3, np.float32) for n in texts}, upto, "a").apply(txn)

    with store.read() as view:
        assert text_of(view, text_key("a")) == ""
        assert text_of(view, text_key("b")) == "b"
    assert encode(store) == (["b"], True)


def test_each_slot_has_vectors_of_its_own_and_forgets_with_the_text(store):
    other = store.of("b")
    remember(store, "red shoes", "hat", most=2)
    encode(store)

    assert encode(other, most=1, extra=7) == (["red shoes"], True)
    assert extras(store, "red shoes").vectors[0, :3].tolist() == [9, 1, 1]
    assert extras(other, "red shoes", "hat").vectors[:, :3].tolist() == [[9, 1, 7]]

    remember(store, "scarf", "gloves", most=2)
    with store.read() as view:
        assert (view.count("vectors"), view.of("b").count("vectors")) == (0, 0)
    assert encode(other) == (["gloves", "scarf"], True)


def test_a_vector_of_another_dimension_is_an_error_not_a_text_left_out(store):
    remember(store, "text")
    encode(store)

    with store.read() as view, pytest.raises(CorruptState, match="12 bytes, expected 8"):
        read_extras(view, [text_key("text")], (), 2, STRIDE)


def test_a_damaged_text_is_named():
    blob = StoredText(1, "text").pack()

    with pytest.raises(CorruptState, match="stored text"):
        StoredText.unpack(blob[:7])


@pytest.mark.parametrize("left", [0, 7, 14])
def test_a_damaged_text_is_no_extra_but_an_error(store, left):
    remember(store, "text")
    encode(store)
    name = text_key("text").to_bytes(8, "little")
    with store.write() as txn:
        txn.put("texts", name, bytes(txn.get("texts", name))[:left])

    with store.read() as view, pytest.raises(CorruptState, match="stored text"):
        read_extras(view, [text_key("text")], (), DIMENSIONS, STRIDE)
