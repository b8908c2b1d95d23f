"""Filters of requests: what they become, and every refusal with the path of its field."""

import re
from pathlib import Path

import pytest
from google.protobuf import text_format
from google.protobuf.json_format import Parse, ParseDict

from rankstream.proto.v1 import catalog_pb2, ranking_pb2
from rankstream.server.config import Limits
from rankstream.server.errors import InvalidArgument
from rankstream.server.facts import item_facts
from rankstream.server.filter_wire import filter_from_pb
from rankstream.server.filters import (
    AllOf,
    AnyOf,
    BetweenUser,
    EqualsUser,
    NoneOf,
    between,
    equals,
    exists,
)
from rankstream.server.stream.item_codec import validate_item

LIMITS = Limits(
    max_id_bytes=8,
    max_attribute_name_bytes=6,
    max_attribute_bytes=8,
    max_filter_depth=3,
    max_filters=5,
    max_filter_values=3,
)
TEXT = {"text": "x"}


def read(**message):
    return filter_from_pb(ParseDict(message, ranking_pb2.Filter()), LIMITS, "filter")


def condition(column, **test):
    return {"condition": {"column": column, **test}}


def group(kind, *inner):
    return {kind: {"filters": list(inner)}}


@pytest.mark.parametrize(
    ("message", "test"),
    [
        (condition("a", equals=TEXT), equals("a", "x")),
        (condition("a", equals={"text": ""}), equals("a", "")),
        (condition("a", equals={"number": 1}), equals("a", 1.0)),
        (condition("a", equals={"flag": False}), equals("a", False)),
        (condition("a", oneOf={"values": [TEXT, {"number": 2}]}), equals("a", "x", 2.0)),
        (condition("a", oneOf={}), equals("a")),
        (condition("a", range={"min": 1, "max": 2}), between("a", 1.0, 2.0)),
        (condition("a", range={"max": 2}), between("a", None, 2.0)),
        (condition("a", range={"min": 0}), between("a", 0.0, None)),
        (condition("a", range={}), between("a", None, None)),
        (condition("a", range={"min": 2, "max": 1}), AnyOf(())),
        (condition("a", exists=True), exists("a")),
        (condition("a", exists=False), NoneOf((exists("a"),))),
        (condition("a", equalsUserAttribute="b"), EqualsUser("a", "b")),
        (condition("a", range={"minUserAttribute": "b"}), BetweenUser("a", "b", None)),
        (condition("a", range={"min": 1, "maxUserAttribute": "b"}), BetweenUser("a", 1.0, "b")),
        (group("all"), AllOf(())),
        (group("any", condition("a", equals=TEXT)), AnyOf((equals("a", "x"),))),
        (group("none", group("all")), NoneOf((AllOf(()),))),
    ],
)
def test_a_filter_as_a_value(message, test):
    found = read(**message)

    assert found.test == test
    wanted = {"b"} if "UserAttribute" in str(message) else set()
    assert found.user_attributes == wanted


NAN, INFINITY = "NaN", "Infinity"
INNER = "filter.all.filters[1].condition"


@pytest.mark.parametrize(
    ("message", "field", "words"),
    [
        ({}, "filter", "not set"),
        (group("all", condition("a", equals=TEXT), {}), "filter.all.filters[1]", "not set"),
        (condition("a"), "filter.condition.test", "not set"),
        (group("all", group("all"), condition("a")), INNER + ".test", "not set: give equals"),
        (condition("", equals=TEXT), "filter.condition.column", "empty"),
        (condition("1234567", equals=TEXT), "filter.condition.column", "longer than 6 bytes"),
        (condition("a", equals={}), "filter.condition.equals", "not set"),
        (condition("a", equals={"texts": {}}), "filter.condition.equals", "expected one value"),
        (
            condition("a", equals={"text": "é" * 5}),
            "filter.condition.equals.text",
            "longer than 8 bytes",
        ),
        (condition("a", equals={"number": NAN}), "filter.condition.equals.number", "nan"),
        (
            condition("a", oneOf={"values": [TEXT, {"number": INFINITY}]}),
            "filter.condition.one_of.values[1].number",
            "inf, expected a finite number",
        ),
        (condition("a", oneOf={"values": [{}]}), "filter.condition.one_of.values[0]", "not set"),
        (condition("a", oneOf={"values": [TEXT] * 4}), "filter", "more than 3 values"),
        (
            group("all", *[condition("a", oneOf={"values": [TEXT] * 2})] * 2),
            "filter",
            "more than 3 values",
        ),
        (condition("a", range={"min": NAN}), "filter.condition.range.min", "nan"),
        (condition("a", range={"max": INFINITY}), "filter.condition.range.max", "inf"),
        (
            condition("a", range={"minUserAttribute": ""}),
            "filter.condition.range.min_user_attribute",
            "empty",
        ),
        (
            condition("a", range={"maxUserAttribute": "1234567"}),
            "filter.condition.range.max_user_attribute",
            "longer than 6",
        ),
        (
            condition("a", equalsUserAttribute=""),
            "filter.condition.equals_user_attribute",
            "empty",
        ),
        (
            group("all", group("any", group("none", group("all")))),
            "filter.all.filters[0].any.filters[0].none.filters[0]",
            "deeper than 3",
        ),
        (group("all", *[group("all")] * 5), "filter", "more than 5 filters"),
    ],
)
def test_a_filter_that_is_refused(message, field, words):
    with pytest.raises(InvalidArgument) as refused:
        read(**message)

    assert refused.value.field == field
    assert words in refused.value.problem


def test_at_the_limits_it_is_taken():
    deepest = group("all", group("any", condition("123456", equals={"text": "é" * 4})))
    assert read(**deepest).test == AllOf((AnyOf((equals("123456", "éééé"),)),))
    assert len(read(**group("all", *[group("all")] * 4)).test.tests) == 4


DOCUMENT = (Path(__file__).parents[2] / "docs" / "filters.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```\n", DOCUMENT, re.DOTALL)


def test_the_examples_of_the_documentation_are_filters():
    requests = [Parse(text, ranking_pb2.RankRequest()) for text in blocks("json")]
    requests += [text_format.Parse(text, ranking_pb2.RankRequest()) for text in blocks("protobuf")]

    found = [filter_from_pb(request.filter, Limits(), "filter") for request in requests]

    assert [f.user_attributes for f in found] == [set(), {"budget", "age"}, set()]
    assert found[2].test == equals("brand", "acme", "best")


def test_the_item_of_the_documentation_is_one():
    (example,) = blocks("python")
    names = {"catalog_pb2": catalog_pb2}

    exec(example, names)

    facts = validate_item(names["item"], Limits(), ()).facts
    attributes = {"year": 1979.0, "subtitled": True, "cast": ("hurt", "weaver")}
    assert facts.tolist() == item_facts("film", "", ["horror"], 9.5, attributes).tolist()


def test_the_documentation_has_the_limits_as_they_are():
    rows = re.findall(r"^\| `(max_\w+)` \| (\d+) \|", DOCUMENT, re.MULTILINE)
    limits = Limits()

    assert len(rows) == 8
    assert {name: int(value) for name, value in rows} == {n: getattr(limits, n) for n, _ in rows}
    assert "`max_columns`, `max_column_bytes` | 128, 512 MiB" in DOCUMENT
    assert "`max_masks`, `max_mask_bytes` | 256, 64 MiB" in DOCUMENT
    assert (limits.max_columns, limits.max_column_bytes) == (128, 512 << 20)
    assert (limits.max_masks, limits.max_mask_bytes) == (256, 64 << 20)
