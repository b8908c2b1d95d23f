"""What an event must be.

The same rules validate what comes over gRPC (``validate_event``), so that what is accepted there is
never dead-lettered in ingest.
"""

from __future__ import annotations

from typing import NamedTuple

from rankstream.proto.v1 import events_pb2
from rankstream.server.config import Limits
from rankstream.server.errors import InvalidArgument
from rankstream.server.profiles.interaction import signed_weight
from rankstream.server.profiles.settings import FoldSettings
from rankstream.server.stream.attributes import attributes_from_pb
from rankstream.server.stream.checks import check_id, check_text
from rankstream.server.types import normal_text

RESET = "$reset"
MERGE = "$merge"
SEARCH = "search"

_NEEDS_ITEM = frozenset({"impression", "click"})
"""Types of what is done to an item, and to nothing else."""


class Admission(NamedTuple):
    """What the fold needs of a valid event.

    Attributes:
        type_id: from the type registry.
        weight: signed.
        text: normal; "" where the event has none.
    """

    type_id: int
    weight: float
    text: str


def validate_event(
    event: events_pb2.Event, fold: FoldSettings, limits: Limits, field: str = ""
) -> Admission:
    """Checks an event's own fields; its time is checked against a clock by the caller.

    Args:
        event: the message.
        fold: admitted types and curves.
        limits: lengths.
        field: where the event stands in a request, as ``events[3].``.

    Raises:
        InvalidArgument: names the field.
    """
    check_id(event.user_id, field + "user_id", limits.max_id_bytes)
    return validate_interaction(event, fold, limits, field)


def validate_interaction(
    event: events_pb2.Event, fold: FoldSettings, limits: Limits, field: str = ""
) -> Admission:
    """As ``validate_event``, of an event that is nobody's."""
    type_id = _check_type(event, fold, field)
    text = _check_target(event, limits, field)
    for name in ("event_id", "session_id", "platform"):
        _check_note(getattr(event, name), field + name, limits.max_id_bytes)
    attributes_from_pb(event.attributes, limits, field + "attributes")
    if event.HasField("moved"):
        raise InvalidArgument(field + "moved", f"only {MERGE} has it, which MergeProfiles writes")
    value = event.value if event.HasField("value") else None
    weight = event.weight if event.HasField("weight") else None
    try:
        weighed = signed_weight(fold.curve_of[event.type], value, weight)
    except InvalidArgument as error:
        raise InvalidArgument(field + error.field, error.problem) from None
    return Admission(type_id, weighed, text)


def _check_type(event: events_pb2.Event, fold: FoldSettings, field: str) -> int:
    type_id = fold.type_id(event.type)
    if type_id is None and event.type in (RESET, MERGE):
        problem = f"{event.type!r} is no event to record: ResetProfile and MergeProfiles write them"
        raise InvalidArgument(field + "type", problem)
    if type_id is None:
        names = ", ".join(fold.type_ids)
        problem = f"{event.type!r} is not a known type; there are {names}"
        raise InvalidArgument(field + "type", problem)
    return type_id


def _check_target(event: events_pb2.Event, limits: Limits, field: str) -> str:
    """Checks that an event has what its type needs of item and text; returns its normal text."""
    text = ""
    if event.text:
        check_text(event.text, field + "text", limits.max_event_text_chars)
        text = normal_text(event.text)
    if event.type == SEARCH and not text:
        raise InvalidArgument(field + "text", "empty, expected what was searched for")
    if event.item_id or not text or event.type in _NEEDS_ITEM:
        check_id(event.item_id, field + "item_id", limits.max_id_bytes)
    return text


def _check_note(note: str, field: str, max_bytes: int) -> None:
    if note:
        check_id(note, field, max_bytes)
