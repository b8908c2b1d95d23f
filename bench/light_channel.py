"""Unary gRPC calls with next to no client: prepared HTTP/2 frames over one TCP connection.

grpc's own Python client takes about as much CPU a call as the server that answers it. On a machine
that both share, an open loop then measures the two together, as if they stood in one queue. Here a
request is its frames, put together once, and an answer is counted, not read: a tenth of that CPU.

Only what a load generator needs: cleartext, no compression, HPACK without a dynamic table (asked
for by SETTINGS), so that ``grpc-status`` stands in the trailers as plain bytes. The protocol is
RFC 9113 and https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque

import grpc

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM = _ACK = 0x1
_END_HEADERS = 0x4
_HEADER_TABLE_SIZE, _INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 1, 4, 5
_LARGEST_WINDOW = 2**31 - 1
_DEFAULT_WINDOW = 65_535
_DEFAULT_FRAME = 16_384
_REFILL = 1 << 20
_PREFIX = 5
"""Bytes before a message: whether it is compressed, and its length."""
_STATUS = b"\x0bgrpc-status"
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class CallFailed(Exception):
    """A call that was not answered with OK; its argument is the status code's name."""


async def connect(address: str, method: str, timeout_s: float = 30.0) -> LightChannel:
    """A connection for calls of one method, as ``/rankstream.v1.Ranking/Rank``."""
    host, port = address.rsplit(":", 1)
    loop = asyncio.get_running_loop()
    _, channel = await loop.create_connection(
        lambda: LightChannel(address, method, timeout_s), host, int(port)
    )
    return channel


