"""The messages of a stream, as they are sent: made when there is room for them, never before."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, TypeVar

from google.protobuf.message import Message

from rankstream.client.calls.streams import Conversation, Source
from rankstream.client.errors import invalid

V = TypeVar("V")


class Sending:
    """The messages of a stream, made on a thread of gRPC's as there is room for them.

    Attributes:
        finished: all of them were handed over.
        failure: what the source of the values raised; it ended the messages.
    """

    def __init__(self, talk: Conversation[Any]) -> None:
        if not isinstance(talk.source, Iterable):
            raise invalid(
                field="source",
                problem="is no iterable; expected one (AsyncClient takes async ones)",
            )
        self._talk = talk
        self._values = talk.source
        self._room = threading.Semaphore(talk.window) if talk.window else None
        self._in_messages = 0
        self._ended = False
        self.finished = False
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[Message]:
        try:
            yield from self._messages()
        except Exception as problem:  # noqa: BLE001 - raised again where the answers are read
            self.failure = problem

    def _messages(self) -> Iterator[Message]:
        for value in self._values:
            message = self._talk.send(value)
            if message is None:
                continue
            self._wait_for_room()
            if self._ended:
                return
            yield message
        last = self._talk.flush()
        self._wait_for_room()
        # Before the last message: its answer may come before this goes on.
        self.finished = not self._ended
        if last is not None:
            yield last

    def _wait_for_room(self) -> None:
        """Until there is some for all values that are in messages by now, or this has ended."""
        while self._room is not None and self._in_messages < self._talk.sent and not self._ended:
            self._room.acquire()
            self._in_messages += 1

    def make_room(self) -> None:
        """One value was answered."""
        if self._room is not None:
            self._room.release()

    def close(self) -> None:
        """Ends the messages."""
        self._ended = True
        self.make_room()


class AsyncSending:
    """The messages of a stream, made as there is room for them.

    Attributes:
        finished: all of them were handed over.
        failure: what the source of the values raised; it ended the messages.
    """

    def __init__(self, talk: Conversation[Any]) -> None:
        if not isinstance(talk.source, Iterable | AsyncIterable):
            raise invalid(
                field="source", problem="is no iterable; expected one, asynchronous or not"
            )
        self._talk = talk
        self._room = asyncio.Semaphore(talk.window) if talk.window else None
        self._in_messages = 0
        self.finished = False
        self.failure: Exception | None = None

    async def messages(self) -> AsyncIterator[Message]:
        """The messages; ends early where the source raises."""
        try:
            async for value in _each(self._talk.source):
                message = self._talk.send(value)
                if message is None:
                    continue
                await self._wait_for_room()
                yield message
            last = self._talk.flush()
            await self._wait_for_room()
            # Before the last message: its answer may come before this goes on.
            self.finished = True
            if last is not None:
                yield last
        except Exception as problem:  # noqa: BLE001 - raised again where the answers are read
            self.failure = problem

    async def _wait_for_room(self) -> None:
        """Until there is some for all values that are in messages by now."""
        while self._room is not None and self._in_messages < self._talk.sent:
            await self._room.acquire()
            self._in_messages += 1

    def make_room(self) -> None:
        """One value was answered."""
        if self._room is not None:
            self._room.release()


async def _each(source: Source[V]) -> AsyncIterator[V]:
    """The values of an iterable of either kind."""
    if isinstance(source, AsyncIterable):
        async for value in source:
            yield value
    else:
        for value in source:
            yield value
