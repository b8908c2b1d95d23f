"""Facts: what stands for a value, and that its order is the value's."""

import hashlib
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankstream.server.facts import KINDS, column_key, item_facts, number_word, words_of

numbers = st.floats(allow_nan=False)


@given(numbers, numbers)
def test_words_of_numbers_are_ordered_as_the_numbers(a, b):
    assert (number_word(a) < number_word(b)) == (a < b)
    assert (number_word(a) == number_word(b)) == (a == b)


def test_words_of_numbers_fit_into_64_bits():
    ends = [-math.inf, -1.7e308, -5e-324, -0.0, 0.0, 5e-324, 1.0, 1.7e308, math.inf]
    found = [number_word(n) for n in ends]
    assert found == sorted(found)
    assert found[3] == found[4]
    assert all(0 <= word < 1 << 64 for word in found)


def test_values_of_each_kind():
    digest = hashlib.blake2b("café".encode(), digest_size=8, person=b"text").digest()

    assert words_of("café") == ("text", [int.from_bytes(digest, "little")])
    assert words_of(("a", "b")) == ("text", words_of("a")[1] + words_of("b")[1])
    assert words_of(()) == ("text", [])
    assert words_of(1.0) == ("number", [number_word(1.0)])
    assert words_of(True) == ("flag", [1])
    assert words_of(False) == ("flag", [0])


def test_a_name_has_a_column_for_each_kind():
    keys = {column_key(name, kind) for name, kind in itertools.product(("a", "b", "text=a"), KINDS)}
    assert len(keys) == 9


def test_an_items_facts_are_sorted_and_distinct():
    one = item_facts("film", "acme", ["b", "a", "b"], 3.0, {"year": 1999.0, "new": True})
    other = item_facts("film", "acme", ["a", "b"], 3.0, {"new": True, "year": 1999.0})

    np.testing.assert_array_equal(one, other)
    assert one.shape == (7, 2)
    assert one.tolist() == sorted(one.tolist())
    assert [column_key("tags", "text"), words_of("a")[1][0]] in one.tolist()


@pytest.mark.parametrize("attributes", [{}, {"none": ()}])
def test_what_is_not_set_is_no_fact(attributes):
    assert item_facts("", "", ["", ""], None, attributes).shape == (0, 2)
    assert len(item_facts("", "", [], 0.0, attributes)) == 1
