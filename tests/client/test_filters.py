"""Filters: built, read from text, and as messages."""

from __future__ import annotations

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from rankstream.client import Filter, InvalidArgument
from rankstream.client.filters import filter_from_pb, filter_to_pb


def as_dict(asked):
    return json_format.MessageToDict(
        filter_to_pb("filter", asked), preserving_proto_field_name=True
    )


def test_conditions_are_joined_flat():
    acme, cheap, new = (
        Filter.equals("brand", "Acme"),
        Filter.range("price", max=20),
        Filter.exists("new"),
    )

    assert as_dict(acme & cheap & ~new) == {
        "all": {
            "filters": [
                {"condition": {"column": "brand", "equals": {"text": "Acme"}}},
                {"condition": {"column": "price", "range": {"max": 20.0}}},
                {"none": {"filters": [{"condition": {"column": "new", "exists": True}}]}},
            ]
        }
    }
    assert (acme | cheap | new).parts == (acme, cheap, new)
    assert (acme & (cheap | new)).parts == (acme, cheap | new)


def test_a_filter_joins_filters_alone():
    with pytest.raises(TypeError):
        Filter.exists("a") & "b"


def test_the_user_on_the_right():
    either = Filter.any_of(
        Filter.equals_user("size", "sizes"), Filter.range("price", min=1, max="budget")
    )

    first, second = filter_to_pb("filter", either).any.filters
    assert first.condition.equals_user_attribute == "sizes"
    assert (second.condition.range.min, second.condition.range.max_user_attribute) == (1, "budget")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("brand=Acme", Filter.equals("brand", "Acme")),
        ("brand = 42", Filter.equals("brand", "42")),
        ("tags=a|b", Filter.one_of("tags", ["a", "b"])),
        ("price<=20", Filter.range("price", max=20.0)),
        ("price>=2.5", Filter.range("price", min=2.5)),
        ("price<=@budget", Filter.range("price", max="budget")),
        ("size=@sizes", Filter.equals_user("size", "sizes")),
        ("stock=3", Filter.equals("stock", 3.0)),
        ('stock="3"', Filter.equals("stock", "3")),
        ("new=true", Filter.equals("new", True)),
        ("new!=true", ~Filter.equals("new", True)),
        ("colour=*", Filter.exists("colour")),
        ("note=a=b", Filter.equals("note", "a=b")),
    ],
)
def test_the_short_form(text, meant):
    assert Filter.parse(text) == meant


@pytest.mark.parametrize("text", ["", "brand", "=Acme", "price<20", "price<=cheap", "brand="])
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(InvalidArgument, match="^filter: "):
        Filter.parse(text)


@pytest.mark.parametrize(
    "text", ["{}", "[]", "{", '{"condition": {"column": "a"}}', '{"some": 1}', "[" * 10_000]
)
def test_what_is_no_filter_is_refused(text):
    with pytest.raises(InvalidArgument, match="^filter: "):
        Filter.from_json(text)


def test_one_string_is_not_a_sequence_of_values():
    with pytest.raises(InvalidArgument, match="^values: "):
        Filter.one_of("brand", "Acme")


names = st.text(min_size=1, max_size=5)
values = st.one_of(
    st.text(max_size=5), st.booleans(), st.floats(-1e9, 1e9), st.tuples(names, names)
)
ends = st.one_of(st.none(), st.floats(-1e9, 1e9), names)
conditions = st.one_of(
    st.builds(Filter.equals, names, values),
    st.builds(Filter.one_of, names, st.lists(values, max_size=3)),
    st.builds(lambda c, low, high: Filter.range(c, min=low, max=high), names, ends, ends),
    st.builds(Filter.exists, names),
    st.builds(Filter.equals_user, names, names),
)
filters = st.recursive(
    conditions,
    lambda inner: st.one_of(
        st.builds(lambda parts: Filter.all_of(*parts), st.lists(inner, max_size=3)),
        st.builds(lambda parts: Filter.any_of(*parts), st.lists(inner, max_size=3)),
        st.builds(lambda parts: Filter.none_of(*parts), st.lists(inner, max_size=3)),
    ),
    max_leaves=8,
)


@given(filters)
def test_a_filter_makes_the_way_to_protobuf_and_json_and_back(asked):
    message = filter_to_pb("filter", asked)

    assert filter_from_pb(message) == asked
    assert Filter.from_json(json_format.MessageToJson(message)) == asked
