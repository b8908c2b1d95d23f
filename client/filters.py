"""Which items may be answered: a small tree of conditions over the catalogue's columns.

::

    Filter.equals("brand", "Acme") & Filter.range("price", max=20)
    Filter.one_of("category", ["shoes", "boots"]) | ~Filter.exists("discontinued")

``Filter.parse`` reads the short form of a command line, ``Filter.from_json`` the proto's JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from google.protobuf import json_format

from rankstream.client import checks
from rankstream.client.attributes import Attribute, attribute_from_pb, attribute_to_pb
from rankstream.client.errors import invalid
from rankstream.proto.v1 import ranking_pb2

Kind: TypeAlias = Literal[
    "equals", "one_of", "range", "exists", "equals_user_attribute", "all", "any", "none"
]
End: TypeAlias = "float | str | None"

_GROUPS = ("all", "any", "none")
# Columns of an item's own fields hold texts, whatever the text looks like.
_TEXT_COLUMNS = ("category", "brand", "tags")
_SHORT = re.compile(r"(?P<column>[^=<>!]+)(?P<sign>!=|<=|>=|=)(?P<value>.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on one column, or filters joined; build it with the methods below.

    An item without the column, or with a value of another kind, fails a condition.
    """

    kind: Kind
    column: str = ""
    values: tuple[Attribute, ...] = ()
    ends: tuple[End, End] = (None, None)
    parts: tuple[Filter, ...] = ()

    @staticmethod
    def equals(column: str, value: Attribute) -> Filter:
        """The column is ``value``; of a column of texts, one of them is."""
        return Filter("equals", column, (value,))

    @staticmethod
    def one_of(column: str, values: Iterable[Attribute]) -> Filter:
        """The column is any of ``values``."""
        if isinstance(values, str):
            raise invalid(field="values", problem="is one string; expected a sequence of values")
        return Filter("one_of", column, tuple(values))

    @staticmethod
    def range(column: str, *, min: End = None, max: End = None) -> Filter:
        """The column is a number from ``min`` to ``max``, both included.

        Args:
            column: its name.
            min: a number, the name of an attribute of the user, or None: open.
            max: likewise.
        """
        return Filter("range", column, ends=(min, max))

    @staticmethod
    def exists(column: str) -> Filter:
        """The item has the column; ``~`` for items that have not."""
        return Filter("exists", column, (True,))

    @staticmethod
    def equals_user(column: str, attribute: str) -> Filter:
        """The column is this attribute of the user, or one of its texts."""
        return Filter("equals_user_attribute", column, (attribute,))

    @staticmethod
    def all_of(*filters: Filter) -> Filter:
        """Every one holds; true of no filters."""
        return Filter("all", parts=filters)

    @staticmethod
    def any_of(*filters: Filter) -> Filter:
        """At least one holds; false of no filters."""
        return Filter("any", parts=filters)

    @staticmethod
    def none_of(*filters: Filter) -> Filter:
        """None holds; true of no filters."""
        return Filter("none", parts=filters)

    @staticmethod
    def parse(text: str) -> Filter:
        """Reads one condition: ``brand=Acme``, ``brand!=Acme``, ``price<=20``, ``price>=5``.

        ``a|b`` is any of the values, ``@name`` an attribute of the user, ``*`` any value at all.
        Numbers, ``true`` and ``false`` are themselves, unless in double quotes; category, brand and
        tags are always texts.
        """
        return _parsed(text)

    @staticmethod
    def from_json(text: str) -> Filter:
        """Reads the JSON form of the message ``rankstream.v1.Filter``."""
        try:
            message = json_format.Parse(text, ranking_pb2.Filter())
        except (json_format.ParseError, RecursionError) as problem:
            raise invalid(
                field="filter", problem=f"{problem}; expected a rankstream.v1.Filter"
            ) from None
        return filter_from_pb(message)

    def __and__(self, other: Filter) -> Filter:
        return self._joined("all", other)

    def __or__(self, other: Filter) -> Filter:
        return self._joined("any", other)

    def __invert__(self) -> Filter:
        return Filter("none", parts=(self,))

    def _joined(self, kind: Kind, other: Filter) -> Filter:
        """Both under one group: ``a & b & c`` is nested once, not twice."""
        if not isinstance(other, Filter):
            return NotImplemented
        sides = [side.parts if side.kind == kind else (side,) for side in (self, other)]
        return Filter(kind, parts=sides[0] + sides[1])


