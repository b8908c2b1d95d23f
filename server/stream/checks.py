"""What ids, texts and records must be, whoever sends them."""

from __future__ import annotations

from collections.abc import Mapping

from rankstream.server.config import Limits
from rankstream.server.errors import InvalidArgument, RankstreamError


class BadRecord(RankstreamError):
    """A log record that no replica can fold; it goes to the dead-letter topic."""

    status = "INVALID_ARGUMENT"


class BadRecords(BadRecord):
    """Records that read well, and of which nothing can be made.

    Args:
        problems: why, by the record's offset.
    """

    def __init__(self, problems: Mapping[int, str]) -> None:
        super().__init__("; ".join(f"offset {at}: {why}" for at, why in problems.items()))
        self.problems = problems


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
