"""Every error that this package raises, and the gRPC status each stands for.

::

    RankstreamError            base of all; also any status not named below
    ├── InvalidArgument        INVALID_ARGUMENT     field_violations name the fields
    │   └── BadRecord          a line of a file; names file, line and field
    ├── Unauthenticated        UNAUTHENTICATED      no access token, or nobody's
    ├── PermissionDenied       PERMISSION_DENIED    somebody's who may not call this
    ├── NotFound               NOT_FOUND
    ├── ResourceExhausted      RESOURCE_EXHAUSTED   a limit or a full queue; retry_after_s
    ├── DeadlineExceeded       DEADLINE_EXCEEDED    too late, or min_token was not reached in time
    ├── Unavailable            UNAVAILABLE          nobody answers; a retry may succeed
    ├── FailedPrecondition     FAILED_PRECONDITION  not this server, not in this state
    ├── DataLoss               DATA_LOSS            stored or sent bytes do not read back
    ├── Unimplemented          UNIMPLEMENTED        the server does not know this call
    ├── Cancelled              CANCELLED            the connection was closed under the call
    ├── Internal               INTERNAL
    └── DeliveryFailed         Kafka did not take records; says how many

An answer that breaks the protocol is ``DataLoss``. No error of grpc or kafka leaves this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import grpc
    from google.protobuf.message import Message
    from google.rpc import status_pb2

# google.rpc.Code by number, which is also grpc.StatusCode's.
CODE_NAMES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"),
    *("ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"),
    *("ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
    "UNAUTHENTICATED",
)


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that was wrong: its path, as ``requests[3].k``, and why."""

    field: str
    description: str


