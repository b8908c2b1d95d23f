"""Who may wait for the broker: bounded, in order, and nothing taken for those who went."""

import asyncio

import pytest

from rankstream.server.errors import Overloaded
from rankstream.server.stream.room import Room


async def idle():
    for _ in range(10):
        await asyncio.sleep(0)


def waiting(room, size, timeout_s=20.0):
    return asyncio.create_task(room.wait(size, timeout_s))


def test_who_cannot_wait_is_refused_where_there_is_no_room():
    room = Room(100)
    room.take(60)

    with pytest.raises(Overloaded, match="100 bytes wait for the broker already"):
        room.take(41)
    room.take(40)
    room.give_back(60)
    room.take(60)


def test_who_can_wait_leaves_most_of_the_room_to_the_others():
    async def scenario():
        room = Room(100)
        await room.wait(25, 1)
        more = waiting(room, 1)
        await idle()
        assert not more.done()
        room.take(75)
        room.give_back(75)
        room.give_back(25)
        await more

    asyncio.run(scenario())


def test_turns_are_in_order_even_where_a_later_one_would_fit():
    async def scenario():
        room = Room(100)
        room.take(20)
        large, small = waiting(room, 15), waiting(room, 1)
        await idle()
        assert not [t for t in (large, small) if t.done()]
        room.give_back(20)
        await asyncio.gather(large, small)

    asyncio.run(scenario())


def test_nobody_passes_one_that_was_let_in_just_now():
    async def scenario():
        room, came = Room(100), []

        async def come(name):
            await room.wait(10, 20)
            came.append(name)

        room.take(20)
        first = asyncio.create_task(come("first"))
        await idle()
        room.give_back(20)
        await come("second")
        await first
        return came

    assert asyncio.run(scenario()) == ["first", "second"]


def test_what_is_larger_than_the_share_goes_alone():
    async def scenario():
        room = Room(100)
        await room.wait(1000, 1)
        next_one = waiting(room, 1000)
        await idle()
        assert not next_one.done()
        room.give_back(1000)
        await next_one

    asyncio.run(scenario())


def test_one_that_waited_too_long_is_refused_and_lets_the_next_through():
    async def scenario():
        room = Room(100)
        room.take(20)
        late = waiting(room, 15, timeout_s=0.01)
        await idle()
        small = waiting(room, 5)
        with pytest.raises(Overloaded):
            await late
        await small
        room.give_back(25)
        room.take(100)

    asyncio.run(scenario())


@pytest.mark.parametrize("admitted", [False, True])
def test_one_that_went_has_taken_nothing(admitted):
    async def scenario():
        room = Room(100)
        room.take(30)
        gone = waiting(room, 10)
        await idle()
        if admitted:
            # Let in, and gone before it could run.
            room.give_back(30)
            gone.cancel()
        else:
            gone.cancel()
            await idle()
            room.give_back(30)
        with pytest.raises(asyncio.CancelledError):
            await gone
        room.take(100)

    asyncio.run(scenario())
