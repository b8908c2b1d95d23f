"""Around every RPC: a deadline for those without one, typed errors to statuses, no tracebacks out.

The table from errors to status codes is each error's ``status``. Details ride along as
google.rpc messages: ``BadRequest`` names the field, ``RetryInfo`` says when.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, cast

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from rankstream.server.errors import InvalidArgument, Overloaded, RankstreamError

log = logging.getLogger(__name__)

_LONGEST_S = 3600.0

# Quoted: the types are generic for the type checker only.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "Callable[[Any, Context], Awaitable[Any]]"
Method: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


def status_of(error: BaseException) -> status_pb2.Status:
    """The google.rpc.Status of an error, its details included."""
    if not isinstance(error, RankstreamError):
        log.error("an RPC failed unexpectedly", exc_info=error)
        return status_pb2.Status(code=code_pb2.INTERNAL, message="internal error, see the log")
    status = status_pb2.Status(code=code_pb2.Code.Value(error.status), message=_clean(str(error)))
    detail = any_pb2.Any()
    if isinstance(error, InvalidArgument):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=_clean(error.problem)
        )
        detail.Pack(error_details_pb2.BadRequest(field_violations=[violation]))
        status.details.append(detail)
    elif isinstance(error, Overloaded):
        delay = Duration()
        delay.FromMilliseconds(int(error.retry_after_s * 1000))
        detail.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        status.details.append(detail)
    return status


def deadline_of(context: Context, default_s: float) -> float:
    """When this call must be done, on ``time.monotonic``'s clock."""
    left = context.time_remaining()
    return time.monotonic() + (default_s if left is None else min(left, _LONGEST_S))


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Turns what a unary handler raises into a status."""

    def __init__(self) -> None:
        # Asked for with every call, though a method's handler never changes.
        self._handlers: dict[str, Method] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Method | None]],
        details: grpc.HandlerCallDetails,
    ) -> Method | None:
        """Wraps the handler that gRPC found."""
        known = self._handlers.get(details.method)
        if known is not None:
            return known
        found = await continuation(details)
        if found is None or found.unary_unary is None:
            return found
        handler = cast(Handler, found.unary_unary)
        # Read in there: what gRPC cannot read, it answers with UNKNOWN and logs with a traceback.
        wrapped: Method = grpc.unary_unary_rpc_method_handler(
            _guarded(handler, found.request_deserializer), None, _writer(found.response_serializer)
        )
        self._handlers[details.method] = wrapped
        return wrapped


def _guarded(handler: Handler, read: Callable[[bytes], Any] | None) -> Handler:
    async def call(request: Any, context: Context) -> Any:
        try:
            return await handler(request if read is None else _read(read, request), context)
        except (asyncio.CancelledError, grpc.aio.AbortError):
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: nothing may pass it raw
            failed = rpc_status.to_status(status_of(error))
            retry_ms = int(error.retry_after_s * 1000) if isinstance(error, Overloaded) else None
        metadata = list(failed.trailing_metadata)
        if retry_ms is not None:
            # What gRPC's own retries obey; RetryInfo is for the callers that read details.
            metadata.append(("grpc-retry-pushback-ms", str(retry_ms)))
        context.set_trailing_metadata(tuple(metadata))
        return await context.abort(failed.code, failed.details)

    return call


def _writer(write: Callable[[Any], bytes] | None) -> Callable[[Any], bytes] | None:
    """Lets a handler answer in bytes that are encoded already."""
    if write is None:
        return None
    return lambda answer: answer if isinstance(answer, bytes) else write(answer)


def _read(read: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return read(data)
    except DecodeError as error:
        problem = f"not this method's message: {error}"
        raise InvalidArgument(field="request", problem=problem) from None


def _clean(text: str) -> str:
    """Printable, on one line, bounded: a message may quote what a caller sent."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:500])
    return shown.encode(errors="backslashreplace").decode()
