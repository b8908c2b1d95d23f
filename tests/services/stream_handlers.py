"""Handlers of requests that tests open and close, and what a stream leaves behind."""

import asyncio
from contextlib import aclosing


async def idle():
    """Until nothing more happens without somebody else."""
    for _ in range(50):
        await asyncio.sleep(0)


class Handler:
    """Handles each request when told to; remembers which ran, and which were cancelled."""

    def __init__(self):
        self.gates = {}
        self.begun = []
        self.cancelled = []
        self.running = 0
        self.most = 0

    async def __call__(self, request):
        self.begun.append(request)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gates.setdefault(request, asyncio.get_running_loop().create_future())
        except asyncio.CancelledError:
            self.cancelled.append(request)
            raise
        finally:
            self.running -= 1
        return -request

    def let(self, *requests):
        for request in requests:
            self.gates[request].set_result(None)


async def negated(request):
    return -request


async def taken(stream):
    async with aclosing(stream) as outcomes:
        return [outcome async for outcome in outcomes]


async def failing(stream):
    """The outcomes, and what ended them."""
    found = []
    try:
        async for outcome in stream:
            found.append(outcome)
    except Exception as error:  # noqa: BLE001 - whatever it is
        return found, type(error), alone()
    return found, None, alone()


def alone():
    """No task but this one is left."""
    return asyncio.all_tasks() == {asyncio.current_task()}
