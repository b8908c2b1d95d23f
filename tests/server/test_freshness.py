"""The freshness contract: who waits is woken by the bell, told what is wrong, or sent away."""

import asyncio
import os
import time

import pytest

from rankstream.server.announce import Announcements
from rankstream.server.errors import NotOwned, Overloaded, StaleState, Unavailable
from rankstream.server.freshness import Freshness
from rankstream.server.store import Store
from rankstream.server.types import Position, ReadAfter

EVENTS, ITEMS, GONE = b"events-topic-id.", b"items-topic-id..", b"an older topic.."


class State:
    """A store, its page, and the bell between them."""

    def __init__(self, folder):
        self.store = Store(folder / "state", map_size_gib=1, write=True)
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        os.set_blocking(self.write_end, False)
        self.page = Announcements(folder / "announce", write=True, bells=(self.write_end,))
        self.reach(Position("events", EVENTS, 0, 5), Position("events", EVENTS, 1, 0))

    def reach(self, *positions, replace=False):
        with self.store.write() as txn:
            (txn.replace_positions if replace else txn.advance)(positions)
        self.page.ring()

    def close(self):
        self.store.close()
        os.close(self.read_end)
        os.close(self.write_end)


@pytest.fixture
def state(tmp_path):
    made = State(tmp_path)
    yield made
    made.close()


def after(*positions, wait_s=60.0, allow_stale=False):
    return ReadAfter(positions, wait_s, allow_stale)


def event(partition, offset, topic_id=EVENTS):
    return Position("events", topic_id, partition, offset)


def later():
    return time.monotonic() + 60.0


def run(state, scenario, **settings):
    async def listening():
        freshness = Freshness(state.store, state.read_end, 60.0, **settings)
        freshness.listen(asyncio.get_running_loop())
        try:
            return await scenario(freshness)
        finally:
            asyncio.get_running_loop().remove_reader(state.read_end)

    return asyncio.run(listening())


async def waiting(call):
    task = asyncio.ensure_future(call)
    await asyncio.sleep(0)
    assert not task.done()
    return task


def test_what_is_there_needs_no_wait(state):
    async def scenario(freshness):
        assert await freshness.wait(after(), later()) is False
        assert await freshness.wait(after(event(0, 5), event(1, 0)), later()) is False

    run(state, scenario)


def test_a_wait_ends_with_the_commit_that_reaches_it(state):
    async def scenario(freshness):
        both = await waiting(freshness.wait(after(event(0, 6), event(1, 3)), later()))
        one = await waiting(freshness.wait(after(event(0, 6)), later()))
        state.reach(event(0, 6))
        assert await one is False
        assert not both.done()
        state.reach(event(1, 3))
        assert await both is False

    run(state, scenario)


def test_a_wait_that_ends_first_is_refused_or_stale(state):
    async def scenario(freshness):
        with pytest.raises(StaleState, match="not reached within 1 ms"):
            await freshness.wait(after(event(0, 6), wait_s=0.001), later())
        assert await freshness.wait(after(event(0, 6), wait_s=0.001, allow_stale=True), later())
        assert await freshness.wait(after(event(0, 6), wait_s=0.0, allow_stale=True), later())

    run(state, scenario)


def test_the_calls_own_deadline_ends_the_wait_too(state):
    async def scenario(freshness):
        with pytest.raises(StaleState):
            await freshness.wait(after(event(0, 6)), time.monotonic() + 0.001)
        with pytest.raises(StaleState):
            await freshness.wait(after(event(0, 6)), time.monotonic() - 1)

    run(state, scenario)


def test_the_default_wait_is_used_where_none_is_given(state):
    async def scenario():
        freshness = Freshness(state.store, state.read_end, 0.001)
        with pytest.raises(StaleState, match="within 1 ms"):
            await freshness.wait(after(event(0, 6), wait_s=None), later())

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "foreign", [event(7, 1), event(0, 1, GONE), Position("items", ITEMS, 0, 1)]
)
def test_a_token_of_what_is_not_folded_here_is_refused_at_once(state, foreign):
    async def scenario(freshness):
        with pytest.raises(NotOwned, match="which this replica does not fold"):
            await freshness.wait(after(foreign), later())
        with pytest.raises(NotOwned):
            await freshness.wait(after(event(0, 99), foreign), later())

    run(state, scenario)


def test_a_topic_that_becomes_another_one_fails_its_waiters_alone(state):
    async def scenario(freshness):
        old = await waiting(freshness.wait(after(event(0, 6)), later()))
        item = Position("items", ITEMS, 0, 1)
        state.reach(item)
        kept = await waiting(freshness.wait(after(Position("items", ITEMS, 0, 2)), later()))
        state.reach(event(0, 0, GONE), Position("items", ITEMS, 0, 2), replace=True)
        assert await kept is False
        with pytest.raises(NotOwned):
            await old

    run(state, scenario)


def test_waiters_are_bounded_and_leave_when_cancelled(state):
    async def scenario(freshness):
        tasks = [await waiting(freshness.wait(after(event(0, 6)), later())) for _ in range(2)]
        with pytest.raises(Overloaded) as full:
            await freshness.wait(after(event(0, 6)), later())
        assert full.value.retry_after_s > 0
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        third = await waiting(freshness.wait(after(event(0, 6)), later()))
        state.reach(event(0, 6))
        assert await asyncio.gather(tasks[1], third) == [False, False]

    run(state, scenario, max_waiters=2)


def test_a_topics_id_is_known_once_ingest_has_seen_it(state):
    async def scenario(freshness):
        assert freshness.topic_id("events") == EVENTS
        with pytest.raises(Unavailable, match="the items topic is not known yet"):
            freshness.topic_id("items")
        state.reach(Position("items", ITEMS, 0, 0))
        assert freshness.topic_id("items") == ITEMS

    run(state, scenario)
