"""Messages in batches: none waits for another, none is lost, and few are held."""

import asyncio
from contextlib import aclosing

import pytest

from rankstream.server.errors import InvalidArgument
from rankstream.server.services.gathered import gathered


class Messages:
    """A stream that hands out what it is given, and counts what was read."""

    def __init__(self, *given):
        self.given = list(given)
        self.read = 0
        self.more = asyncio.Event()

    def __aiter__(self):
        return self

    async def __anext__(self):
        while not self.given:
            self.more.clear()
            await self.more.wait()
        self.read += 1
        found = self.given.pop(0)
        if isinstance(found, BaseException):
            raise found
        await asyncio.sleep(0)
        return found

    def put(self, *more):
        self.given += more
        self.more.set()


async def settled():
    """Lets every task run until it waits."""
    for _ in range(50):
        await asyncio.sleep(0)


async def collect(batches, found):
    async for batch in batches:
        found += batch


def weigh(message):
    return message


def test_what_came_meanwhile_comes_at_once():
    async def run():
        messages, found = Messages(1), []
        async with aclosing(gathered(messages, 100, weigh)) as batches:
            found.append(await anext(batches))
            messages.put(2, 3, 4)
            await settled()
            found.append(await anext(batches))
            messages.put(5, StopAsyncIteration())
            found += [batch async for batch in batches]
        return found

    assert asyncio.run(run()) == [[1], [2, 3, 4], [5]]


def test_no_more_is_read_than_may_be_held():
    async def run():
        messages = Messages(*[4] * 10, StopAsyncIteration())
        async with aclosing(gathered(messages, 10, weigh)) as batches:
            first = await anext(batches)
            await settled()
            read = messages.read - len(first)
            rest = [len(batch) async for batch in batches]
        return read, len(first) + sum(rest), max(rest)

    assert asyncio.run(run()) == (3, 10, 3)


def test_a_message_that_cannot_be_read_is_one_of_them():
    bad = InvalidArgument("request", "not this method's message")

    async def run():
        messages = Messages(1, bad, 2, StopAsyncIteration())
        async with aclosing(gathered(messages, 10, weigh)) as batches:
            return [message async for batch in batches for message in batch]

    assert asyncio.run(run()) == [1, bad, 2]


def test_a_stream_that_breaks_is_told_behind_what_came():
    async def run():
        found = []
        messages = Messages(1, 2, OSError("gone"))
        async with aclosing(gathered(messages, 10, weigh)) as batches:
            with pytest.raises(OSError, match="gone"):
                await collect(batches, found)
        return found

    assert asyncio.run(run()) == [1, 2]


def test_closing_it_ends_the_reading():
    async def run():
        messages = Messages(1)
        async with aclosing(gathered(messages, 10, weigh)) as batches:
            await anext(batches)
        messages.put(2)
        await settled()
        return messages.read, len(asyncio.all_tasks())

    assert asyncio.run(run()) == (1, 1)
