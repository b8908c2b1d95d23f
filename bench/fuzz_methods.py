"""Every RPC as bytes in and bytes out: one or a stream of messages, one or a stream of answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import grpc
from fuzz_drafts import draft_messages
from fuzz_seeds import CALLS
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from rankstream.proto.v1 import (
    admin_pb2,
    catalog_pb2,
    encoder_pb2,
    events_pb2,
    profiles_pb2,
    ranking_pb2,
)

_FILES = (admin_pb2, catalog_pb2, encoder_pb2, events_pb2, profiles_pb2, ranking_pb2)


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC.

    Attributes:
        name: as ``Ranking/Rank``.
        path: as gRPC names it.
        streams_in: it takes several messages.
        streams_out: it gives several answers.
        draft: draws one message's bytes.
        answer: the class of its answers.
    """

    name: str
    path: str
    streams_in: bool
    streams_out: bool
    draft: Callable[[Random], bytes]
    answer: type[Message]

    async def call(
        self, channel: grpc.aio.Channel, messages: Sequence[bytes], timeout_s: float, most: int
    ) -> list[bytes]:
        """Sends the messages and reads all answers, or ``most`` of them and then cancels.

        Raises:
            grpc.aio.AioRpcError: the call's status is not OK.
        """
        if not self.streams_out:
            made: Any = channel.stream_unary if self.streams_in else channel.unary_unary
            sent = _each(messages) if self.streams_in else messages[0]
            return [await made(self.path)(sent, timeout=timeout_s)]
        made = channel.stream_stream if self.streams_in else channel.unary_stream
        call = made(self.path)(
            _each(messages) if self.streams_in else messages[0], timeout=timeout_s
        )
        answers: list[bytes] = []
        async for answer in call:
            answers.append(answer)
            if len(answers) >= most:
                call.cancel()
                break
        return answers

    def call_blocking(
        self, address: str, messages: Sequence[bytes], timeout_s: float
    ) -> tuple[grpc.StatusCode, str]:
        """Sends the messages of a stream over a connection of its own; how the call ended."""
        with grpc.insecure_channel(address) as channel:
            made: Any = channel.stream_stream(self.path)
            call = made(iter(messages), timeout=timeout_s)
            try:
                for _ in call:
                    continue
            except grpc.RpcError:
                # Its code and details say why.
                return call.code(), call.details() or ""
        return grpc.StatusCode.OK, ""


async def _each(messages: Sequence[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


def _method(found: MethodDescriptor) -> Method:
    service = found.containing_service
    name = f"{service.name}/{found.name}"
    return Method(
        name=name,
        path=f"/{service.full_name}/{found.name}",
        streams_in=found.client_streaming,
        streams_out=found.server_streaming,
        draft=draft_messages(CALLS[name]),
        answer=GetMessageClass(found.output_type),
    )


METHODS = tuple(
    _method(method)
    for file in _FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
)
"""Every RPC that the protos declare; one without seeds is a KeyError."""
