"""Patches of items: which paths there are, and what each changes."""

import pytest
from small_server import item

from rankstream.proto.v1 import catalog_pb2, common_pb2
from rankstream.server.catalog.blocks import make_layout
from rankstream.server.config import Limits, Scoring
from rankstream.server.errors import InvalidArgument
from rankstream.server.services.item_patch import item_paths, patched

BLOCKS = make_layout(4, Scoring(vectors="image:2,review:3")).vectors
LIMITS = Limits(max_mask_paths=8)


def text(value):
    return common_pb2.AttributeValue(text=value)


def whole():
    made = item("a", "Title", category="c", tags=["x", "y"], price=3.5, image=[1, 2])
    made.brand, made.description = "b", "d"
    made.attributes["colour"].CopyFrom(text("red"))
    made.attributes["size"].CopyFrom(common_pb2.AttributeValue(number=4))
    return made


def with_paths(patch, *paths):
    return patched(whole(), patch, item_paths(paths, LIMITS, BLOCKS))


def changed(**fields):
    """The whole item with some fields as given."""
    made = whole()
    for name, value in fields.items():
        made.ClearField(name)
        made.MergeFrom(catalog_pb2.Item(**{name: value}))
    return made


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("title", "New"),
        ("description", "New"),
        ("category", "New"),
        ("brand", "New"),
        ("tags", ["z"]),
        ("price", 0.0),
        ("attributes", {"weight": common_pb2.AttributeValue(flag=True)}),
        ("vectors", {"review": common_pb2.Vector(data=b"1")}),
    ],
)
def test_a_field_becomes_what_the_patch_has_and_no_other_does(name, value):
    patch = catalog_pb2.Item(**{"title": "not named", "brand": "not named", name: value})

    assert with_paths(patch, name) == changed(**{name: value})


@pytest.mark.parametrize("name", [f.name for f in catalog_pb2.Item.DESCRIPTOR.fields][1:])
def test_a_field_that_the_patch_does_not_set_is_cleared(name):
    expected = whole()
    expected.ClearField(name)

    assert with_paths(catalog_pb2.Item(item_id="a"), name) == expected


def test_one_attribute_changes_one_comes_and_one_goes():
    patch = catalog_pb2.Item(attributes={"colour": text("blue"), "a.b": text("dotted")})

    found = with_paths(patch, "attributes.colour", "attributes.size", "attributes.a.b")

    assert dict(found.attributes) == {"colour": text("blue"), "a.b": text("dotted")}


def test_an_attribute_that_is_nowhere_is_cleared_without_a_word():
    assert with_paths(catalog_pb2.Item(), "attributes.none", "vectors.review") == whole()


def test_one_vector_comes_and_one_goes():
    review = common_pb2.Vector(data=b"123", shape=[3])

    found = with_paths(
        catalog_pb2.Item(vectors={"review": review}), "vectors.review", "vectors.image"
    )

    assert dict(found.vectors) == {"review": review}


def test_a_path_given_twice_and_within_another_is_no_harm():
    patch = catalog_pb2.Item(attributes={"colour": text("blue")}, tags=["z"])

    found = with_paths(patch, "tags", "attributes", "attributes.colour", "tags")

    assert list(found.tags) == ["z"]
    assert dict(found.attributes) == {"colour": text("blue")}


def test_the_item_and_the_patch_stay_as_they_are():
    before, patch = whole(), catalog_pb2.Item(price=1)
    patched(before, patch, item_paths(["price", "attributes.colour"], LIMITS, BLOCKS))

    assert before == whole()
    assert patch == catalog_pb2.Item(price=1)


def test_what_a_later_version_wrote_stays():
    later = whole().SerializeToString() + b"\xfa\x7f\x03new"
    found = patched(
        catalog_pb2.Item.FromString(later),
        catalog_pb2.Item(price=1),
        item_paths(["price"], LIMITS, BLOCKS),
    )

    assert b"\xfa\x7f\x03new" in found.SerializeToString()


@pytest.mark.parametrize(
    ("paths", "field", "problem"),
    [
        ([], "update_mask", "empty, expected what to change: title, description,"),
        (["title"] * 9, "update_mask", "9 paths, the limit is 8"),
        (["title", "item_id"], "update_mask.paths[1]", "item_id cannot change"),
        (["nothing"], "update_mask.paths[0]", "'nothing' is no path; there are: title, desc"),
        ([""], "update_mask.paths[0]", "'' is no path"),
        (["price", "price."], "update_mask.paths[1]", "'price.' is no path"),
        (["price.x"], "update_mask.paths[0]", "'price.x' is no path"),
        (["attributes."], "update_mask.paths[0]", "attributes.NAME"),
        (["vectors.audio"], "update_mask.paths[0]", "vectors.image, vectors.review"),
        ([".title"], "update_mask.paths[0]", "'.title' is no path"),
        (["Title"], "update_mask.paths[0]", "'Title' is no path"),
        (["item_id.x"], "update_mask.paths[0]", "item_id cannot change"),
    ],
)
def test_what_is_no_path_is_refused_with_those_there_are(paths, field, problem):
    with pytest.raises(InvalidArgument) as refused:
        item_paths(paths, LIMITS, BLOCKS)

    assert refused.value.field == field
    assert refused.value.problem.startswith(problem) or problem in refused.value.problem
