"""Events that a producer wrote as JSON, and says so in the record's header ``content-type``.

The value is protobuf's JSON form of ``Event``: https://protobuf.dev/programming-guides/json. Fields
may be named as in the proto or in lowerCamelCase; unknown ones are ignored, as in the binary form.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf import json_format

from rankstream.proto.v1 import events_pb2
from rankstream.server.stream.checks import BadRecord

_HEADER = "content-type"
_JSON = b"application/json"
_DEEPEST = 20
_MOST_BRACKETS = 5_000
_SHOWN_BYTES = 200


def content_type(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    """The value of a record's content-type header, cut where it is long; b"": it has none."""
    for name, value in headers:
        if value and name.lower() == _HEADER:
            return value[:_SHOWN_BYTES]
    return b""


def is_json(headers: Sequence[tuple[str, bytes | None]]) -> bool:
    """Whether a record says that its value is JSON; parameters, as a charset, do not matter."""
    return content_type(headers).partition(b";")[0].strip().lower() == _JSON


def event_from_json(value: bytes) -> events_pb2.Event:
    """Reads an event.

    Raises:
        BadRecord: it is no JSON form of one.
    """
    event = events_pb2.Event()
    brackets = value.count(b"{") + value.count(b"[")
    if brackets > _MOST_BRACKETS:
        # Unknown fields may be nested at will, and are read whole before they are ignored.
        msg = f"value: not an Event in JSON: {brackets} brackets, the limit is {_MOST_BRACKETS}"
        raise BadRecord(msg)
    try:
        json_format.Parse(value, event, ignore_unknown_fields=True, max_recursion_depth=_DEEPEST)
    # RecursionError: JSON nested deeper than the interpreter reads, before protobuf sees it.
    except (json_format.ParseError, ValueError, RecursionError) as error:
        msg = f"value: not an Event in JSON: {str(error)[:_SHOWN_BYTES]}"
        raise BadRecord(msg) from None
    return event
