"""Curves: their formulas, how they are written, and that the kernel has the same."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankstream.kernels.curves import weigh_value
from rankstream.server.errors import InvalidArgument
from rankstream.server.profiles.curves import Curve, curve_entries, parse_curve
from rankstream.server.profiles.settings import FoldSettings, fold_version

WRITTEN = {
    "constant": {0.0: 1.0, 7.0: 1.0, None: 1.0},
    "constant(-2)": {7.0: -2.0, None: -2.0},
    "linear": {-3.0: -1.0, 0.25: 0.25, 9.0: 1.0, None: 1.0},
    "linear(0.5, 2)": {-9.0: -2.0, 3.0: 1.5, 9.0: 2.0, 1e308: 2.0},
    "linear(-1)": {0.5: -0.5},
    "centred(30,30)": {0.0: -1.0, 30.0: 0.0, 45.0: 0.5, 1e308: 1.0, None: 1.0},
    "stars": {1.0: -1.0, 2.0: -0.5, 3.0: 0.0, 5.0: 1.0, 0.0: -1.0, 9.0: 1.0},
    "stars(10)": {1.0: -1.0, 5.5: 0.0, 10.0: 1.0},
    "quantity": {0.0: 0.0, 1.0: 1.0, 3.0: 2.0, -3.0: -2.0, 1e308: 4.0, None: 1.0},
    "quantity(9)": {1.0: 1.0, 9.0: 5.0},
}
CASES = [(name, *case) for name, cases in WRITTEN.items() for case in cases.items()]


@pytest.mark.parametrize(("written", "value", "weight"), CASES)
def test_a_curve_is_its_formula(written, value, weight):
    name, curve = parse_curve(f" read : {written} ")

    assert name == "read"
    assert curve.weigh(value) == weight


curves = st.builds(
    Curve, st.integers(0, 3), st.floats(0.001, 1000), st.floats(0.001, 1000)
)  # fmt: skip


@settings(deadline=None)
@given(curves, st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)))
def test_the_kernel_has_the_same_curves(curve, value):
    parameters = np.array([(7.0, 7.0), (curve.a, curve.b)])

    given_value = 0.0 if value is None else value
    found = weigh_value(curve.kind, parameters, 1, value is not None, given_value)

    assert np.float64(found).tobytes() == np.float64(curve.weigh(value)).tobytes()
    assert math.isfinite(found)


@given(curves)
def test_a_curve_reads_back(curve):
    assert parse_curve(f"read:{curve}")[1].weigh(0.7) == curve.weigh(0.7)


@pytest.mark.parametrize(
    "entry",
    ["read", "read:", ":stars", "read:sqrt", "read:stars(", "read:stars)", "read:stars(5)x",
     "read:stars(1)", "read:stars(0)", "read:stars(nan)", "read:quantity(0)", "read:quantity(-1)",
     "read:quantity(1,2)", "read:linear(1,0)", "read:linear(x)", "read:centred(30)", "read:centred",
     "read:centred(30,0)", "read:centred(inf,1)", "read:constant(1001)", "read:constant(,)",
     "read:linear(1,2,3)"],
)  # fmt: skip
def test_what_does_not_read_is_refused(entry):
    with pytest.raises(InvalidArgument, match="^curves: ") as refused:
        FoldSettings(custom_types=("read",), curves=(entry,))

    assert repr(entry)[1:-1] in str(refused.value)


@pytest.mark.parametrize("given", [("sneeze:stars",), ("view:stars", "view:constant")])
def test_a_curve_is_of_one_type_that_there_is(given):
    with pytest.raises(InvalidArgument, match="^curves: "):
        FoldSettings(curves=given)


def test_entries_are_separated_outside_of_parentheses():
    listed = "view:linear(1, 2), rate:stars,,purchase:quantity(3),"

    assert curve_entries(listed) == ("view:linear(1, 2)", "rate:stars", "purchase:quantity(3)")
    assert curve_entries("") == ()


def test_a_rate_must_have_what_its_curve_reads():
    assert FoldSettings().curve_of["rate"].needed
    assert FoldSettings(curves=("rate:stars(10)",)).curve_of["rate"].needed
    assert not FoldSettings(curves=("rate:constant",)).curve_of["rate"].needed
    assert not FoldSettings().curve_of["review"].needed


def test_a_version_is_of_what_curves_say_however_they_are_written():
    same = [("cart:quantity",), ("cart:quantity(3)", "rate:stars"), ("rate:centred(3,2)",), ()]
    versions = {fold_version(FoldSettings(curves=given)) for given in same}
    others = [("cart:quantity(2)",), ("view:linear",), ("rate:stars(10)",), ("dislike:constant",)]

    assert len(versions) == 1
    for one, other in itertools.combinations([*others, ()], 2):
        versions = fold_version(FoldSettings(curves=one)), fold_version(FoldSettings(curves=other))
        assert len(set(versions)) == 2
