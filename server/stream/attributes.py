"""Typed values of the API to the server's own: attributes, ends of filters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rankstream.proto.v1 import common_pb2
from rankstream.server.config import Limits
from rankstream.server.errors import InvalidArgument
from rankstream.server.facts import AttributeValue
from rankstream.server.stream.checks import check_id


def attributes_from_pb(
    messages: Mapping[str, common_pb2.AttributeValue], limits: Limits, field: str
) -> dict[str, AttributeValue]:
    """Validates attributes by name.

    Args:
        messages: the field.
        limits: how many, and how large.
        field: where it stands, as ``items[3].attributes``.

    Raises:
        InvalidArgument: names the attribute.
    """
    if len(messages) > limits.max_attributes:
        raise InvalidArgument(field, f"{len(messages)}, the limit is {limits.max_attributes}")
    found: dict[str, AttributeValue] = {}
    # Sorted, so that of two that are wrong it is always the same that is named.
    for name in sorted(messages):
        where = f"{field}[{name!r}]"
        check_name(name, limits, where)
        found[name] = attribute_from_pb(messages[name], limits, where)
    return found


def attribute_from_pb(
    message: common_pb2.AttributeValue, limits: Limits, field: str
) -> AttributeValue:
    """Validates one value.

    Args:
        message: the value.
        limits: lengths.
        field: where it stands.

    Raises:
        InvalidArgument: names the field.
    """
    kind = message.WhichOneof("kind")
    if kind == "text":
        return _checked_text(message.text, limits, field + ".text")
    if kind == "number":
        return checked_number(message.number, field + ".number")
    if kind == "flag":
        return message.flag
    if kind == "texts":
        return _checked_texts(message.texts.values, limits, field + ".texts")
    raise InvalidArgument(field, "not set: give a text, a number, a flag or texts")


def checked_number(number: float, field: str) -> float:
    """A finite number.

    Raises:
        InvalidArgument: it is not.
    """
    if not math.isfinite(number):
        raise InvalidArgument(field, f"{number}, expected a finite number")
    return number


def check_name(name: str, limits: Limits, field: str) -> None:
    """The name of a column or an attribute.

    Raises:
        InvalidArgument: it is empty or too long.
    """
    check_id(name, field, limits.max_attribute_name_bytes)


def _checked_text(text: str, limits: Limits, field: str) -> str:
    if len(text.encode()) > limits.max_attribute_bytes:
        raise InvalidArgument(field, f"longer than {limits.max_attribute_bytes} bytes")
    return text


def _checked_texts(texts: Sequence[str], limits: Limits, field: str) -> tuple[str, ...]:
    if len(texts) > limits.max_attribute_texts:
        raise InvalidArgument(field, f"{len(texts)}, the limit is {limits.max_attribute_texts}")
    checked = {_checked_text(t, limits, f"{field}.values[{i}]") for i, t in enumerate(texts)}
    return tuple(sorted(checked))
