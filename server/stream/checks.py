"""What ids, texts, attributes and records must be, whoever sends them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rankstream.proto.v1 import common_pb2
from rankstream.server.config import Limits
from rankstream.server.errors import InvalidArgument, RankstreamError


class BadRecord(RankstreamError):
    """A log record that no replica can fold; it goes to the dead-letter topic."""

    status = "INVALID_ARGUMENT"


def check_size(value: bytes, limits: Limits, field: str = "value") -> None:
    """A record's value is bounded, whoever wrote it.

    Raises:
        InvalidArgument: names the field.
    """
    if len(value) > limits.max_record_bytes:
        raise InvalidArgument(field, f"{len(value)} bytes, the limit is {limits.max_record_bytes}")


def check_id(name: str, field: str, max_bytes: int) -> None:
    """An external id: not empty, bounded, no NUL.

    Raises:
        InvalidArgument: names the field.
    """
    if not name:
        raise InvalidArgument(field, "empty, expected an id")
    if len(name) > max_bytes or len(name.encode()) > max_bytes:
        raise InvalidArgument(field, f"longer than {max_bytes} bytes")
    if "\0" in name:
        raise InvalidArgument(field, "holds a NUL character")


def check_text(text: str, field: str, max_chars: int) -> None:
    """A text: bounded, no NUL.

    Raises:
        InvalidArgument: names the field.
    """
    if len(text) > max_chars:
        raise InvalidArgument(field, f"{len(text)} characters, the limit is {max_chars}")
    if "\0" in text:
        raise InvalidArgument(field, "holds a NUL character")


def check_attributes(
    attributes: Mapping[str, common_pb2.AttributeValue], limits: Limits, field: str
) -> None:
    """Attributes of an event, a user or an item: bounded, named, each with a value.

    Raises:
        InvalidArgument: names the field.
    """
    if len(attributes) > limits.max_attributes:
        raise InvalidArgument(field, f"{len(attributes)}, the limit is {limits.max_attributes}")
    for name in sorted(attributes):
        where = f"{field}[{name[:32]!r}]"
        check_id(name, where, limits.max_id_bytes)
        check_attribute(attributes[name], limits, where)


def check_attribute(value: common_pb2.AttributeValue, limits: Limits, field: str) -> None:
    """One value of an attribute.

    Raises:
        InvalidArgument: names the field.
    """
    kind = value.WhichOneof("kind")
    if kind is None:
        raise InvalidArgument(field, "not set, expected text, number, flag or texts")
    if kind == "number" and not math.isfinite(value.number):
        raise InvalidArgument(field, f"is {value.number}; expected a finite number")
    texts = value.texts.values if kind == "texts" else (value.text,)
    if len(texts) > limits.max_attribute_texts:
        raise InvalidArgument(
            field, f"{len(texts)} texts, the limit is {limits.max_attribute_texts}"
        )
    for text in texts:
        check_text(text, field, limits.max_attribute_chars)
