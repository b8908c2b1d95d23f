"""Attributes as they come: what a map of names to typed values may hold."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rankstream.proto.v1 import common_pb2
from rankstream.server.config import Limits
from rankstream.server.errors import InvalidArgument
from rankstream.server.stream.codec import check_id


def check_attributes(
    attributes: Mapping[str, common_pb2.AttributeValue], limits: Limits, field: str
) -> None:
    """Checks names and values.

    Raises:
        InvalidArgument: names the field.
    """
    if len(attributes) > limits.max_attributes:
        problem = f"{len(attributes)} attributes, the limit is {limits.max_attributes}"
        raise InvalidArgument(field, problem)
    for name in sorted(attributes):
        where = f"{field}[{name!r}]"
        check_id(name, where, limits.max_id_bytes)
        check_attribute(attributes[name], limits, where)


def check_attribute(value: common_pb2.AttributeValue, limits: Limits, field: str) -> None:
    """Checks one value.

    Raises:
        InvalidArgument: names the field.
    """
    kind = value.WhichOneof("kind")
    if kind is None:
        raise InvalidArgument(field, "empty: give text, number, flag or texts")
    if kind == "number" and not math.isfinite(value.number):
        raise InvalidArgument(field + ".number", f"{value.number}, expected a finite number")
    texts = [value.text] if kind == "text" else value.texts.values
    if len(texts) > limits.max_attribute_texts:
        problem = f"{len(texts)}, the limit is {limits.max_attribute_texts}"
        raise InvalidArgument(field + ".texts", problem)
    for text in texts if kind in ("text", "texts") else ():
        if len(text.encode()) > limits.max_attribute_bytes:
            problem = f"longer than {limits.max_attribute_bytes} bytes"
            raise InvalidArgument(field=f"{field}.{kind}", problem=problem)
