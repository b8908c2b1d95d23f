"""Items: written, patched, deleted and read."""

from __future__ import annotations

import numpy as np
import pytest

from rankstream.client import InvalidArgument, Item, NotFound


def test_items_travel_whole(client, fake):
    item = Item("ünï", "T", "D", "C", "B", ("x", "y"), 9.5, {"image": np.array([1, 2])})

    upserted = client.upsert_items([item, Item("free", price=0.0)])

    sent = fake.requests["UpsertItems"][0].items
    assert (sent[0].item_id, list(sent[0].tags), sent[0].price) == ("ünï", ["x", "y"], 9.5)
    assert sent[0].vectors["image"].data == np.array([1, 2], "<f4").tobytes()
    assert list(sent[0].vectors["image"].shape) == [2]
    assert sent[1].HasField("price")
    assert upserted.token == b"items"
    assert [result.item_id for result in upserted.results] == ["ünï", "free"]


@pytest.mark.parametrize(
    ("item", "field"),
    [
        (Item(1), "item_id"),
        (Item("i", tags="ab"), "tags"),
        (Item("i", tags=("a", 2)), r"tags\[1\]"),
        (Item("i", price="1"), "price"),
        (Item("i", vectors={"image": ["a"]}), r"vectors\[image\]"),
        (Item("i", vectors={"image": [float("nan")]}), r"vectors\[image\]"),
        (Item("i", vectors={"image": [1e39]}), r"vectors\[image\]"),
    ],
)
def test_a_wrong_item_is_named(client, item, field):
    with pytest.raises(InvalidArgument, match=f"^{field}: "):
        client.upsert_items([item])


def test_get_item(client, fake):
    stored = client.get_item("toy", min_token=b"t", max_wait_ms=3)

    assert stored.item == Item("toy", "Toy Story", tags=("a", "b"), price=2.5)
    assert (stored.item_row, stored.text, stored.bias) == (11, "toy story", 0.5)
    assert fake.requests["GetItem"][0].read_after.min_token == b"t"


def test_get_item_that_is_not_there(client):
    with pytest.raises(NotFound, match="gone is not known") as caught:
        client.get_item("gone")
    assert caught.value.code == "NOT_FOUND"


def test_a_patch_names_what_it_changes(client, fake):
    patched = client.patch_item(
        "toy",
        {"price": 3.5, "attributes.colour": "red", "vectors.image": np.ones(2), "tags": ["a"]},
        clear=["brand"],
        if_version=99,
    )

    request = fake.requests["PatchItem"][0]
    assert list(request.update_mask.paths) == [
        *("price", "attributes.colour", "vectors.image", "tags", "brand")
    ]
    assert (request.item.item_id, request.item.price, request.if_version) == ("toy", 3.5, 99)
    assert request.item.attributes["colour"].text == "red"
    assert patched.item.tags == ("a",)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"colour": 1}, r"fields\[colour\]"),
        ({"item_id": "b"}, r"fields\[item_id\]"),
        ({"price.net": 1}, r"fields\[price.net\]"),
        ({"price": "free"}, "price"),
    ],
)
def test_a_wrong_patch_is_named(client, fake, fields, name):
    with pytest.raises(InvalidArgument, match=f"^{name}: "):
        client.patch_item("toy", fields)
    assert not fake.requests["PatchItem"]


def test_items_are_deleted(client, fake):
    fake.refused_items.add("bad")

    deleted = client.delete_items(iter(["toy", "bad"]))

    assert [result.error is None for result in deleted.results] == [True, False]
    with pytest.raises(InvalidArgument, match="^item_ids: "):
        client.delete_items("toy")
