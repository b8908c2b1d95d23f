"""What a worker remembers of its writes: the newest of each item, bounded; turns in order."""

import asyncio

import pytest

from rankstream.server.errors import DeadlineExceeded
from rankstream.server.services.own_writes import OwnWrites
from rankstream.server.types import Position

FAR = float("inf")
TOPIC, OTHER = b"topic-id-of-16-b", b"another-id-16-b."


def at(offset, topic=TOPIC):
    return Position("items", topic, 0, offset)


def test_the_newest_write_of_an_item_is_known():
    own = OwnWrites()
    own.add("a", at(3))
    own.add("b", at(4))
    own.add("a", at(9))
    own.add("a", at(5))

    assert own.newest("a", TOPIC) == (at(9),)
    assert own.newest("b", TOPIC) == (at(4),)
    assert own.newest("never", TOPIC) == ()


def test_a_write_to_a_topic_that_is_no_more_is_forgotten():
    own = OwnWrites()
    own.add("a", at(9, OTHER))

    assert own.newest("a", TOPIC) == ()
    own.add("a", at(1))
    assert own.newest("a", TOPIC) == (at(1),)


def test_the_item_written_longest_ago_is_forgotten_first():
    own = OwnWrites(most=2)
    for offset, name in enumerate(["a", "b", "a", "c"]):
        own.add(name, at(offset))

    known = {name: bool(own.newest(name, TOPIC)) for name in "abc"}
    assert known == {"a": True, "b": False, "c": True}


def test_turns_are_one_at_a_time_in_order_and_leave_nothing():
    async def scenario():
        own, log = OwnWrites(), []

        async def patch(item_id, number):
            async with own.turn(item_id, FAR):
                log.append((item_id, number, "begins"))
                await asyncio.sleep(0)
                log.append((item_id, number, "ends"))

        await asyncio.gather(*(patch("a", n) for n in range(5)), patch("b", 0))
        return log, own

    log, own = asyncio.run(scenario())
    of_a = [entry for entry in log if entry[0] == "a"]
    assert of_a == [("a", n, what) for n in range(5) for what in ("begins", "ends")]
    assert log.index(("b", 0, "begins")) < log.index(("a", 0, "ends"))
    assert own._turns == {}


def test_one_that_goes_while_waiting_or_fails_gives_its_turn_on():
    async def scenario():
        own = OwnWrites()

        async def patch():
            async with own.turn("a", FAR):
                await asyncio.sleep(0)
                raise ZeroDivisionError

        first, second, third = (asyncio.create_task(patch()) for _ in range(3))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(ZeroDivisionError):
            await first
        with pytest.raises(ZeroDivisionError):
            await third
        return own

    assert asyncio.run(scenario())._turns == {}


def test_a_turn_that_does_not_come_in_time_is_given_up():
    async def scenario():
        own = OwnWrites()
        async with own.turn("a", FAR):
            with pytest.raises(DeadlineExceeded):
                async with own.turn("a", 0.0):
                    raise AssertionError
        async with own.turn("a", FAR):
            return own

    assert asyncio.run(scenario())._turns == {}
