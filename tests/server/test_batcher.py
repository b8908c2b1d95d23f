"""Batches form while the engine is busy; what nobody waits for is never computed."""

import asyncio
import threading
import time

import pytest

from rankstream.server.batcher import Batcher
from rankstream.server.errors import DeadlineExceeded, NotFound, Overloaded, Unavailable

FOREVER = 60.0


class Engine:
    """Computes when the gate is open, and remembers what."""

    def __init__(self, fail=None):
        self.batches = []
        self.queue_us = []
        self.started = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.fail = fail

    def compute(self, batch):
        self.batches.append(batch.tasks)
        self.queue_us += batch.queue_us
        self.started.release()
        assert self.gate.acquire(timeout=FOREVER)
        if self.fail is not None:
            raise self.fail
        return [NotFound(t) if t.startswith("no") else t.upper() for t in batch.tasks]

    def open(self, batches=100):
        self.gate.release(batches)


def later():
    return time.monotonic() + FOREVER


def batcher_of(engine, max_batch=8, max_queued=8):
    return Batcher(engine.compute, max_batch=max_batch, max_queued=max_queued, name="engine")


async def busy(batcher, engine):
    """A task in the engine, and the engine waiting at its gate."""
    first = asyncio.ensure_future(batcher.submit("busy", later()))
    await asyncio.get_running_loop().run_in_executor(None, engine.started.acquire)
    return first


async def queued(call):
    """``call`` as a task that has run up to its first wait: it stands in its lane."""
    task = asyncio.ensure_future(call)
    await asyncio.sleep(0)
    return task


def test_what_arrives_while_the_engine_is_busy_is_one_batch_in_order():
    async def scenario():
        engine = Engine()
        batcher = batcher_of(engine, max_batch=3)
        first = await busy(batcher, engine)
        tasks = [await queued(batcher.submit(f"t{i}", later())) for i in range(5)]
        engine.open()
        assert await first == "BUSY"
        assert [await t for t in tasks] == ["T0", "T1", "T2", "T3", "T4"]
        batcher.close()
        return engine

    engine = asyncio.run(scenario())

    assert engine.batches == [["busy"], ["t0", "t1", "t2"], ["t3", "t4"]]
    assert all(waited >= 0 for waited in engine.queue_us)


def test_an_idle_engine_starts_at_once():
    async def scenario():
        engine = Engine()
        engine.open()
        batcher = batcher_of(engine)
        assert await batcher.submit("one", later()) == "ONE"
        assert await batcher.submit("two", later()) == "TWO"
        batcher.close()
        return engine.batches

    assert asyncio.run(scenario()) == [["one"], ["two"]]


def test_a_quick_task_is_computed_by_its_caller_while_the_engine_is_idle():
    threads = []

    def compute(batch):
        threads.append(threading.current_thread() is threading.main_thread())
        return [NotFound(t) if t.startswith("no") else t.upper() for t in batch.tasks]

    async def scenario():
        batcher = Batcher(
            compute, max_batch=8, max_queued=8, name="engine", is_quick=lambda task: "!" in task
        )
        assert await batcher.submit("quick!", later()) == "QUICK!"
        assert await batcher.submit("later", later()) == "LATER"
        with pytest.raises(NotFound):
            await batcher.submit("no!", later())
        assert await batcher.submit_many(["many!", "no"], later()) != []
        with pytest.raises(DeadlineExceeded):
            await batcher.submit("late!", time.monotonic() - 1.0)
        batcher.close()
        with pytest.raises(Unavailable):
            await batcher.submit("closed!", later())

    asyncio.run(scenario())

    assert threads == [True, False, True, False]


def test_a_quick_task_waits_for_an_engine_that_is_busy():
    async def scenario():
        engine = Engine()
        batcher = Batcher(
            engine.compute, max_batch=8, max_queued=8, name="engine", is_quick=lambda t: "!" in t
        )
        first = await busy(batcher, engine)
        quick = await queued(batcher.submit("quick!", later()))
        engine.open()
        assert await first == "BUSY"
        assert await quick == "QUICK!"
        batcher.close()
        return engine.batches

    assert asyncio.run(scenario()) == [["busy"], ["quick!"]]


def test_lanes_take_turns():
    async def scenario():
        engine = Engine()
        batcher = batcher_of(engine, max_batch=2)
        first = await busy(batcher, engine)
        singles = [await queued(batcher.submit(f"s{i}", later())) for i in range(4)]
        many = await queued(batcher.submit_many(["b0", "b1", "b2"], later()))
        engine.open()
        await asyncio.gather(first, *singles)
        assert await many == ["B0", "B1", "B2"]
        batcher.close()
        return engine.batches

    assert asyncio.run(scenario()) == [["busy"], ["b0", "b1"], ["s0", "s1"], ["b2"], ["s2", "s3"]]


