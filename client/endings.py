"""The status that a server ended an asyncio stream with.

grpc.aio puts INTERNAL in its place where a message is written just then (grpc/grpc issue 36066), so
that nobody would know whether to try again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc
from grpc.aio import AioRpcError, Metadata

R = TypeVar("R")

# What gRPC says of a write that failed, and how long the real status may take to arrive after it.
_FAILED_WRITE = "Internal error from Core"
_LATE_S = 1.0


class Ending:
    """Remembers the status that ends ``call``, before a failed write hides it."""

    def __init__(self, call: Any) -> None:
        self._heard: asyncio.Future[AioRpcError] = asyncio.get_running_loop().create_future()
        call.add_done_callback(self._hear)

    async def meant(self, error: grpc.RpcError) -> grpc.RpcError | None:
        """What the server meant where ``error`` is a failed write's; None: it was done."""
        if error.details() != _FAILED_WRITE:
            return error
        done, _ = await asyncio.wait([self._heard], timeout=_LATE_S)
        if not done:
            return error
        heard = self._heard.result()
        return None if heard.code() is grpc.StatusCode.OK else heard

    def _hear(self, call: Any) -> None:
        """Called with each status that is set, the hidden one included."""
        code, details = _known(call.code()), _known(call.details())
        if details != _FAILED_WRITE and code is not None and not self._heard.done():
            metadata = _known(call.trailing_metadata()) or Metadata()
            self._heard.set_result(AioRpcError(code, Metadata(), metadata, details))


def _known(coroutine: Coroutine[Any, Any, R]) -> R | None:
    """What a coroutine returns at once, as those of a call that has ended do."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        answer: R = done.value
        return answer
    coroutine.close()
    return None
