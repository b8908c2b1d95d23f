"""Typed values by name: attributes of items, users and events, and a request's context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from rankstream.client import checks
from rankstream.client.errors import invalid
from rankstream.proto.v1 import common_pb2

# A sequence of texts is a set: order and repeats do not matter.
Attribute: TypeAlias = str | bool | int | float | Sequence[str]
Attributes: TypeAlias = Mapping[str, Attribute]


def attribute_to_pb(field: str, value: object) -> common_pb2.AttributeValue:
    """Protobuf form.

    Raises:
        InvalidArgument: it is no text, finite number, bool or sequence of texts; names ``field``.
    """
    if isinstance(value, bool):
        return common_pb2.AttributeValue(flag=value)
    if isinstance(value, int | float):
        return common_pb2.AttributeValue(number=checks.number(field, value))
    if isinstance(value, str):
        return common_pb2.AttributeValue(text=checks.text(field, value))
    if isinstance(value, bytes) or not isinstance(value, Sequence | frozenset | set):
        problem = f"{checks.shown(value)}; expected a text, number, bool or sequence of texts"
        raise invalid(field=field, problem=problem)
    listed = [checks.text(f"{field}[{index}]", text) for index, text in enumerate(value)]
    return common_pb2.AttributeValue(texts=common_pb2.Texts(values=listed))


def attribute_from_pb(message: common_pb2.AttributeValue) -> Attribute:
    """Our form: str, float, bool, or a tuple of str."""
    kind = message.WhichOneof("kind")
    if kind == "texts":
        return tuple(message.texts.values)
    value: Attribute = getattr(message, kind) if kind else ""
    return value


def attributes_to_pb(field: str, values: object) -> dict[str, common_pb2.AttributeValue]:
    """Protobuf form of values by name.

    Raises:
        InvalidArgument: as ``attribute_to_pb``, or this is no mapping of names.
    """
    if not isinstance(values, Mapping):
        raise invalid(field, f"{checks.shown(values)}; expected a mapping of values by name")
    named = ((checks.text(f"{field} key", name), value) for name, value in values.items())
    return {name: attribute_to_pb(f"{field}[{name}]", value) for name, value in named}


def attributes_from_pb(
    messages: Mapping[str, common_pb2.AttributeValue],
) -> dict[str, Attribute]:
    """Our form of values by name."""
    return {name: attribute_from_pb(messages[name]) for name in sorted(messages)}
