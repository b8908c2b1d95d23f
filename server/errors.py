"""The server's errors: one small tree, and the gRPC status each becomes.

::

    RankstreamError                 INTERNAL
    ├── InvalidArgument             INVALID_ARGUMENT      a field of the request; names it
    ├── Unauthenticated             UNAUTHENTICATED       no access token, or nobody's
    ├── PermissionDenied            PERMISSION_DENIED     somebody's who may not call this
    ├── NotFound                    NOT_FOUND
    ├── VersionMismatch             FAILED_PRECONDITION   it is not the version that was named
    ├── NotOwned                    FAILED_PRECONDITION   another shard has this partition or user
    ├── Overloaded                  RESOURCE_EXHAUSTED    a queue is full; says when to retry
    ├── StaleState                  DEADLINE_EXCEEDED     min_token not reached within max_wait
    ├── DeadlineExceeded            DEADLINE_EXCEEDED     the caller's time ran out before the work
    ├── Unavailable                 UNAVAILABLE           the broker, the encoder or a child is away
    ├── SpaceMismatch               FAILED_PRECONDITION   vectors of two spaces
    ├── StateRefused                FAILED_PRECONDITION   what is stored contradicts what was asked
    └── CorruptState                DATA_LOSS             stored bytes do not read back
"""

from __future__ import annotations


class RankstreamError(Exception):
    """Base of all. A message says what was wrong, what was expected, and what to do."""

    status = "INTERNAL"


class InvalidArgument(RankstreamError):
    """One field of a request is wrong.

    Args:
        field: the field's path, as ``requests[3].k``.
        problem: what is wrong with its value and what was expected.
    """

    status = "INVALID_ARGUMENT"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class Unauthenticated(RankstreamError):
    """Nobody knows who calls."""

    status = "UNAUTHENTICATED"


class PermissionDenied(RankstreamError):
    """Who calls may not call this."""

    status = "PERMISSION_DENIED"


class NotFound(RankstreamError):
    """What was asked for by name does not exist."""

    status = "NOT_FOUND"


class VersionMismatch(RankstreamError):
    """An item is not as its caller saw it.

    Args:
        item_id: which.
        found: the version it has.
        wanted: the version its caller named.
    """

    status = "FAILED_PRECONDITION"

    def __init__(self, item_id: str, found: int, wanted: int) -> None:
        super().__init__(
            f"if_version: {item_id!r} has version {found}, not {wanted}: "
            "read it again (GetItem), and patch that"
        )


class NotOwned(RankstreamError):
    """Another shard owns this user or partition."""

    status = "FAILED_PRECONDITION"


class Overloaded(RankstreamError):
    """A bounded queue is full.

    Args:
        message: which queue, and its limit.
        retry_after_s: seconds after which a retry has a chance.
    """

    status = "RESOURCE_EXHAUSTED"

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StaleState(RankstreamError):
    """The state has not reached ``min_token`` within ``max_wait``."""

    status = "DEADLINE_EXCEEDED"


class DeadlineExceeded(RankstreamError):
    """The caller's time ran out before its work began."""

    status = "DEADLINE_EXCEEDED"


class Unavailable(RankstreamError):
    """Something this server needs is away; a retry may succeed."""

    status = "UNAVAILABLE"


class SpaceMismatch(RankstreamError):
    """Vectors of two different spaces were about to be compared."""

    status = "FAILED_PRECONDITION"


class StateRefused(RankstreamError):
    """The stored state contradicts the settings or the log; continuing would corrupt it."""

    status = "FAILED_PRECONDITION"


class CorruptState(RankstreamError):
    """Stored bytes do not read back as what was written."""

    status = "DATA_LOSS"
