"""Curves: how the value of an event makes a weight, in the operations of their definition.

``server/profiles/curves.py`` defines them, and is what this is tested against.
"""

from typing import Final

from rankstream.kernels.arrays import Float64
from rankstream.kernels.compilation import compiled

CONSTANT: Final = 0
CENTRED: Final = 1
LINEAR: Final = 2
QUANTITY: Final = 3


@compiled
def weigh_value(curve: int, parameters: Float64, kind: int, given: bool, value: float) -> float:
    """The weight of a finite value.

    Args:
        curve: which.
        parameters: float64[K, 2], of K types.
        kind: the type's row there.
        given: whether there is a value; without one, only a constant is not 1.
        value: it.
    """
    a, b = float(parameters[kind, 0]), float(parameters[kind, 1])
    if curve == CONSTANT:
        return a
    if not given:
        return 1.0
    if curve == CENTRED:
        return min(max((value - a) / b, -1.0), 1.0)
    if curve == LINEAR:
        return min(max(a * value, -b), b)
    return (1.0 + a) * (value / (a + abs(value)))