def test_one_entry_that_fails_fails_no_other():
    async def scenario():
        engine = Engine()
        engine.open()
        batcher = batcher_of(engine)
        one, two, three = await batcher.submit_many(["a", "no", "c"], later())
        assert (one, three) == ("A", "C")
        assert isinstance(two, NotFound)
        with pytest.raises(NotFound):
            await batcher.submit("no", later())
        assert await batcher.submit_many([], later()) == []
        batcher.close()

    asyncio.run(scenario())


def test_an_exception_of_the_engine_reaches_every_waiter_and_the_next_batch_runs():
    async def scenario():
        engine = Engine(fail=RuntimeError("broken"))
        batcher = batcher_of(engine)
        first = await busy(batcher, engine)
        many = await queued(batcher.submit_many(["a", "b"], later()))
        engine.open(2)
        with pytest.raises(RuntimeError, match="broken"):
            await first
        assert [str(e) for e in await many] == ["broken", "broken"]
        engine.fail = None
        engine.open()
        assert await batcher.submit("c", later()) == "C"
        batcher.close()

    asyncio.run(scenario())


def test_a_full_lane_refuses_and_says_when_to_come_again():
    async def scenario():
        engine = Engine()
        batcher = batcher_of(engine, max_queued=3)
        first = await busy(batcher, engine)
        waiting = [await queued(batcher.submit(f"t{i}", later())) for i in range(3)]
        with pytest.raises(
            Overloaded, match="3 entries wait for the engine, its limit is 3"
        ) as full:
            await batcher.submit("more", later())
        assert full.value.retry_after_s > 0
        # The other lane has room of its own, for all of a request or for none of it.
        with pytest.raises(Overloaded):
            await batcher.submit_many(["a", "b", "c", "d"], later())
        many = await queued(batcher.submit_many(["a", "b", "c"], later()))
        engine.open()
        await asyncio.gather(first, *waiting, many)
        assert await batcher.submit("again", later()) == "AGAIN"
        batcher.close()
        return sorted(task for batch in engine.batches for task in batch)

    assert asyncio.run(scenario()) == sorted(["busy", "t0", "t1", "t2", "a", "b", "c", "again"])


def test_a_task_whose_caller_has_gone_is_never_computed():
    async def scenario():
        engine = Engine()
        batcher = batcher_of(engine)
        first = await busy(batcher, engine)
        gone = await queued(batcher.submit("gone", later()))
        gone_too = await queued(batcher.submit_many(["x", "y"], later()))
        stays = await queued(batcher.submit("stays", later()))
        gone.cancel()
        gone_too.cancel()
        await asyncio.wait([gone, gone_too])
        engine.open()
        assert await stays == "STAYS"
        await first
        batcher.close()
        return engine.batches

    assert asyncio.run(scenario()) == [["busy"], ["stays"]]


def test_a_caller_that_goes_while_its_task_is_computed_harms_nobody():
    async def scenario():
        engine = Engine()
        batcher = batcher_of(engine)
        first = await busy(batcher, engine)
        first.cancel()
        stays = await queued(batcher.submit("stays", later()))
        engine.open()
        assert await stays == "STAYS"
        assert first.cancelled()
        batcher.close()

    asyncio.run(scenario())


def test_a_task_past_its_deadline_is_never_computed():
    async def scenario():
        engine = Engine()
        engine.open()
        batcher = batcher_of(engine)
        with pytest.raises(DeadlineExceeded):
            await batcher.submit("late", time.monotonic() - 1)
        assert await batcher.submit("next", later()) == "NEXT"
        batcher.close()
        return engine.batches

    assert asyncio.run(scenario()) == [["next"]]


def test_a_deadline_that_passes_in_the_queue_answers_and_is_not_computed():
    async def scenario():
        engine = Engine()
        batcher = batcher_of(engine)
        first = await busy(batcher, engine)
        with pytest.raises(DeadlineExceeded):
            await batcher.submit("late", time.monotonic() + 0.01)
        (late,) = await batcher.submit_many(["late too"], time.monotonic() + 0.01)
        assert isinstance(late, DeadlineExceeded)
        engine.open()
        await first
        assert await batcher.submit("next", later()) == "NEXT"
        batcher.close()
        return engine.batches

    assert asyncio.run(scenario()) == [["busy"], ["next"]]


def test_closing_answers_everybody():
    async def scenario():
        engine = Engine()
        batcher = batcher_of(engine)
        first = await busy(batcher, engine)
        single = await queued(batcher.submit("single", later()))
        many = await queued(batcher.submit_many(["a", "b"], later()))
        engine.open()
        batcher.close()
        assert await first == "BUSY"
        with pytest.raises(Unavailable, match="draining"):
            await single
        assert [type(e) for e in await many] == [Unavailable, Unavailable]
        with pytest.raises(Unavailable, match="draining"):
            await batcher.submit("more", later())
        return engine.batches

    assert asyncio.run(scenario()) == [["busy"]]
