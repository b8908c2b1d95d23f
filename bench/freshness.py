"""Event-to-visible: probe events, and for each a ranking that must show it.

A probe has an intended time. Then an event of a random user is written: to Kafka with the client's
own producer settings, or with ``RecordEvents``. As soon as the write is acknowledged, ``Rank`` is
called with the token of that write (``read_after.min_token``), which answers when the event has
been folded into the profile it ranks by. *Visible* is when that answer has arrived: the time from
the intended sending until then holds the producer's linger, the broker, ingest's commit, the
worker's wake-up and a ranking of 256 candidates.

Probes overlap: a slow one delays no other.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from companion import Companion, await_word, read_spec, report
from generator import percentile, run_precisely
from kafka import KafkaProducer
from light_channel import CallFailed, LightChannel, connect
from numpy.typing import NDArray
from rankings import RANK, rank_candidates
from schedule import send_times
from sizes import ITEMS, USERS, item_id, user_id

from rankstream.client.events import LINGER_MS
from rankstream.proto.v1 import events_pb2, ranking_pb2
from rankstream.server.stream.token import pack_token
from rankstream.server.stream.topics import describe
from rankstream.server.types import Position

WAYS = ("kafka", "rpc")
_RECORD = "/rankstream.v1.Events/RecordEvents"
_MAX_WAIT_MS = 10_000
_WARM_UP = 20


@dataclass(frozen=True, slots=True)
class Probes:
    """What to probe.

    Attributes:
        bootstrap: host:port of the broker.
        topic: the topic of events.
        partitions: of that topic.
        address: host:port of the server.
        seconds: how long.
        rate: probes a second, Poisson; every other one goes by RecordEvents.
        seed: of times, users and items.
    """

    bootstrap: str
    topic: str
    partitions: int
    address: str
    seconds: float
    rate: float
    seed: int

    def start(self) -> RunningProbes:
        """Starts the prober's process."""
        folder = tempfile.TemporaryDirectory(prefix="rankstream-probes-")
        spec = asdict(self) | {"at": folder.name}
        return RunningProbes(folder, Companion.start("freshness.py", spec))


@dataclass(frozen=True, slots=True, eq=False)
class Visible:
    """Times of the probes of one way, ms; inf where one failed."""

    ms: NDArray[np.float64]
    acknowledged_ms: NDArray[np.float64]

    def summary(self) -> dict[str, Any]:
        """For the report."""
        return {
            "probes": len(self.ms),
            "p50_ms": percentile(self.ms, 50),
            "p99_ms": percentile(self.ms, 99),
            "acknowledged_p50_ms": percentile(self.acknowledged_ms, 50),
        }


@dataclass(frozen=True, slots=True)
class RunningProbes:
    """A prober's process."""

    folder: tempfile.TemporaryDirectory[str]
    companion: Companion

    def wait_ready(self) -> None:
        """Returns when it has connected and warmed up."""
        self.companion.wait_ready()

    def begin(self) -> None:
        """Lets it send."""
        self.companion.begin()

    def result(self) -> dict[str, Visible]:
        """Waits for its end; what was found, by way."""
        self.companion.result()
        rows = np.load(Path(self.folder.name) / "probes.npy")
        self.folder.cleanup()
        return {way: Visible(*rows[rows[:, 0] == i, 1:].T) for i, way in enumerate(WAYS)}


class _Prober:
    """Inside the process."""

    def __init__(self, probes: Probes) -> None:
        self._probes = probes
        self._topic_id = describe(probes.bootstrap, {probes.topic: probes.partitions})[
            probes.topic
        ].topic_id
        self._producer = KafkaProducer(
            bootstrap_servers=probes.bootstrap,
            linger_ms=LINGER_MS,
            acks="all",
            enable_idempotence=True,
        )
        self._producer.partitions_for(probes.topic)
        self._rank: LightChannel
        self._record: LightChannel
        self._requests = [
            ranking_pb2.RankRequest.FromString(r) for r in rank_candidates(64, probes.seed, k=10)
        ]
        self._rng = np.random.default_rng(probes.seed)
        self._ways: list[Callable[[events_pb2.Event], Awaitable[bytes]]] = [
            self._by_kafka,
            self._by_rpc,
        ]
        self._numbers = itertools.count()
        self.rows: list[tuple[int, float, float]] = []
        self.errors: Counter[str] = Counter()

    async def warm_up(self) -> None:
        self._rank = await connect(self._probes.address, RANK)
        self._record = await connect(self._probes.address, _RECORD)
        for _ in range(_WARM_UP):
            await self.probe(time.perf_counter())
        self.rows.clear()

    async def run(self) -> None:
        started = time.perf_counter()
        probes, tasks = self._probes, []
        for offset in send_times(probes.rate, probes.seconds, poisson=True, seed=probes.seed):
            await asyncio.sleep(max(0.0, started + offset - time.perf_counter()))
            tasks.append(asyncio.ensure_future(self.probe(started + offset)))
        await asyncio.gather(*tasks)

    async def probe(self, intended: float) -> None:
        number = next(self._numbers)
        way = number % len(WAYS)
        event = events_pb2.Event(
            event_id=f"probe-{time.time_ns()}-{number}",
            user_id=user_id(int(self._rng.integers(USERS))),
            type="click",
            item_id=item_id(int(self._rng.integers(ITEMS))),
        )
        try:
            token = await self._ways[way](event)
            acknowledged = time.perf_counter()
            await self._rank.call(self._request(number, event.user_id, token))
        except CallFailed as error:
            self.errors[str(error)] += 1
            self.rows.append((way, float("inf"), float("inf")))
        else:
            visible = time.perf_counter()
            self.rows.append((way, 1e3 * (visible - intended), 1e3 * (acknowledged - intended)))

    async def _by_kafka(self, event: events_pb2.Event) -> bytes:
        loop = asyncio.get_running_loop()
        acknowledged: asyncio.Future[Any] = loop.create_future()
        sent = self._producer.send(
            self._probes.topic, event.SerializeToString(), event.user_id.encode()
        )
        for add, settle in (
            (sent.add_callback, acknowledged.set_result),
            (sent.add_errback, acknowledged.set_exception),
        ):
            add(lambda found, settle=settle: loop.call_soon_threadsafe(settle, found))
        where = await acknowledged
        return pack_token([Position("events", self._topic_id, where.partition, where.offset + 1)])

    async def _by_rpc(self, event: events_pb2.Event) -> bytes:
        request = events_pb2.RecordEventsRequest(events=[event])
        answer = await self._record.call(request.SerializeToString(), keep=True)
        return events_pb2.RecordEventsResponse.FromString(answer).token

    def _request(self, number: int, user: str, token: bytes) -> bytes:
        request = self._requests[number % len(self._requests)]
        request.user_id = user
        request.read_after.min_token = token
        request.read_after.max_wait_ms = _MAX_WAIT_MS
        return request.SerializeToString()


async def _probe(spec: dict[str, Any]) -> None:
    folder = Path(spec.pop("at"))
    prober = _Prober(Probes(**spec))
    await prober.warm_up()
    await_word()
    await prober.run()
    np.save(folder / "probes.npy", np.array(prober.rows))
    report({"errors": prober.errors})


if __name__ == "__main__":
    run_precisely(_probe(read_spec()))