class RankstreamError(Exception):
    """Base of all errors of this package.

    Attributes:
        code: name of the gRPC status.
        message: what was wrong, what was expected, what to do.
        field_violations: the fields of the request that were wrong, where the server says so.
        retry_after_s: seconds after which a retry has a chance; None where nobody said.
        answered: of a stream that broke off: how many of its entries were answered before; None:
            this ended no stream.
    """

    code = "UNKNOWN"
    answered: int | None = None

    def __init__(
        self,
        message: str,
        *,
        field_violations: Sequence[FieldViolation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field_violations = tuple(field_violations)
        self.retry_after_s = retry_after_s

    def after(self, answered: int) -> Self:
        """This error, which ended a stream after so many answers; says so."""
        self.answered = answered
        self.message = f"{self.message} (after {answered:,} answers)"
        self.args = (self.message,)
        return self


class InvalidArgument(RankstreamError):
    """A field of the request is wrong; the same request will never succeed."""

    code = "INVALID_ARGUMENT"


class BadRecord(InvalidArgument):
    """A line of a file is not the record that was expected.

    Args:
        path: the file.
        line: its line, from 1.
        field: the column or key; empty where the whole line is meant.
        problem: what is wrong and what was expected.
    """

    def __init__(self, path: str, line: int, field: str, problem: str) -> None:
        what = f"{field}: {problem}" if field else problem
        super().__init__(
            f"{path}:{line}: {what}", field_violations=[FieldViolation(field, problem)]
        )
        self.path = path
        self.line = line
        self.field = field


class Unauthenticated(RankstreamError):
    """The server does not know who calls; see ``Credentials``."""

    code = "UNAUTHENTICATED"


class PermissionDenied(RankstreamError):
    """The server knows who calls, and does not allow them this."""

    code = "PERMISSION_DENIED"


class NotFound(RankstreamError):
    """What was asked for by name does not exist."""

    code = "NOT_FOUND"


class ResourceExhausted(RankstreamError):
    """A limit was reached or a bounded queue is full; see ``retry_after_s``."""

    code = "RESOURCE_EXHAUSTED"


class DeadlineExceeded(RankstreamError):
    """The time ran out, or the state did not reach ``min_token`` within its wait."""

    code = "DEADLINE_EXCEEDED"


class Unavailable(RankstreamError):
    """Nobody answers, or something the server needs is away; a retry may succeed."""

    code = "UNAVAILABLE"


class FailedPrecondition(RankstreamError):
    """This server, or this client, is not in the state that the call needs."""

    code = "FAILED_PRECONDITION"


class DataLoss(RankstreamError):
    """Stored or sent bytes do not read back as what was written."""

    code = "DATA_LOSS"


class Unimplemented(RankstreamError):
    """The server does not know this call: it is older, or the target is another server."""

    code = "UNIMPLEMENTED"


class Cancelled(RankstreamError):
    """The call was given up before it was answered."""

    code = "CANCELLED"


class Internal(RankstreamError):
    """The server failed in a way it did not foresee."""

    code = "INTERNAL"


class DeliveryFailed(RankstreamError):
    """Kafka did not acknowledge records.

    Args:
        message: what happened to the first of them.
        failed: how many were not acknowledged since the last such error.
    """

    code = "UNAVAILABLE"

    def __init__(self, message: str, failed: int) -> None:
        super().__init__(message)
        self.failed = failed


_BY_CODE: dict[str, type[RankstreamError]] = {
    kind.code: kind
    for kind in (
        *(InvalidArgument, NotFound, ResourceExhausted, DeadlineExceeded, Unavailable),
        *(
            Unauthenticated,
            PermissionDenied,
            FailedPrecondition,
            DataLoss,
            Unimplemented,
            Cancelled,
            Internal,
        ),
    )
}


def invalid(field: str, problem: str) -> InvalidArgument:
    """The error for one wrong field, found before anything was sent."""
    return InvalidArgument(f"{field}: {problem}", field_violations=[FieldViolation(field, problem)])


def error_from_status(status: status_pb2.Status, where: str = "") -> RankstreamError:
    """The error that a ``google.rpc.Status`` stands for, with what its details say.

    Args:
        status: a status other than OK.
        where: what was called, put before the message.
    """
    known = 0 <= status.code < len(CODE_NAMES)
    name = CODE_NAMES[status.code] if known else "UNKNOWN"
    text = status.message or name
    error = _BY_CODE.get(name, RankstreamError)(
        f"{where}: {text}" if where else text,
        field_violations=_field_violations(status),
        retry_after_s=_retry_after_s(status),
    )
    error.code = name
    return error


def error_from_rpc(error: grpc.RpcError, where: str = "") -> RankstreamError:
    """The error that a failed call stands for."""
    return error_from_status(_status_of(error), where)


def _status_of(error: grpc.RpcError) -> status_pb2.Status:
    """The rich status of a failed call; a plain one where there is none or it contradicts."""
    from google.rpc import status_pb2
    from grpc_status import rpc_status

    try:
        rich = rpc_status.from_call(error)
    except ValueError:
        rich = None
    if isinstance(rich, status_pb2.Status):
        return rich
    code = error.code()
    return status_pb2.Status(code=code.value[0], message=error.details() or "")


def _unpack(status: status_pb2.Status, kind: type[Message]) -> Message | None:
    """The first detail of ``kind`` that reads back; what cannot be read adds nothing."""
    from google.protobuf.message import DecodeError

    for detail in status.details:
        if detail.Is(kind.DESCRIPTOR):
            found = kind()
            try:
                detail.Unpack(found)
            except DecodeError:
                continue
            return found
    return None


def _field_violations(status: status_pb2.Status) -> list[FieldViolation]:
    from google.rpc import error_details_pb2

    detail = _unpack(status, error_details_pb2.BadRequest)
    if not isinstance(detail, error_details_pb2.BadRequest):
        return []
    return [FieldViolation(v.field, v.description) for v in detail.field_violations]


def _retry_after_s(status: status_pb2.Status) -> float | None:
    from google.rpc import error_details_pb2

    detail = _unpack(status, error_details_pb2.RetryInfo)
    if not isinstance(detail, error_details_pb2.RetryInfo):
        return None
    return float(detail.retry_delay.seconds + detail.retry_delay.nanos / 1e9)
