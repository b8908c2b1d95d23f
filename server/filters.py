"""Filters as plain values: immutable, hashable, equal for the same question.

``Filter`` is what a request said. ``resolve`` puts the attributes of its user into it; what is left
is a ``Test`` of the catalogue alone, which ``catalog/masks.py`` evaluates and remembers by.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from rankstream.server.facts import KINDS, AttributeValue, column_key, number_word, words_of

Span = tuple[int, int]
"""Words of a column from the first to the second, both included."""

_ANY_WORD: Span = (0, (1 << 64) - 1)


@dataclass(frozen=True, slots=True)
class Within:
    """A value of the column lies in one of the spans.

    Attributes:
        column: of ``facts.column_key``.
        spans: in rising order.
    """

    column: int
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every one holds; true of none."""

    tests: tuple[Test, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one holds; false of none."""

    tests: tuple[Test, ...]


@dataclass(frozen=True, slots=True)
class NoneOf:
    """None holds; true of none."""

    tests: tuple[Test, ...]


@dataclass(frozen=True, slots=True)
class EqualsUser:
    """A value of the column is the user's attribute, or one of its texts. False until resolved."""

    column: str
    attribute: str


@dataclass(frozen=True, slots=True)
class BetweenUser:
    """A number of the column lies between ends that the user has a say in. False until resolved.

    Attributes:
        column: its name.
        low: the least number; the name of the user's attribute that says it; None: open.
        high: likewise, the greatest.
    """

    column: str
    low: float | str | None
    high: float | str | None


Test: TypeAlias = Within | AllOf | AnyOf | NoneOf | EqualsUser | BetweenUser

NOTHING = AnyOf(())
"""Passes no item."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What a request asks of an item.

    Attributes:
        test: the tree.
        user_attributes: which attributes of the user it reads; where there are none, nobody need
            look the user up.
    """

    test: Test
    user_attributes: frozenset[str]

    @classmethod
    def make(cls, test: Test) -> Filter:
        """Of a tree."""
        return cls(test, frozenset(_attributes_in(test)))

    def resolve(self, user: Mapping[str, AttributeValue]) -> Test:
        """The test for this user. A condition on an attribute that is missing passes nothing."""
        return _resolved(self.test, user) if self.user_attributes else self.test


def equals(column: str, *values: AttributeValue) -> Test:
    """The column has one of the values; of a set of texts, one of its texts."""
    words: dict[int, set[int]] = {}
    for value in values:
        kind, some = words_of(value)
        words.setdefault(column_key(column, kind), set()).update(some)
    tests = [Within(key, tuple((w, w) for w in sorted(some))) for key, some in words.items()]
    return tests[0] if len(tests) == 1 else AnyOf(tuple(tests))


def between(column: str, low: float | None, high: float | None) -> Test:
    """The column has a number from ``low`` to ``high``; an end that is None is open."""
    first = number_word(-math.inf if low is None else low)
    last = number_word(math.inf if high is None else high)
    return Within(column_key(column, "number"), ((first, last),)) if first <= last else NOTHING


def exists(column: str) -> Test:
    """The column has a value, of whatever kind."""
    return AnyOf(tuple(Within(column_key(column, kind), (_ANY_WORD,)) for kind in KINDS))


def _attributes_in(test: Test) -> Iterable[str]:
    match test:
        case EqualsUser(_, attribute):
            yield attribute
        case BetweenUser(_, low, high):
            yield from (end for end in (low, high) if isinstance(end, str))
        case AllOf(tests) | AnyOf(tests) | NoneOf(tests):
            for inner in tests:
                yield from _attributes_in(inner)


def _resolved(test: Test, user: Mapping[str, AttributeValue]) -> Test:
    match test:
        case EqualsUser(column, attribute):
            value = user.get(attribute)
            return NOTHING if value is None else equals(column, value)
        case BetweenUser(column, low, high):
            ends = _end(low, user), _end(high, user)
            return NOTHING if any(map(_is_missing, ends)) else between(column, *ends)
        case AllOf(tests) | AnyOf(tests) | NoneOf(tests):
            return type(test)(tuple(_resolved(inner, user) for inner in tests))
        case _:
            return test


def _end(end: float | str | None, user: Mapping[str, AttributeValue]) -> float | None:
    """The number that an end stands for; NaN where the user has no such number."""
    value = user.get(end, math.nan) if isinstance(end, str) else end
    return value if value is None or isinstance(value, float) else math.nan


def _is_missing(end: float | None) -> bool:
    return end is not None and math.isnan(end)
