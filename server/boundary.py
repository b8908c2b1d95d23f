"""Around every RPC: a deadline for those without one, typed errors to statuses, no tracebacks out.

Messages are read in here, and streams written: what gRPC cannot read, it answers with UNKNOWN and
logs with a traceback, and a stream's generator that it drops is closed at some time, by the loop.

The table from errors to status codes is each error's ``status``. Details ride along as
google.rpc messages: ``BadRequest`` names the field, ``RetryInfo`` says when.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NoReturn, TypeAlias, cast

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from rankstream.server.access import Access
from rankstream.server.errors import InvalidArgument, Overloaded, RankstreamError

log = logging.getLogger(__name__)

_LONGEST_S = 3600.0

# Quoted: the types are generic for the type checker only.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "Callable[[Any, Context], Awaitable[Any]]"
Check: TypeAlias = "Callable[[Context], None]"
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


class Messages:
    """The messages of a stream. One that cannot be read is an error of its own; the next one comes.

    Args:
        context: the call.
        read: bytes to a message.
        check: whether the caller may still send some: a stream may outlive its access.
    """

    def __init__(
        self, context: Context, read: Callable[[bytes], Any] | None, check: Check | None = None
    ) -> None:
        self._context = context
        self._read = read
        self._check = check

    def __aiter__(self) -> Messages:
        """Itself: a stream is read once."""
        return self

    async def __anext__(self) -> Any:
        """The next message.

        Raises:
            InvalidArgument: it is not this method's message.
            grpc.aio.AbortError: the caller is not known any more; the call has ended.
        """
        data = await self._context.read()
        if data is grpc.aio.EOF:
            raise StopAsyncIteration
        if self._check is not None:
            try:
                self._check(self._context)
            except RankstreamError as error:
                # To services an error here is one message's, and the stream goes on.
                await _fail(self._context, error)
        return _read(self._read, data)


def guarded(server: grpc.aio.Server, access: Access | None = None) -> grpc.aio.Server:
    """What services are added to instead of the server, so that it gets their methods guarded.

    Where there are access rules, a call is checked before its request is decoded, and a stream
    again with each message.

    Once, when they are added: an interceptor of gRPC's is asked with every call, which costs as
    much as reading a ranking's request.
    """
    return cast("grpc.aio.Server", _GuardedServer(server, access))


class _GuardedServer:
    """Of a server, what the generated ``add_..._to_server`` calls."""

    def __init__(self, server: grpc.aio.Server, access: Access | None) -> None:
        self._server = server
        self._access = access

    def add_registered_method_handlers(self, service: str, methods: Mapping[str, Method]) -> None:
        wrapped = {
            name: _wrapped(method, self._check_of(service, name))
            for name, method in methods.items()
        }
        self._server.add_registered_method_handlers(service, wrapped)

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """The same methods once more, for a gRPC that cannot register them: not needed."""

    def _check_of(self, service: str, method: str) -> Check | None:
        access = self._access
        if access is None:
            return None
        return lambda context: access.check(context.invocation_metadata() or (), service, method)


def _wrapped(found: Method, check: Check | None) -> Method:
    """The handler of a method, of whichever kind, that reads, writes and fails as said above."""
    read, write = found.request_deserializer, _writer(found.response_serializer)
    if found.unary_unary is not None:
        handler = _guarded(_answering(cast(Handler, found.unary_unary), read), check)
        return grpc.unary_unary_rpc_method_handler(handler, None, write)
    if found.stream_unary is not None:
        handler = _guarded(_listening(cast(Handler, found.stream_unary), read, check), check)
        return grpc.stream_unary_rpc_method_handler(handler, None, write)
    if found.unary_stream is not None:
        handler = _guarded(_streaming(_answering(cast(Handler, found.unary_stream), read)), check)
        return grpc.unary_stream_rpc_method_handler(handler, None, write)
    listening = _listening(cast(Handler, found.stream_stream), read, check)
    handler = _guarded(_streaming(listening), check)
    return grpc.stream_stream_rpc_method_handler(handler, None, write)


def _answering(handler: Handler, read: Callable[[bytes], Any] | None) -> Handler:
    return lambda data, context: handler(_read(read, data), context)


def _listening(
    handler: Handler, read: Callable[[bytes], Any] | None, check: Check | None
) -> Handler:
    return lambda _, context: handler(Messages(context, read, check), context)


def _streaming(handler: Callable[[Any, Context], Any]) -> Handler:
    async def call(request: Any, context: Context) -> None:
        answers = handler(request, context)
        if not isinstance(answers, AsyncGenerator):
            # It writes by itself, as the health service does.
            await answers
            return
        async with aclosing(answers):
            async for answer in answers:
                await context.write(answer)

    return call


def _guarded(handler: Handler, check: Check | None) -> Handler:
    async def call(request: Any, context: Context) -> Any:
        try:
            if check is not None:
                check(context)
            return await handler(request, context)
        except (asyncio.CancelledError, grpc.aio.BaseError):
            # gRPC's own: the caller has gone, or the call was aborted.
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: nothing may pass it raw
            failure = error
        return await _fail(context, failure)

    return call


async def _fail(context: Context, error: Exception) -> NoReturn:
    """Ends a call with an error's status and its details."""
    failed = rpc_status.to_status(status_of(error))
    metadata = list(failed.trailing_metadata)
    if isinstance(error, Overloaded):
        # What gRPC's own retries obey; RetryInfo is for the callers that read details.
        metadata.append(("grpc-retry-pushback-ms", str(int(error.retry_after_s * 1000))))
    context.set_trailing_metadata(tuple(metadata))
    await context.abort(failed.code, failed.details)
    msg = "abort raises"
    raise AssertionError(msg)


def _writer(write: Callable[[Any], bytes] | None) -> Callable[[Any], bytes] | None:
    """Lets a handler answer in bytes that are encoded already."""
    if write is None:
        return None
    return lambda answer: answer if isinstance(answer, bytes) else write(answer)


def _read(read: Callable[[bytes], Any] | None, data: bytes) -> Any:
    if read is None:
        return data
    try:
        return read(data)
    except DecodeError as error:
        problem = f"not this method's message: {error}"
        raise InvalidArgument(field="request", problem=problem) from None


def _clean(text: str) -> str:
    """Printable, on one line, bounded: a message may quote what a caller sent."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:500])
    return shown.encode(errors="backslashreplace").decode()
