"""Rows: blocks side by side, each normalised, attributes hashed."""

import math

import numpy as np
import pytest

from rankstream.server.catalog.blocks import (
    ATTRIBUTE_DIMENSIONS,
    attribute_features,
    hash_attributes,
    make_layout,
    normalise,
)
from rankstream.server.config import Scoring
from rankstream.server.errors import InvalidArgument


def test_blocks_stand_in_their_declared_order_with_their_weights():
    scoring = Scoring(text_weight=2.0, attributes_weight=0.5, vectors="image:5:0.7, cf:3")

    layout = make_layout(21, scoring)

    assert [(b.name, b.start, b.stop, b.weight) for b in layout.blocks] == [
        ("text", 0, 21, 2.0),
        ("attributes", 21, 85, 0.5),
        ("image", 85, 90, 0.7),
        ("cf", 90, 93, 1.0),
    ]
    assert layout.offsets.tolist() == [0, 21, 85, 90, 93]
    assert layout.weights.tolist() == [2.0, 0.5, 0.7, 1.0]
    assert [b.name for b in layout.vectors] == ["image", "cf"]
    assert layout.stride == 96


def test_a_description_tells_what_may_not_change():
    once = make_layout(21, Scoring(vectors="image:5"))

    assert once.describe() == make_layout(21, Scoring(vectors="image:5:0.2")).describe()
    assert once.describe() != make_layout(21, Scoring(vectors="image:6")).describe()
    assert once.describe() != make_layout(22, Scoring(vectors="image:5")).describe()
    assert once.describe() != make_layout(21, Scoring(vectors="photo:5")).describe()


@pytest.mark.parametrize(
    "declared",
    ["image", "image:x", "image:0", "image:4097", "image:5:nan", "image:5:1:2", ":5", "text:5",
     "image:5,image:6", "image:-1"],
)  # fmt: skip
def test_a_declaration_that_does_not_read_is_refused(declared):
    with pytest.raises(InvalidArgument, match="^vectors: "):
        make_layout(21, Scoring(vectors=declared))


def test_fused_rows_hold_each_block_at_norm_one_and_zeros_elsewhere():
    layout = make_layout(3, Scoring(vectors="image:2"))
    text = np.array([[3, 0, 4], [0, 0, 0]], np.float32)
    image = np.array([[0, -2], [1, 0]], np.float32)

    rows = layout.fuse({"text": text, "image": image}, 2)

    expected = np.zeros((2, layout.stride), np.float32)
    expected[0, :3] = [0.6, 0, 0.8]
    expected[0, 67:69] = [0, -1]
    expected[1, 67] = 1
    np.testing.assert_array_equal(rows, expected)
    assert rows.dtype == np.float32


def test_vectors_of_any_magnitude_are_normalised():
    vectors = np.array([[1e-38, 1e-38], [3e38, 3e38], [0, 0]], np.float32)

    scaled = normalise(vectors)

    half = np.float32(math.sqrt(0.5))
    np.testing.assert_allclose(scaled, [[half, half], [half, half], [0, 0]], rtol=1e-6)


def test_the_inner_product_of_hashed_features_counts_what_is_shared():
    once = hash_attributes(["brand=a", "tag=b"])

    assert once.shape == (ATTRIBUTE_DIMENSIONS,)
    assert hash_attributes([]).any() == np.False_
    np.testing.assert_array_equal(once, hash_attributes(["tag=b", "brand=a"]))
    assert np.abs(once).sum() == 2
    assert set(np.unique(once)) <= {-1.0, 0.0, 1.0}


def test_features_have_signs_of_both_kinds_and_spread_over_all_dimensions():
    total = np.array([hash_attributes([f"tag={n}"]) for n in range(2000)])

    assert (total.sum(axis=0) != total.astype(bool).sum(axis=0)).any()
    assert total.any(axis=0).all()


def test_features_of_an_item():
    features = attribute_features("Books", "ACME", ["Red", "red", "", "big"], 9.0)

    assert features == ["tag=red", "tag=red", "tag=big", "category=books", "brand=acme", "price=6"]


@pytest.mark.parametrize("price", [None, 0.0])
def test_an_item_without_a_price_has_no_price_feature(price):
    assert attribute_features("", "", [], price) == []


def test_prices_within_half_an_octave_share_a_bucket():
    assert attribute_features("", "", [], 8.0) == attribute_features("", "", [], 11.0)
    assert attribute_features("", "", [], 8.0) != attribute_features("", "", [], 12.0)
