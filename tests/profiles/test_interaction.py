"""Keys, times and signed weights."""

import hashlib
import math

import pytest

from rankstream.server.errors import InvalidArgument
from rankstream.server.profiles.interaction import (
    check_event_time,
    event_key,
    text_event_key,
)
from rankstream.server.profiles.interaction import signed_weight as weight_by_curve
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.types import item_key, normal_text, text_key

CURVES = FoldSettings(custom_types=("wishlist",)).curve_of


def signed_weight(name, value=None, weight=None):
    """By the curve that a type has by default."""
    return weight_by_curve(CURVES[name], value, weight)


def test_a_text_has_keys_of_its_own():
    digest = hashlib.blake2b("blue é".encode(), digest_size=8, person=b"text").digest()

    assert text_key("blue é") == int.from_bytes(digest, "little")
    assert text_event_key("e1") == event_key("e1\0text")
    assert normal_text(" blue\t\u2003 shoes\n") == "blue shoes"
    assert normal_text(" \n ") == ""


def test_an_event_key_is_a_personalised_blake2b():
    digest = hashlib.blake2b("é-1".encode(), digest_size=8, person=b"event").digest()

    assert event_key("é-1") == int.from_bytes(digest, "little")
    assert event_key("x") != item_key("x")


@pytest.mark.parametrize(
    ("stars", "weight"), [(1, -1.0), (2, -0.5), (3, 0.0), (4, 0.5), (5, 1.0), (0, -1.0), (10, 1.0)]
)
def test_stars_repel_or_attract(stars, weight):
    assert signed_weight("rate", stars) == weight
    assert signed_weight("review", stars) == weight


@pytest.mark.parametrize("name", ["cart", "purchase"])
def test_a_quantity_saturates(name):
    weights = [signed_weight(name, q) for q in (0, 1, 3, 10, 1e6, 1e308)]

    assert weights[:3] == [0.0, 1.0, 2.0]
    assert weights == sorted(weights)
    assert weights[-1] <= 4.0
    assert signed_weight(name, -3) == -2.0
    assert signed_weight(name) == 1.0


def test_other_types_weigh_one_whatever_their_value():
    assert [signed_weight(name, 7.5) for name in ("view", "play", "wishlist")] == [1.0] * 3
    assert signed_weight("dislike") == -1.0
    assert signed_weight("review") == 1.0


def test_the_carried_weight_multiplies():
    assert signed_weight("rate", 1, 2.5) == -2.5
    assert signed_weight("click", weight=-0.5) == -0.5
    assert math.copysign(1.0, signed_weight("rate", 3, -2.0)) == 1.0


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("value", ("rate", math.nan)),
        ("value", ("view", math.inf)),
        ("value", ("rate", None)),
        ("weight", ("view", None, math.nan)),
        ("weight", ("view", None, -math.inf)),
        ("weight", ("view", None, 1000.5)),
    ],
)
def test_a_bad_number_is_refused_by_name(field, arguments):
    with pytest.raises(InvalidArgument) as refused:
        signed_weight(*arguments)

    assert refused.value.field == field


@pytest.mark.parametrize("time", [0, 999, 1_300])
def test_a_time_up_to_the_skew_is_admitted(time):
    check_event_time(time, broker_ms=1_000, allowed_skew_ms=300)


@pytest.mark.parametrize("time", [-1, 1_301, 2**62])
def test_a_time_beyond_the_skew_is_refused(time):
    with pytest.raises(InvalidArgument, match="expected 0 to 1300"):
        check_event_time(time, broker_ms=1_000, allowed_skew_ms=300)
