"""Messages of a stream in batches: as many as came while nobody asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TypeVar

from rankstream.server.errors import RankstreamError

Message = TypeVar("Message")


async def gathered(
    messages: AsyncIterator[Message], most: int, weigh: Callable[[Message], int]
) -> AsyncGenerator[list[Message | RankstreamError], None]:
    """Yields what has come since it was last asked, at least one message; waits for nothing else.

    So an idle stream's message is passed on at once, and a busy stream's go many at a time.

    Args:
        messages: a ``RankstreamError`` that it raises stands for one message.
        most: how much is held, in the unit of ``weigh``, before no more is read.
        weigh: how much a message counts; an error counts 1.
    """
    waiting: list[Message | RankstreamError] = []
    held = 0
    come, taken = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        nonlocal held
        try:
            while True:
                try:
                    message = await anext(messages)
                except RankstreamError as error:
                    waiting.append(error)
                    held += 1
                except StopAsyncIteration:
                    return
                else:
                    waiting.append(message)
                    held += weigh(message)
                come.set()
                while held >= most:
                    taken.clear()
                    await taken.wait()
        finally:
            come.set()

    reader = asyncio.create_task(read())
    try:
        while waiting or not reader.done():
            await come.wait()
            come.clear()
            if waiting:
                batch, waiting, held = waiting, [], 0
                taken.set()
                yield batch
        await reader
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