def filter_to_pb(field: str, asked: object) -> ranking_pb2.Filter:
    """Protobuf form.

    Raises:
        InvalidArgument: a name or value has the wrong type; says where in ``field``.
    """
    if not isinstance(asked, Filter):
        raise invalid(field, f"{checks.shown(asked)}; expected a Filter")
    if asked.kind in _GROUPS:
        path = f"{field}.{asked.kind}"
        parts = [filter_to_pb(f"{path}[{i}]", part) for i, part in enumerate(asked.parts)]
        joined = ranking_pb2.Filter()
        getattr(joined, asked.kind).CopyFrom(ranking_pb2.Filters(filters=parts))
        return joined
    condition = ranking_pb2.Condition(column=checks.name(f"{field}.column", asked.column))
    _set_test(condition, asked, f"{field}.{asked.kind}")
    return ranking_pb2.Filter(condition=condition)


def filter_from_pb(message: ranking_pb2.Filter) -> Filter:
    """Our form of a protobuf filter."""
    kind = message.WhichOneof("kind")
    if kind is None:
        raise invalid(field="filter", problem="is empty; expected a condition, all, any or none")
    if kind != "condition":
        parts = getattr(message, kind).filters
        return Filter(kind, parts=tuple(map(filter_from_pb, parts)))
    condition = message.condition
    column, test = condition.column, condition.WhichOneof("test")
    if test == "range":
        return Filter("range", column, ends=(_end(condition, "low"), _end(condition, "high")))
    if test == "one_of":
        return Filter("one_of", column, tuple(map(attribute_from_pb, condition.one_of.values)))
    if test == "equals":
        return Filter("equals", column, (attribute_from_pb(condition.equals),))
    if test is None:
        raise invalid(
            field="filter",
            problem=f"the condition on {column!r} tests nothing; expected equals, ...",
        )
    return Filter(test, column, (getattr(condition, test),))


def _set_test(condition: ranking_pb2.Condition, asked: Filter, path: str) -> None:
    if asked.kind == "equals":
        condition.equals.CopyFrom(attribute_to_pb(path, asked.values[0]))
    elif asked.kind == "one_of":
        listed = [attribute_to_pb(f"{path}[{i}]", value) for i, value in enumerate(asked.values)]
        condition.one_of.CopyFrom(ranking_pb2.AttributeValues(values=listed))
    elif asked.kind == "exists":
        condition.exists = bool(asked.values[0])
    elif asked.kind == "equals_user_attribute":
        condition.equals_user_attribute = checks.name(path, asked.values[0])
    else:
        condition.range.SetInParent()
        for label, end in zip(("min", "max"), asked.ends, strict=True):
            _set_end(condition.range, path, label, end)


def _set_end(message: ranking_pb2.Range, path: str, label: str, end: End) -> None:
    if isinstance(end, str):
        setattr(message, f"{label}_user_attribute", checks.name(f"{path}.{label}", end))
    elif end is not None:
        setattr(message, label, checks.number(f"{path}.{label}", end))


def _end(condition: ranking_pb2.Condition, side: Literal["low", "high"]) -> End:
    which = condition.range.WhichOneof(side)
    end: End = getattr(condition.range, which) if which else None
    return end


def _parsed(text: str) -> Filter:
    found = _SHORT.fullmatch(text.strip())
    if found is None:
        problem = f"{text!r} is no condition; expected as brand=Acme, price<=20 or tags=a|b"
        raise invalid(field="filter", problem=problem)
    column, sign, value = (part.strip() for part in found.group("column", "sign", "value"))
    if sign in ("<=", ">="):
        end = value[1:] if value.startswith("@") else _number(text, value)
        return Filter.range(column, **{"max" if sign == "<=" else "min": end})
    wanted = _equality(column, value)
    return ~wanted if sign == "!=" else wanted


def _equality(column: str, value: str) -> Filter:
    if value == "*":
        return Filter.exists(column)
    if value.startswith("@"):
        return Filter.equals_user(column, value[1:])
    values = [_literal(column, part) for part in value.split("|")]
    return Filter.equals(column, values[0]) if len(values) == 1 else Filter.one_of(column, values)


def _literal(column: str, text: str) -> Attribute:
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1]
    if column in _TEXT_COLUMNS:
        return text
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text


def _number(text: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise invalid(field="filter", problem=f"{text!r} compares with no number") from None
