"""Filters as values: equal questions are equal, users are put in, what is missing is false."""

import pytest

from rankstream.server.facts import column_key, number_word, words_of
from rankstream.server.filters import (
    NOTHING,
    AllOf,
    AnyOf,
    BetweenUser,
    EqualsUser,
    Filter,
    NoneOf,
    Within,
    between,
    equals,
    exists,
)


def test_the_same_question_is_the_same_key():
    assert equals("a", "x", "y", "x") == equals("a", "y", "x")
    assert hash(AllOf((exists("a"), between("b", 1.0, 2.0)))) == hash(
        AllOf((exists("a"), between("b", 1, 2)))
    )
    # In Python True is 1.0: the kinds keep them apart.
    assert equals("a", True) != equals("a", 1.0)
    assert equals("a", "x") != equals("b", "x")


def test_values_of_several_kinds_are_tests_of_several_columns():
    test = equals("a", "x", 1.0)

    (word,) = words_of("x")[1]
    assert set(test.tests) == {
        Within(column_key("a", "text"), ((word, word),)),
        Within(column_key("a", "number"), ((number_word(1.0), number_word(1.0)),)),
    }
    assert equals("a") == NOTHING
    assert equals("a", ()) == Within(column_key("a", "text"), ())


def test_ranges():
    low, high = number_word(1.0), number_word(2.0)
    column = column_key("a", "number")
    assert between("a", 1.0, 2.0) == Within(column, ((low, high),))
    ((first, last),) = between("a", None, None).spans
    assert first < number_word(-1.7e308)
    assert last > number_word(1.7e308)
    assert between("a", 2.0, 1.0) == NOTHING
    assert between("a", -0.0, 0.0) == equals("a", 0.0)


def test_a_filter_without_a_user_is_its_own_test():
    asked = Filter.make(AllOf((exists("a"), NoneOf((equals("b", "x"),)))))

    assert asked.user_attributes == frozenset()
    assert asked.resolve({"a": "b"}) is asked.test


def test_a_users_attributes_are_put_in():
    asked = Filter.make(
        AnyOf(
            (
                EqualsUser("brand", "favourite"),
                NoneOf((BetweenUser("age", None, "years"), BetweenUser("age", "low", 9.0))),
            )
        )
    )
    user = {"favourite": ("acme", "best"), "years": 12.0, "low": 3.0, "other": "?"}

    assert asked.user_attributes == {"favourite", "years", "low"}
    assert asked.resolve(user) == AnyOf(
        (
            equals("brand", "acme", "best"),
            NoneOf((between("age", None, 12.0), between("age", 3.0, 9.0))),
        )
    )


@pytest.mark.parametrize(
    ("test", "user"),
    [
        (EqualsUser("a", "x"), {}),
        (BetweenUser("a", "x", None), {}),
        (BetweenUser("a", 1.0, "x"), {}),
        (BetweenUser("a", "x", None), {"x": "a text"}),
        (BetweenUser("a", "x", None), {"x": True}),
        (BetweenUser("a", "x", "y"), {"x": 1.0}),
        (BetweenUser("a", "x", "y"), {"x": 2.0, "y": 1.0}),
    ],
)
def test_a_missing_or_unfit_attribute_passes_nothing(test, user):
    assert Filter.make(test).resolve(user) == NOTHING