class LightChannel(asyncio.Protocol):
    """One connection, for one method's calls."""

    def __init__(self, address: str, method: str, timeout_s: float) -> None:
        self._headers = _request_headers(address, method, timeout_s)
        self._received = bytearray()
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._kept: dict[int, bytearray] = {}
        self._next = 1
        self._window = self._stream_window = _DEFAULT_WINDOW
        self._left: dict[int, int] = {}
        self._blocked: deque[tuple[int, memoryview]] = deque()
        self._max_frame = _DEFAULT_FRAME
        self._unacknowledged = 0
        self._transport: asyncio.Transport | None = None
        self._leaving = False

    @property
    def is_open(self) -> bool:
        """Whether it takes calls: it is there, and the server has not asked to leave it."""
        return self._transport is not None and not self._leaving

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greets the server."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        settings = struct.pack(
            ">HIHI", _HEADER_TABLE_SIZE, 0, _INITIAL_WINDOW_SIZE, _LARGEST_WINDOW
        )
        grown = struct.pack(">I", _LARGEST_WINDOW - _DEFAULT_WINDOW)
        greeting = _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW_UPDATE, 0, 0, grown)
        transport.write(_PREFACE + greeting)

    async def call(self, message: bytes, *, keep: bool = False) -> bytes:
        """Sends one request and waits for the end of its answer.

        Args:
            message: the serialised request.
            keep: whether the answer is wanted.

        Returns:
            The serialised answer; without ``keep``, nothing.

        Raises:
            CallFailed: the status is not OK, or the connection ended.
        """
        if self._transport is None:
            raise CallFailed(grpc.StatusCode.UNAVAILABLE.name)
        stream, self._next = self._next, self._next + 2
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._calls[stream] = answered
        if keep:
            self._kept[stream] = bytearray()
        self._left[stream] = self._stream_window
        body = struct.pack(">BI", 0, len(message)) + message
        head = _frame(_HEADERS, _END_HEADERS, stream, self._headers)
        if len(body) <= min(self._window, self._stream_window, self._max_frame):
            self._spend(stream, len(body))
            self._transport.write(head + _frame(_DATA, _END_STREAM, stream, body))
        else:
            self._transport.write(head)
            self._blocked.append((stream, memoryview(body)))
            self._unblock()
        return await answered

    def data_received(self, data: bytes) -> None:
        """Reads whole frames."""
        received = self._received
        received += data
        at = 0
        while len(received) - at >= 9:
            size = int.from_bytes(received[at : at + 3], "big")
            if len(received) - at < 9 + size:
                break
            kind, flags = received[at + 3], received[at + 4]
            stream = int.from_bytes(received[at + 5 : at + 9], "big")
            if kind == _DATA:
                self._unacknowledged += size
                if stream in self._kept:
                    self._kept[stream] += received[at + 9 : at + 9 + size]
            else:
                self._handle(kind, flags, stream, bytes(received[at + 9 : at + 9 + size]))
            at += 9 + size
        del received[:at]
        if self._unacknowledged > _REFILL:
            self._write(_WINDOW_UPDATE, 0, 0, struct.pack(">I", self._unacknowledged))
            self._unacknowledged = 0

    def connection_lost(self, exc: Exception | None) -> None:
        """Fails what has not been answered."""
        self._transport = None
        for stream in list(self._calls):
            self._finish(stream, grpc.StatusCode.UNAVAILABLE.name)

    def close(self) -> None:
        """Ends the connection."""
        if self._transport is not None:
            self._transport.close()

    def _handle(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _HEADERS and flags & _END_STREAM:
            self._finish(stream, _status_in(payload))
        elif kind == _RST_STREAM:
            self._finish(stream, grpc.StatusCode.UNAVAILABLE.name)
        elif kind == _SETTINGS and not flags & _ACK:
            self._apply(dict(struct.iter_unpack(">HI", payload)))
            self._write(_SETTINGS, _ACK, 0, b"")
        elif kind == _PING and not flags & _ACK:
            self._write(_PING, _ACK, 0, payload)
        elif kind == _GOAWAY:
            self._leave(int.from_bytes(payload[:4], "big"))
        elif kind == _WINDOW_UPDATE:
            self._grow(stream, int.from_bytes(payload, "big"))

    def _leave(self, last: int) -> None:
        """Fails the calls that the server will not answer; the others go on."""
        self._leaving = True
        for stream in [s for s in self._calls if s > last]:
            self._finish(stream, grpc.StatusCode.UNAVAILABLE.name)

    def _apply(self, settings: dict[int, int]) -> None:
        window = settings.get(_INITIAL_WINDOW_SIZE, self._stream_window)
        for stream in self._left:
            self._left[stream] += window - self._stream_window
        self._stream_window = window
        self._max_frame = min(settings.get(_MAX_FRAME_SIZE, self._max_frame), 1 << 20)
        self._unblock()

    def _grow(self, stream: int, amount: int) -> None:
        if stream == 0:
            self._window += amount
        elif stream in self._left:
            self._left[stream] += amount
        self._unblock()

    def _unblock(self) -> None:
        """Sends what the windows allow of large requests, in order."""
        while self._blocked and self._transport is not None:
            stream, body = self._blocked[0]
            if stream not in self._calls:
                self._blocked.popleft()
                continue
            size = min(len(body), self._window, self._left[stream], self._max_frame)
            if size <= 0:
                return
            last = size == len(body)
            self._spend(stream, size)
            self._write(_DATA, _END_STREAM if last else 0, stream, bytes(body[:size]))
            if last:
                self._blocked.popleft()
            else:
                self._blocked[0] = stream, body[size:]

    def _spend(self, stream: int, size: int) -> None:
        self._window -= size
        self._left[stream] -= size

    def _finish(self, stream: int, status: str) -> None:
        answered = self._calls.pop(stream, None)
        self._left.pop(stream, None)
        kept = self._kept.pop(stream, b"")
        if answered is None or answered.done():
            return
        if status == grpc.StatusCode.OK.name:
            answered.set_result(bytes(kept[_PREFIX:]))
        else:
            answered.set_exception(CallFailed(status))

    def _write(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._transport is not None:
            self._transport.write(_frame(kind, flags, stream, payload))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload) << 8 | kind) + struct.pack(">BI", flags, stream) + payload


def _request_headers(address: str, method: str, timeout_s: float) -> bytes:
    """An HPACK block of literals that are not indexed; names and values are short."""
    fields = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", address),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("grpc-timeout", f"{1000 * timeout_s:.0f}m"),
    )
    block = bytearray()
    for name, value in fields:
        block += b"\0" + bytes([len(name)]) + name.encode()
        block += bytes([len(value)]) + value.encode()
    return bytes(block)


def _status_in(trailers: bytes) -> str:
    """The name of the status code in an HPACK block of literals."""
    at = trailers.find(_STATUS)
    if at < 0:
        return grpc.StatusCode.UNKNOWN.name
    at += len(_STATUS)
    digits = trailers[at + 1 : at + 1 + trailers[at]]
    return _CODES.get(int(digits), "UNKNOWN") if digits.isdigit() else "UNKNOWN"
