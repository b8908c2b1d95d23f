"""How a load process calls: unary methods and StreamRank, over connections that come back.

Both kinds take a serialised request and give the serialised answer, or raise ``CallFailed``. A
connection that has ended is opened again by the next call; while that fails, calls are UNAVAILABLE.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from typing import Any, Protocol

import grpc
from entries import batch_of, entries_of, failure_of
from light_channel import CallFailed, LightChannel, connect

STREAM_RANK = "/rankstream.v1.Ranking/StreamRank"
_PAUSE_S = 0.1
_LARGEST = 64 << 20
_HIDDEN = "Internal error from Core"
"""What grpc.aio says instead of a stream's status, where the stream ended during a write."""


class Calls(Protocol):
    """Whatever sends one kind of request."""

    async def call(self, request: bytes) -> bytes:
        """The answer.

        Raises:
            CallFailed: there is none; its argument is the status code's name.
        """

    async def close(self) -> None:
        """Ends the connections."""


class UnaryCalls:
    """Calls of a unary method; several connections take turns."""

    def __init__(self, address: str, method: str, connections: int, timeout_s: float) -> None:
        self._opened = [_Reopened(address, method, timeout_s) for _ in range(connections)]
        self._turns = itertools.cycle(self._opened)

    async def call(self, request: bytes) -> bytes:
        """One call."""
        channel = await next(self._turns).channel()
        return await channel.call(request, keep=True)

    async def close(self) -> None:
        """Ends the connections."""
        for one in self._opened:
            one.close()


class _Reopened:
    """One connection, opened when it is needed and not there."""

    def __init__(self, address: str, method: str, timeout_s: float) -> None:
        self._where = address, method, timeout_s
        self._channel: LightChannel | None = None
        self._opening: asyncio.Task[LightChannel] | None = None
        self._not_before = 0.0

    async def channel(self) -> LightChannel:
        if self._channel is not None and self._channel.is_open:
            return self._channel
        if self._opening is None:
            if time.monotonic() < self._not_before:
                raise CallFailed(grpc.StatusCode.UNAVAILABLE.name)
            self._opening = asyncio.ensure_future(connect(*self._where))
            self._opening.add_done_callback(self._opened)
        try:
            return await asyncio.shield(self._opening)
        except OSError as error:
            raise CallFailed(grpc.StatusCode.UNAVAILABLE.name) from error

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()

    def _opened(self, opening: asyncio.Task[LightChannel]) -> None:
        self._opening = None
        if opening.cancelled() or opening.exception() is not None:
            self._not_before = time.monotonic() + _PAUSE_S
        else:
            self._channel = opening.result()


class StreamCalls:
    """Requests over one StreamRank, each in a message; the answers come in their order."""

    def __init__(self, address: str) -> None:
        limits = [("grpc.max_receive_message_length", _LARGEST), ("grpc.enable_retries", 0)]
        self._channel = grpc.aio.insecure_channel(address, options=limits)
        self._stream: _OpenStream | None = None

    async def call(self, request: bytes) -> bytes:
        """One request: the answered entry.

        Raises:
            CallFailed: the entry has a status, or the stream ended.
        """
        if self._stream is None or self._stream.ended:
            self._stream = _OpenStream(self._channel.stream_stream(STREAM_RANK)())
        answer = await self._stream.send(batch_of([request]))
        if code := failure_of(answer):
            raise CallFailed(code)
        return answer

    async def close(self) -> None:
        """Ends the connection."""
        if self._stream is not None:
            self._stream.close()
        await self._channel.close()


class _OpenStream:
    """One stream until it ends; whoever waits then has its status."""

    def __init__(self, call: Any) -> None:
        self.ended = False
        self._call = call
        self._waiting: deque[asyncio.Future[bytes]] = deque()
        self._unsent: asyncio.Queue[bytes] = asyncio.Queue()
        self._tasks = [asyncio.ensure_future(self._write()), asyncio.ensure_future(self._read())]

    async def send(self, request: bytes) -> bytes:
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(answered)
        self._unsent.put_nowait(request)
        return await answered

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _write(self) -> None:
        try:
            while True:
                await self._call.write(await self._unsent.get())
        except (grpc.RpcError, asyncio.InvalidStateError):
            # The stream has ended; the reader hears with which status.
            return

    async def _read(self) -> None:
        try:
            while (answer := await self._call.read()) is not grpc.aio.EOF:
                for entry in entries_of(answer):
                    if self._waiting and not (answered := self._waiting.popleft()).done():
                        answered.set_result(entry)
        except grpc.RpcError:
            pass
        self._end((await self._call.code()).name, await self._call.details() or "")

    def _end(self, code: str, details: str) -> None:
        self.ended = True
        # A stream that ended well has still left these without an answer.
        hidden = code == grpc.StatusCode.OK.name or details == _HIDDEN
        failure = grpc.StatusCode.UNAVAILABLE.name if hidden else code
        for answered in self._waiting:
            if not answered.done():
                answered.set_exception(CallFailed(failure))
        self._waiting.clear()
        self._tasks[0].cancel()
