"""Curves: how the value of an event makes the weight of its interaction.

========================  ============================  ==========================================
curve                     weight of a value v           for
========================  ============================  ==========================================
``constant(c)``           c; c is 1 where not given     what happened or did not: a click
``linear(slope,most)``    slope v, clipped to +-most;   a share of the whole: how much of a video
                          1 and 1 where not given       was played
``centred(middle,span)``  (v - middle) / span, clipped  what can repel: seconds on a page, where
                          to +-1                        few mean "not this"
``stars(best)``           (v - m) / (best - m), m =     ratings from 1 to best, 5 where not given:
                          (1 + best) / 2, clipped       the middle says nothing, the worst repels
                          to +-1
``quantity(s)``           (1 + s) v / (s + abs(v));     pieces: one weighs 1, s of them weigh
                          s is 3 where not given        (1 + s) / 2, none reach 1 + s; a return
                                                        repels
========================  ============================  ==========================================

An event without a value weighs 1 (``constant``: c). The curves use only operations that IEEE 754
rounds exactly, so that replicas agree to the last bit; for this reason there is no logarithm.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rankstream.kernels.curves import CENTRED, CONSTANT, LINEAR, QUANTITY
from rankstream.server.errors import InvalidArgument

LARGEST = 1000.0
"""Largest magnitude of a curve's parameter, and so of a weight that one makes, but for rounding."""

_ENTRY = re.compile(r"\s*([^:]+?)\s*:\s*([a-z]+)\s*(?:\(([^()]*)\))?\s*")
_BETWEEN = re.compile(r",(?![^(]*\))")


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve with its parameters, of which a curve has at most two.

    Attributes:
        kind: CONSTANT, CENTRED, LINEAR or QUANTITY; ``stars`` is CENTRED.
        a: the constant, the middle, the slope, or s.
        b: the span, or the most.
        needed: whether an event must have a value.
    """

    kind: int
    a: float = 1.0
    b: float = 1.0
    needed: bool = False

    def weigh(self, value: float | None) -> float:
        """The weight of a finite value; of an event without one, for None."""
        if self.kind == CONSTANT:
            return self.a
        if value is None:
            return 1.0
        if self.kind == CENTRED:
            return min(max((value - self.a) / self.b, -1.0), 1.0)
        if self.kind == LINEAR:
            return min(max(self.a * value, -self.b), self.b)
        return (1.0 + self.a) * (value / (self.a + abs(value)))

    def __str__(self) -> str:
        """As the setting writes it."""
        if self.kind in (CONSTANT, QUANTITY):
            return f"{_NAMES[self.kind]}({self.a:.17g})"
        return f"{_NAMES[self.kind]}({self.a:.17g},{self.b:.17g})"


_NAMES = {CONSTANT: "constant", CENTRED: "centred", LINEAR: "linear", QUANTITY: "quantity"}


def stars(best: float = 5.0) -> Curve:
    """Ratings from 1 to ``best``, more than 1."""
    middle = (1.0 + best) / 2.0
    return Curve(CENTRED, middle, best - middle)


_MADE: Mapping[str, tuple[int, int, Callable[..., Curve]]] = {
    "constant": (0, 1, lambda c=1.0: Curve(CONSTANT, c)),
    "linear": (0, 2, lambda slope=1.0, most=1.0: Curve(LINEAR, slope, most)),
    "centred": (2, 2, lambda middle, span: Curve(CENTRED, middle, span)),
    "stars": (0, 1, stars),
    "quantity": (0, 1, lambda s=3.0: Curve(QUANTITY, s)),
}
"""Fewest and most parameters, and what makes a curve of them."""

DEFAULT_CURVES = {
    "cart": Curve(QUANTITY, 3.0),
    "purchase": Curve(QUANTITY, 3.0),
    "rate": stars(),
    "review": stars(),
    "dislike": Curve(CONSTANT, -1.0),
}
"""Of the built-in types that are not ``constant(1)``."""


def curve_entries(setting: str) -> tuple[str, ...]:
    """The entries of TYPE:CURVE,...: commas between parentheses separate parameters."""
    return tuple(filter(None, (entry.strip() for entry in _BETWEEN.split(setting))))


def parse_curve(entry: str) -> tuple[str, Curve]:
    """The type and the curve of one entry, as ``purchase:quantity(3)``.

    Raises:
        InvalidArgument: it does not read so; names the setting ``curves``.
    """
    found = _ENTRY.fullmatch(entry)
    if found is None or found[2] not in _MADE:
        raise _bad(entry, f"expected TYPE:CURVE, CURVE one of {', '.join(_MADE)}")
    fewest, most, make = _MADE[found[2]]
    listed = found[3].split(",") if found[3] and found[3].strip() else []
    if not fewest <= len(listed) <= most:
        raise _bad(entry, f"expected {fewest} to {most} parameters")
    try:
        numbers = [float(number) for number in listed]
    except ValueError:
        raise _bad(entry, "expected numbers as parameters") from None
    if not all(abs(number) <= LARGEST for number in numbers):
        raise _bad(entry, f"expected parameters from {-LARGEST:g} to {LARGEST:g}")
    curve = make(*numbers)
    # The span, the most, or s: what is divided by, or bounds.
    extent = curve.a if curve.kind == QUANTITY else curve.b
    if not extent > 0 or not math.isfinite(extent):
        raise _bad(entry, "expected a span, most or s above 0, and a best star above 1")
    return found[1], curve


def _bad(entry: str, problem: str) -> InvalidArgument:
    return InvalidArgument("curves", f"{entry!r}: {problem}")
