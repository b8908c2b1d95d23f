"""One sending process of ``load.py``: an open loop over a mix of calls.

A call is sent at its intended time, however many are under way, and its latency runs from that
time: neither a server that stalls nor a sender that is late can hide. What is counted begins behind
the warm-up. Some answers go to a file for the oracle, which reads it meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import time

import grpc
from companion import await_word, read_spec, report
from connections import Calls, StreamCalls, UnaryCalls
from entries import failed_entries
from generator import run_precisely
from histogram import Histogram
from light_channel import CallFailed
from load_calls import KINDS
from load_plan import Plan
from message_file import append_messages, read_messages
from tally import Tally

NOT_SENT = "NOT_SENT"
"""A call that was due while as many as may were under way; it counts as failed."""


class Sender:
    """Sends what the plan says, and counts."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._kinds = list(plan.mix)
        self._requests = {kind: read_messages(plan.requests_of(kind)) for kind in plan.mix}
        self._calls: dict[str, Calls] = {kind: self._calls_of(kind) for kind in plan.mix}
        self._samples = plan.samples.open("ab", buffering=0)
        self._next_sample = 0.0
        self._started = 0.0
        self.tallies = {
            kind: Tally([Histogram() for _ in range(plan.intervals)]) for kind in plan.mix
        }
        self.late = Histogram()

    async def connect(self) -> None:
        """One call of each kind, whatever comes of it."""
        for kind, calls in self._calls.items():
            try:
                await asyncio.wait_for(calls.call(self._requests[kind][0]), self._plan.timeout_s)
            except (CallFailed, TimeoutError):
                continue

    async def run(self) -> None:
        """Sends everything, then waits for the answers."""
        schedule = self._plan.schedule
        self._started = time.perf_counter()
        under_way: dict[asyncio.Task[None], tuple[str, float]] = {}
        due = zip(schedule.times_s.tolist(), schedule.kinds.tolist(), strict=True)
        for number, (offset, index) in enumerate(due):
            # Also where it is late: an answer that has come must be read.
            await asyncio.sleep(max(0.0, self._started + offset - time.perf_counter()))
            kind = self._kinds[index]
            if len(under_way) >= self._plan.max_in_flight:
                self._fail(kind, offset, NOT_SENT)
                continue
            task = asyncio.ensure_future(self._send(number, kind, offset))
            under_way[task] = kind, offset
            task.add_done_callback(under_way.pop)
        await self._wait_for(under_way)

    async def close(self) -> None:
        """Ends the connections."""
        for calls in self._calls.values():
            await calls.close()
        self._samples.close()

    def _calls_of(self, kind: str) -> Calls:
        plan, method = self._plan, KINDS[kind].method
        if KINDS[kind].streams:
            return StreamCalls(plan.target)
        return UnaryCalls(plan.target, method, plan.connections, plan.timeout_s)

    async def _send(self, number: int, kind: str, offset: float) -> None:
        requests = self._requests[kind]
        request = requests[number % len(requests)]
        sent = time.perf_counter() - self._started
        try:
            answer = await self._calls[kind].call(request)
        except CallFailed as error:
            self._fail(kind, offset, str(error))
            return
        now = time.perf_counter() - self._started
        if (interval := self._interval(kind, offset)) is not None:
            interval.record(round(1e6 * (now - offset)))
            self.late.record(round(1e6 * (sent - offset)))
            tally = self.tallies[kind]
            tally.ended_s = now - self._plan.warm_up_s
            if KINDS[kind].has_entries:
                tally.entry_errors.update(failed_entries(answer))
        if self._plan.samples_per_s and now >= self._next_sample:
            self._next_sample = now + self._plan.processes / self._plan.samples_per_s
            append_messages(self._samples, [kind.encode(), request, answer])

    def _fail(self, kind: str, offset: float, code: str) -> None:
        if (interval := self._interval(kind, offset)) is not None:
            interval.record_failure()
            self.tallies[kind].errors[code] += 1

    def _interval(self, kind: str, offset: float) -> Histogram | None:
        """Where a call that was due then counts; None: nowhere."""
        counted, plan = offset - self._plan.warm_up_s, self._plan
        if counted < 0:
            return None
        number = int(counted / plan.seconds * plan.intervals)
        return self.tallies[kind].intervals[min(number, plan.intervals - 1)]

    async def _wait_for(self, under_way: dict[asyncio.Task[None], tuple[str, float]]) -> None:
        if not under_way:
            return
        _, left = await asyncio.wait(list(under_way), timeout=self._plan.timeout_s)
        for task in left:
            kind, offset = under_way[task]
            self._fail(kind, offset, grpc.StatusCode.DEADLINE_EXCEEDED.name)
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _send_all(plan: Plan) -> None:
    sender = Sender(plan)
    await sender.connect()
    await_word()
    await sender.run()
    await sender.close()
    kinds = {kind: tally.as_json() for kind, tally in sender.tallies.items()}
    plan.result.write_text(json.dumps({"kinds": kinds, "late": sender.late.as_json()}))
    report({})


if __name__ == "__main__":
    run_precisely(_send_all(Plan(**read_spec())))
