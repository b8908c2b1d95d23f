"""Filters of requests to the server's own, checked."""

from __future__ import annotations

from dataclasses import dataclass

from rankstream.proto.v1 import common_pb2, ranking_pb2
from rankstream.server.config import Limits
from rankstream.server.errors import InvalidArgument
from rankstream.server.facts import AttributeValue
from rankstream.server.filters import (
    AllOf,
    AnyOf,
    BetweenUser,
    EqualsUser,
    Filter,
    NoneOf,
    Test,
    between,
    equals,
    exists,
)
from rankstream.server.stream.attributes import attribute_from_pb, check_name, checked_number

_GROUPS: dict[str, type[AllOf | AnyOf | NoneOf]] = {"all": AllOf, "any": AnyOf, "none": NoneOf}


def filter_from_pb(message: ranking_pb2.Filter, limits: Limits, field: str) -> Filter:
    """Validates a filter.

    Args:
        message: the filter.
        limits: how deep, and of how much.
        field: where it stands, as ``filter``.

    Raises:
        InvalidArgument: names the field, as ``filter.all.filters[2].condition.test``.
    """
    return Filter.make(_Reader(limits, field).test(message, field, 1))


@dataclass(slots=True)
class _Reader:
    """Reads one filter, and counts what it has read of it."""

    limits: Limits
    whole: str
    filters: int = 0
    values: int = 0

    def test(self, message: ranking_pb2.Filter, field: str, depth: int) -> Test:
        """One node of the tree."""
        if depth > self.limits.max_filter_depth:
            problem = f"nested deeper than {self.limits.max_filter_depth} filters"
            raise InvalidArgument(field, problem)
        self.filters = self._counted(self.filters + 1, self.limits.max_filters, "filters")
        kind = message.WhichOneof("kind")
        if kind is None:
            raise InvalidArgument(field, "not set: give a condition, or all, any or none of some")
        if kind == "condition":
            return self._condition(message.condition, field + ".condition")
        inner = getattr(message, kind).filters
        path = f"{field}.{kind}.filters"
        tests = [self.test(f, f"{path}[{i}]", depth + 1) for i, f in enumerate(inner)]
        return _GROUPS[kind](tuple(tests))

    def _condition(self, message: ranking_pb2.Condition, field: str) -> Test:
        check_name(message.column, self.limits, field + ".column")
        kind = message.WhichOneof("test")
        if kind == "equals":
            return equals(message.column, self._value(message.equals, field + ".equals"))
        if kind == "one_of":
            return self._one_of(message, field + ".one_of.values")
        if kind == "range":
            return _range(message.column, message.range, field + ".range", self.limits)
        if kind == "exists":
            there = exists(message.column)
            return there if message.exists else NoneOf((there,))
        if kind == "equals_user_attribute":
            attribute = message.equals_user_attribute
            check_name(attribute, self.limits, field + ".equals_user_attribute")
            return EqualsUser(message.column, attribute)
        problem = "not set: give equals, one_of, range, exists or equals_user_attribute"
        raise InvalidArgument(field + ".test", problem)

    def _one_of(self, message: ranking_pb2.Condition, field: str) -> Test:
        values = message.one_of.values
        limit = self.limits.max_filter_values
        self.values = self._counted(self.values + len(values), limit, "values in its one_of")
        read = (self._value(value, f"{field}[{i}]") for i, value in enumerate(values))
        return equals(message.column, *read)

    def _value(self, message: common_pb2.AttributeValue, field: str) -> AttributeValue:
        value = attribute_from_pb(message, self.limits, field)
        if isinstance(value, tuple):
            problem = "texts, expected one value (one_of takes several)"
            raise InvalidArgument(field, problem)
        return value

    def _counted(self, count: int, limit: int, what: str) -> int:
        if count > limit:
            raise InvalidArgument(self.whole, f"more than {limit} {what}, which is the limit")
        return count


def _range(column: str, message: ranking_pb2.Range, field: str, limits: Limits) -> Test:
    low = _end(message, message.WhichOneof("low"), field, limits)
    high = _end(message, message.WhichOneof("high"), field, limits)
    if isinstance(low, str) or isinstance(high, str):
        return BetweenUser(column, low, high)
    return between(column, low, high)


def _end(
    message: ranking_pb2.Range, which: str | None, field: str, limits: Limits
) -> float | str | None:
    """A number, the name of a user's attribute, or None where it is open."""
    if which is None:
        return None
    value: float | str = getattr(message, which)
    if isinstance(value, str):
        check_name(value, limits, f"{field}.{which}")
        return value
    return checked_number(value, f"{field}.{which}")
