"""Ordered streams without a server: order, bounds, and what is ready together."""

import asyncio
import random

import pytest
from service_calls import Call, Requests
from stream_handlers import Handler, alone, failing, idle, negated, taken

from rankstream.server.errors import NotFound
from rankstream.server.services.streams import Joint, message_deadline, ordered


@pytest.mark.parametrize("most", [1, 2, 7, 1000])
def test_outcomes_come_in_the_order_of_the_requests(most):
    draw = random.Random(most)

    async def at_random(request):
        for _ in range(draw.randrange(4)):
            await asyncio.sleep(0)
        return -request

    async def scenario():
        found = await taken(ordered(Requests(*range(500)), at_random, most=most))
        return found, alone()

    assert asyncio.run(scenario()) == ([-n for n in range(500)], True)


def test_no_requests_are_no_outcomes():
    assert asyncio.run(taken(ordered(Requests(), negated, most=3))) == []


@pytest.mark.parametrize("most", [1, 4])
def test_no_more_than_the_bound_run_at_once(most):
    async def scenario():
        handler, requests = Handler(), Requests(*range(20))
        all_of_them = asyncio.create_task(taken(ordered(requests, handler, most=most)))
        for n in range(20):
            await idle()
            assert requests.read <= n + most
            # The last of those that run: the others wait for the ones before them.
            while n not in handler.gates:
                await idle()
            handler.let(n)
        return await all_of_them, handler.most

    assert asyncio.run(scenario()) == ([-n for n in range(20)], most)


def test_handlers_run_side_by_side_and_begin_in_order():
    async def scenario():
        handler = Handler()
        all_of_them = asyncio.create_task(taken(ordered(Requests(1, 2, 3), handler, most=3)))
        await idle()
        assert handler.begun == [1, 2, 3]
        handler.let(3, 1)
        await idle()
        assert not all_of_them.done()
        handler.let(2)
        return await all_of_them

    assert asyncio.run(scenario()) == [-1, -2, -3]


def test_an_outcome_comes_though_the_next_request_does_not():
    async def scenario():
        never = asyncio.get_running_loop().create_future()
        handler = Handler()
        stream = ordered(Requests(1, never), handler, most=8)
        first = asyncio.create_task(anext(stream))
        await idle()
        handler.let(1)
        found = await first
        await stream.aclose()
        return found, never.cancelled(), alone()

    assert asyncio.run(scenario()) == (-1, True, True)


@pytest.mark.parametrize("waits", [True, False])
def test_a_slow_reader_holds_the_requests_back(waits):
    async def quick(request):
        if waits:
            await asyncio.sleep(0)
        return -request

    async def scenario():
        requests = Requests(*range(100))
        stream = ordered(requests, quick, most=5)
        read = []
        for _ in range(10):
            await anext(stream)
            await idle()
            read.append(requests.read)
        await stream.aclose()
        return read

    # The outcome that was taken is held until the next is asked for.
    assert asyncio.run(scenario()) == list(range(5, 15))


def test_a_heavy_request_counts_for_what_it_weighs():
    async def scenario():
        handler, requests = Handler(), Requests(1, 4, 0, 2, 9, 1)
        stream = ordered(requests, handler, most=6, weigh=lambda request: request)
        outcomes = asyncio.create_task(taken(stream))
        await idle()
        # 1 + 4 are below the bound, and nothing weighs 0.
        assert handler.begun == [1, 4, 0]
        handler.let(1)
        await idle()
        assert handler.begun == [1, 4, 0, 2]
        handler.let(4, 0, 2)
        await idle()
        assert handler.begun == [1, 4, 0, 2, 9]
        handler.gates[1] = asyncio.get_running_loop().create_future()
        handler.let(9)
        await idle()
        handler.let(1)
        return await outcomes

    assert asyncio.run(scenario()) == [-1, -4, 0, -2, -9, -1]


def test_what_does_not_wait_costs_no_task():
    tasks = set()

    async def counted(request):
        tasks.add(asyncio.current_task())
        return request

    async def scenario():
        stream = ordered(Requests(*range(1000)), counted, most=10_000)
        return len(await taken(stream))

    assert asyncio.run(scenario()) == 1000
    assert len(tasks) == 1


def test_a_timeout_in_a_handler_is_of_its_own_task():
    async def timed(request):
        try:
            async with asyncio.timeout(0 if request % 2 else 60):
                await asyncio.sleep(0.001)
        except TimeoutError:
            return "late"
        return "in time"

    found = asyncio.run(taken(ordered(Requests(*range(20)), timed, most=6)))

    assert found == ["in time", "late"] * 10


@pytest.mark.parametrize(("left", "expected"), [(None, 10), (3, 3), (3600, 10), (-1, -1)])
def test_a_message_has_the_default_timeout_and_its_stream_its_own(left, expected, monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 100.0)

    assert message_deadline(Call(left), 10.0) == 100 + expected


LISTS = Joint(lambda some: [x for one in some for x in one], len, 5)


def test_what_is_ready_comes_as_one_until_it_is_too_much():
    """Five may go together; a longer one comes alone; nothing passes one that is not done."""
    handler = Handler()

    async def listed(request):
        return [await handler(request)] * request

    async def scenario():
        stream = ordered(Requests(1, 2, 3, 9, 1.5, 4), listed_or_not, most=99, joint=LISTS)
        first = asyncio.ensure_future(stream.__anext__())
        await idle()
        handler.let(2, 3, 9, 4)
        await idle()
        handler.let(1)
        found = [await first]
        await idle()
        found += [await stream.__anext__() for _ in range(2)]
        waiting = asyncio.ensure_future(stream.__anext__())
        await idle()
        assert not waiting.done()
        handler.let(1.5)
        found.append(await waiting)
        return found + [outcome async for outcome in stream]

    async def listed_or_not(request):
        return await listed(request) if isinstance(request, int) else [await handler(request)]

    assert asyncio.run(scenario()) == [
        [-1, -2, -2],
        [-3, -3, -3],
        [-9] * 9,
        [-1.5, -4, -4, -4, -4],
    ]


def test_a_failure_comes_behind_what_was_ready_before_it():
    async def fails_at_three(request):
        if request == 3:
            msg = "three"
            raise NotFound(msg)
        return [-request]

    stream = ordered(Requests(1, 2, 3, 4), fails_at_three, most=9, joint=LISTS)
    found, kind, all_ended = asyncio.run(failing(stream))

    assert ([x for one in found for x in one], kind, all_ended) == ([-1, -2], NotFound, True)
