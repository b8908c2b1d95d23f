"""A load generator in its own process: gRPC calls at intended times, or some in flight.

Open loop: the times of sending are drawn before the run (Poisson, or evenly spaced) and do not wait
for answers; a latency runs from the *intended* time, so a server that stalls cannot hide it. Closed
loop: ``in_flight`` calls are always under way; it gives throughput. Requests are serialised before
the run and answers are not parsed. A call that fails counts by its code, and as infinite latency.

The loop's selector is ``select``, because its timers are exact to a microsecond where epoll's are
rounded to a millisecond.
"""

from __future__ import annotations

import asyncio
import gc
import selectors
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from companion import Companion, await_word, begin_together, read_spec, report
from light_channel import CallFailed, LightChannel, connect
from message_file import read_messages, write_messages
from numpy.typing import NDArray
from schedule import send_times

_WARM_UP = 20


@dataclass(frozen=True, slots=True)
class Load:
    """What to send.

    Attributes:
        address: host:port.
        method: the full name, as ``/rankstream.v1.Ranking/Rank``.
        seconds: how long.
        rate: calls a second, open loop; 0: closed loop.
        in_flight: calls under way, closed loop.
        poisson: whether open-loop times are random; else evenly spaced.
        channels: connections, used in turn.
        seed: of the random times.
    """

    address: str
    method: str
    seconds: float
    rate: float = 0.0
    in_flight: int = 0
    poisson: bool = True
    channels: int = 2
    seed: int = 0

    def start(self, requests: Sequence[bytes]) -> RunningLoad:
        """Starts the generator's process; it takes the requests in turn."""
        folder = tempfile.TemporaryDirectory(prefix="rankstream-load-")
        write_messages(Path(folder.name) / "requests", requests)
        return RunningLoad(
            folder, Companion.start("generator.py", asdict(self) | {"at": folder.name})
        )

    def run(self, requests: Sequence[bytes]) -> LoadResult:
        """Starts it, begins at once and waits."""
        running = self.start(requests)
        begin_together(running)
        return running.result()


@dataclass(frozen=True, slots=True, eq=False)
class LoadResult:
    """What came of it.

    Attributes:
        latencies_ms: ``float64 [calls]``, inf where a call failed.
        errors: failures by status code.
        seconds: from the word until the last answer.
        late_p99_ms: how late the generator itself sent, at p99; it is part of the latencies.
    """

    latencies_ms: NDArray[np.float64]
    errors: dict[str, int]
    seconds: float
    late_p99_ms: float

    @property
    def calls_per_s(self) -> float:
        """Calls that were answered well, a second."""
        return (len(self.latencies_ms) - sum(self.errors.values())) / self.seconds

    def percentile_ms(self, percent: float) -> float:
        """A percentile of the latencies, never interpolated downwards."""
        return percentile(self.latencies_ms, percent)

    def summary(self) -> dict[str, Any]:
        """For the report."""
        return {
            "calls": len(self.latencies_ms),
            "calls_per_s": self.calls_per_s,
            "p50_ms": self.percentile_ms(50),
            "p99_ms": self.percentile_ms(99),
            "late_p99_ms": self.late_p99_ms,
            "errors": self.errors,
        }


def percentile(values: NDArray[np.float64], percent: float) -> float:
    """The value that ``percent`` of them do not exceed; inf where that is a failure."""
    return float(np.percentile(values, percent, method="higher"))


@dataclass(frozen=True, slots=True)
class RunningLoad:
    """A generator's process."""

    folder: tempfile.TemporaryDirectory[str]
    companion: Companion

    def wait_ready(self) -> None:
        """Returns when it has connected and warmed up."""
        self.companion.wait_ready()

    def begin(self) -> None:
        """Lets it send."""
        self.companion.begin()

    def result(self) -> LoadResult:
        """Waits for its end."""
        said = self.companion.result()
        latencies = np.load(Path(self.folder.name) / "latencies.npy")
        self.folder.cleanup()
        return LoadResult(latencies, **said)


class _Generator:
    """Inside the process: sends, and notes when each answer came."""

    def __init__(self, load: Load, requests: list[bytes]) -> None:
        self._load = load
        self._requests = requests
        self.latencies_ms: list[float] = []
        self.late_ms: list[float] = []
        self.errors: Counter[str] = Counter()
        self._channels: list[LightChannel] = []

    async def warm_up(self) -> None:
        load = self._load
        self._channels = [await connect(load.address, load.method) for _ in range(load.channels)]
        for channel in self._channels * _WARM_UP:
            await channel.call(self._requests[0])

    async def run(self) -> None:
        started = time.perf_counter()
        if self._load.rate:
            await self._open_loop(started)
        else:
            workers = (self._closed_loop(i, started) for i in range(self._load.in_flight))
            await asyncio.gather(*workers)

    async def _open_loop(self, started: float) -> None:
        tasks = set()
        load = self._load
        times = send_times(load.rate, load.seconds, poisson=load.poisson, seed=load.seed)
        for number, offset in enumerate(times):
            delay = started + offset - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            task = asyncio.ensure_future(self._send(number, started + offset))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    async def _closed_loop(self, number: int, started: float) -> None:
        while time.perf_counter() < started + self._load.seconds:
            await self._send(number, time.perf_counter())
            number += self._load.in_flight

    async def _send(self, number: int, intended: float) -> None:
        self.late_ms.append((time.perf_counter() - intended) * 1e3)
        request = self._requests[number % len(self._requests)]
        try:
            await self._channels[number % len(self._channels)].call(request)
        except CallFailed as error:
            self.errors[str(error)] += 1
            self.latencies_ms.append(float("inf"))
        else:
            self.latencies_ms.append((time.perf_counter() - intended) * 1e3)


def run_precisely(main: Any) -> None:
    """Runs a coroutine on a loop with exact timers, without pauses of the garbage collector."""
    gc.freeze()
    with asyncio.Runner(
        loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())
    ) as runner:
        runner.run(main)


async def _generate(spec: dict[str, Any]) -> None:
    folder = Path(spec.pop("at"))
    generator = _Generator(Load(**spec), read_messages(folder / "requests"))
    await generator.warm_up()
    await_word()
    started = time.perf_counter()
    await generator.run()
    seconds = time.perf_counter() - started
    np.save(folder / "latencies.npy", np.array(generator.latencies_ms))
    late = percentile(np.array(generator.late_ms), 99)
    report({"errors": generator.errors, "seconds": seconds, "late_p99_ms": late})


if __name__ == "__main__":
    run_precisely(_generate(read_spec()))
