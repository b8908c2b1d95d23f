"""How an ordered stream ends: its caller goes, a handler or the requests fail; nothing is left."""

import asyncio
import random

import pytest
from service_calls import Requests
from stream_handlers import Handler, alone, failing, idle, negated, taken

from rankstream.server.errors import InvalidArgument, NotFound
from rankstream.server.services.streams import ordered


def test_closing_cancels_what_runs_and_waits_for_it():
    async def scenario():
        handler, loop = Handler(), asyncio.get_running_loop()
        done = []

        async def slow_to_end(request):
            try:
                return await handler(request)
            finally:
                await asyncio.sleep(0.001)
                done.append(request)

        never = loop.create_future()
        stream = ordered(Requests(1, 2, 3, never), slow_to_end, most=9)
        first = asyncio.create_task(anext(stream))
        await idle()
        handler.let(1)
        await first
        await stream.aclose()
        return sorted(handler.cancelled), sorted(done), never.cancelled(), alone()

    assert asyncio.run(scenario()) == ([2, 3], [1, 2, 3], True, True)


@pytest.mark.parametrize("when", range(0, 40, 3))
def test_a_caller_that_goes_at_any_moment_leaves_nothing(when):
    draw = random.Random(when)

    async def at_random(request):
        for _ in range(draw.randrange(3)):
            await asyncio.sleep(0)
        return request

    async def scenario():
        call = asyncio.create_task(taken(ordered(Requests(*range(10_000)), at_random, most=4)))
        for _ in range(when):
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        return alone()

    assert asyncio.run(scenario())


def test_nothing_is_read_after_closing():
    async def scenario():
        handler, requests = Handler(), Requests(*range(100))
        stream = ordered(requests, handler, most=3)
        first = asyncio.create_task(anext(stream))
        await idle()
        first.cancel()
        await idle()
        read = requests.read
        await stream.aclose()
        await idle()
        return read, requests.read, alone()

    assert asyncio.run(scenario()) == (3, 3, True)


@pytest.mark.parametrize("waits", [True, False])
def test_a_failure_ends_the_stream_behind_what_was_before_it(waits):
    async def fails_at_three(request):
        if waits:
            await asyncio.sleep(0)
        if request == 3:
            msg = "three"
            raise NotFound(msg)
        return -request

    found = asyncio.run(failing(ordered(Requests(*range(10)), fails_at_three, most=8)))

    assert found == ([0, -1, -2], NotFound, True)


def test_a_failure_of_the_requests_comes_in_its_place():
    requests = Requests(1, 2, ConnectionError("gone"), 4)

    found = asyncio.run(failing(ordered(requests, negated, most=8, refuse=str)))

    assert found == ([-1, -2], ConnectionError, True)


def test_a_request_that_fails_or_cannot_be_read_has_an_outcome_of_its_own():
    async def fails_at_three(request):
        if request == 3:
            raise ZeroDivisionError
        return request

    requests = Requests(1, InvalidArgument("request", "odd"), 2, 3, 4)
    stream = ordered(requests, fails_at_three, most=2, refuse=lambda e: type(e).__name__)

    found = asyncio.run(taken(stream))

    assert found == [1, "InvalidArgument", 2, "ZeroDivisionError", 4]


def test_a_request_that_cannot_be_read_ends_a_stream_that_refuses_none():
    requests = Requests(1, InvalidArgument("request", "odd"), 2)

    found = asyncio.run(failing(ordered(requests, negated, most=2)))

    assert found == ([-1], InvalidArgument, True)


def test_a_handler_that_is_cancelled_from_elsewhere_does_not_hang_the_stream():
    async def scenario():
        elsewhere = asyncio.get_running_loop().create_future()

        async def waits(request):
            await elsewhere

        call = asyncio.create_task(taken(ordered(Requests(1, 2), waits, most=2, refuse=str)))
        await idle()
        elsewhere.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        return alone()

    assert asyncio.run(scenario())
