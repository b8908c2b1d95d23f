"""Rank and BatchRank: latency, throughput, the time to serve again, and what a worker weighs.

    python bench/rank.py [--prepare] [--quick] [--cache DIR] [--out FILE]

Against Apache Kafka on loopback, with 100,000 items and 100,000 users of full profiles, one worker.
Latencies are open loop, from the intended time of sending, at random times (Poisson) but where it
says evenly; the generators, the broker and the server share the machine, and have run for a while
unmeasured. Every candidate is answered, with its score's parts, and the first ten with reasons:
what a request gets that asks for nothing else.

- ``rank.c256_idle.p99_ms``: Rank of 256 candidates by item_id, 300/s, no events.
- ``rank.c256_even.p99_ms``: the same, evenly spaced, as many load tools send: no call waits for
  another one that came just before it.
- ``rank.c256_idle.vs_plain_grpc_numpy``: the p99 of ``plain_service.py`` asked for one user's 256
  candidates at the same rate, over ours: what this machine, now, makes of gRPC in Python.
- ``rank.c256_under_5000.p99_ms``: Rank again, while 5,000 events a second arrive.
- ``rank.batch_64x256.vs_plain_grpc_numpy``: BatchRank of 64 users x 256 candidates, two in flight;
  entries a second over those of ``plain_service.py``, asked the same.
- ``rank.stream.vs_unary``: requests a second of one client over one StreamRank, eight in a message,
  over those of the same client calling Rank; 256 candidates, the best ten answered, 64 in flight
  (``stream_client.py``).
- ``rank.stream_of_one.vs_unary``: the same with one request in a message; and
  ``rank.stream_of_one.vs_unary_in_turn`` over calls of Rank one after the other.
- ``rank.whole_100k.p99_ms``: the best ten of the whole catalogue, 20/s, no events.
- ``rank.restart.serving_ms``: from exec until health says SERVING, the broker being up.
- ``rank.memory.segments_vs_second_worker``: the segments' bytes over the private memory of the
  second of two workers, less that of the second of two over an empty catalogue; each worker has
  answered the same requests.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import plain_service
from arguments import read_arguments
from broker import running_broker
from companion import Companion, begin_together
from environment import environment
from generator import Load, LoadResult
from prefill import Sizes, copy, prepare
from rankings import BATCH_RANK, RANK, batch_rank, rank_candidates, rank_whole
from report import REPEATS, Report
from serving import free_ports, private_bytes, running_server
from sizes import CANDIDATES, HISTORY, ITEMS, SEED, USERS
from stream_client import Streams
from traffic import Traffic, producer_name

from rankstream.proto.v1 import ranking_pb2
from rankstream.server.config import Settings
from rankstream.server.derived import topic_settings

_RATE = 300
_WHOLE_RATE = 20
# How often as long as a measurement.
_WARM_UP = 3
_EVENTS_RATE = 5_000
_ENTRIES = 64
_BATCHES = 8
_IN_FLIGHT = 2
_CONNECTIONS = 32
_PLAIN_REQUEST = plain_service.messages()["Request"]
_TOPIC = topic_settings(Settings()).events


@dataclass(frozen=True, slots=True)
class Bench:
    """What the cases share.

    Attributes:
        report: takes what is found.
        bootstrap: host:port of the broker.
        state: the prefilled state, not to be changed.
        scratch: a folder for copies of it.
        seconds: of one measurement.
    """

    report: Report
    bootstrap: str
    state: Path
    scratch: Path
    seconds: float


class Latencies:
    """Open-loop cases; ``address`` is the server's."""

    def __init__(self, bench: Bench, address: str) -> None:
        self._bench = bench
        self._address = address

    def warm_up(self) -> None:
        """Asks under events, and notes nothing: a young broker is busy compiling its own code."""
        self._under_events(0, _WARM_UP * self._bench.seconds)

    def idle(self, repeat: int) -> float:
        """The p99 of 256 candidates without events, ms."""
        return self._noted("c256_idle", repeat, self._candidates(repeat, self._bench.seconds))

    def even(self, repeat: int) -> float:
        """The same, evenly spaced."""
        found = self._candidates(repeat, self._bench.seconds, poisson=False)
        return self._noted("c256_even", repeat, found)

    def under_events(self, repeat: int) -> float:
        """The p99 of 256 candidates under events, ms."""
        found = self._under_events(repeat, self._bench.seconds)
        return self._noted("c256_under_5000", repeat, found)

    def whole(self, repeat: int) -> float:
        """The p99 of the whole catalogue, ms."""
        load = Load(self._address, RANK, self._bench.seconds, rate=_WHOLE_RATE, seed=repeat)
        found = load.run(rank_whole(200, SEED))
        self._bench.report.add_result("whole_100k", repeat, found.summary())
        return found.percentile_ms(99)

    def _under_events(self, repeat: int, seconds: float) -> LoadResult:
        count, seed = int(_EVENTS_RATE * (seconds + 1.0)), SEED + 500 + repeat
        traffic = Traffic(self._bench.bootstrap, _TOPIC, count, _EVENTS_RATE, seed).start()
        found = self._candidates(repeat, seconds, traffic)
        traffic.result()
        return found

    def _candidates(
        self, repeat: int, seconds: float, *beside: Companion, poisson: bool = True
    ) -> LoadResult:
        load = Load(self._address, RANK, seconds, rate=_RATE, seed=repeat, poisson=poisson)
        running = load.start(rank_candidates(500, SEED + repeat))
        begin_together(*beside, running)
        return running.result()

    def _noted(self, case: str, repeat: int, found: LoadResult) -> float:
        self._bench.report.add_result(case, repeat, found.summary())
        return found.percentile_ms(99)


class Batches:
    """BatchRank of 64 x 256 against the plain service, both asked the same; and it asked singly."""

    def __init__(self, bench: Bench, address: str) -> None:
        self._bench = bench
        batches = batch_rank(_BATCHES, _ENTRIES, SEED)
        self._ours = Load(address, BATCH_RANK, bench.seconds, in_flight=_IN_FLIGHT)
        self._our_requests = [batch.SerializeToString() for batch in batches]
        self._users = sorted({entry.user_id for batch in batches for entry in batch.requests})
        (self._port,) = free_ports(1)
        plain = f"127.0.0.1:{self._port}"
        self._theirs = Load(plain, plain_service.METHOD, bench.seconds, in_flight=_IN_FLIGHT)
        self._their_requests = [_plain_request(batch.requests) for batch in batches]
        self._their_users = [_plain_request([e]) for batch in batches for e in batch.requests]

    @contextmanager
    def peer(self, data_dir: Path) -> Iterator[Companion]:
        """The plain service over the same state."""
        companion = plain_service.start(data_dir, self._users, self._port)
        companion.wait_ready()
        yield companion
        companion.begin()
        companion.result()

    def their_latency(self, repeat: int) -> float:
        """The p99 of the plain service's 256 candidates of one user, ms."""
        load = dataclasses.replace(self._theirs, rate=_RATE, in_flight=0, seed=repeat)
        found = load.run(self._their_users)
        self._bench.report.add_result("plain_c256_idle", repeat, found.summary())
        return found.percentile_ms(99)

    def compare(self, repeat: int) -> tuple[float, float]:
        """Entries a second: (ours, the plain service's)."""
        ours, theirs = self._ours.run(self._our_requests), self._theirs.run(self._their_requests)
        for case, found in (("batch_64x256", ours), ("plain_64x256", theirs)):
            entries = {"entries_per_s": found.calls_per_s * _ENTRIES}
            self._bench.report.add_result(case, repeat, entries | found.summary())
        return ours.calls_per_s, theirs.calls_per_s


def _plain_request(entries: Iterable[ranking_pb2.RankRequest]) -> bytes:
    request = _PLAIN_REQUEST()
    for entry in entries:
        request.entries.add(user_id=entry.user_id, item_ids=entry.item_ids.item_ids)
    serialised: bytes = request.SerializeToString()
    return serialised


def measure_answers(bench: Bench, data_dir: Path, quick: bool) -> None:
    """The cases that one running server answers, taking turns."""
    report = bench.report
    with running_server(bench.bootstrap, data_dir) as server:
        latencies, batches = Latencies(bench, server.address), Batches(bench, server.address)
        streams = Streams(report, server.address, bench.seconds)
        idle, even, theirs, under, whole, compared = [], [], [], [], [], []
        with batches.peer(data_dir):
            latencies.warm_up()
            for repeat in range(1, REPEATS + 1):
                idle.append(latencies.idle(repeat))
                even.append(latencies.even(repeat))
                theirs.append(batches.their_latency(repeat))
                under.append(latencies.under_events(repeat))
                compared.append(batches.compare(repeat))
                streams.compare(repeat)
                if not quick:
                    whole.append(latencies.whole(repeat))
    report.add_plain("rank.c256_idle.p99_ms", idle)
    report.add_plain("rank.c256_even.p99_ms", even)
    report.add_ratio("rank.c256_idle.vs_plain_grpc_numpy", theirs, idle)
    report.add_plain("rank.c256_under_5000.p99_ms", under)
    report.add_ratio("rank.batch_64x256.vs_plain_grpc_numpy", *zip(*compared, strict=True))
    streams.conclude()
    if not quick:
        report.add_plain("rank.whole_100k.p99_ms", whole)


def measure_restart(bench: Bench, data_dir: Path) -> None:
    """From exec to SERVING, over a state whose positions are the log's end."""
    times = []
    for repeat in range(1, REPEATS + 1):
        with running_server(bench.bootstrap, data_dir) as server:
            times.append(1e3 * server.serving_s)
        bench.report.add_result("restart", repeat, {"serving_ms": times[-1]})
    bench.report.add_plain("rank.restart.serving_ms", times)


def measure_memory(bench: Bench, full: Path, empty: Path) -> None:
    """Private memory of a second worker, with and without a catalogue."""
    extra = []
    segments = sum(f.stat().st_blocks * 512 for f in full.glob("segments/generation-*/*"))
    for repeat in range(1, REPEATS + 1):
        with_items = _second_worker_bytes(bench, full, "rankstream.")
        without = _second_worker_bytes(bench, empty, "empty.")
        found = {"segments_bytes": segments, "with_items": with_items, "without": without}
        bench.report.add_result("memory", repeat, found)
        extra.append(max(1, with_items - without))
    whole = [segments] * len(extra)
    bench.report.add_ratio("rank.memory.segments_vs_second_worker", whole, extra)


def _second_worker_bytes(bench: Bench, data_dir: Path, prefix: str) -> int:
    flags = ("--workers", "2", "--topic-prefix", prefix)
    with running_server(bench.bootstrap, data_dir, *flags) as server:
        for requests in (rank_whole(20, SEED), rank_candidates(20, SEED)):
            # Connections enough that each worker gets some of them.
            load = Load(server.address, RANK, 2.0, in_flight=4, channels=_CONNECTIONS)
            load.run(requests)
        return private_bytes(server.children("worker")[-1])


def _run(bench: Bench, quick: bool) -> None:
    data_dir = copy(bench.state, bench.scratch / "state")
    measure_answers(bench, data_dir, quick)
    if not quick:
        measure_restart(bench, data_dir)
        empty = copy(prepare(bench.state.parent, Sizes(0, 0)), bench.scratch / "empty")
        measure_memory(bench, data_dir, empty)


def main() -> int:
    """Runs it; the exit status is 1 where a key failed."""
    arguments = read_arguments(__doc__ or "")
    state = prepare(arguments.cache)
    prepare(arguments.cache, Sizes(0, 0))
    if arguments.prepare:
        return 0
    peers = ["confluent-kafka"] if producer_name() == "confluent-kafka" else []
    workload = {
        "items": ITEMS,
        "users": USERS,
        "history": HISTORY,
        "candidates": CANDIDATES,
        "batch_entries": _ENTRIES,
        "rankings_per_s": _RATE,
        "events_per_s": _EVENTS_RATE,
        "producer": producer_name(),
        "broker": "Apache Kafka on loopback",
    }
    report = Report(environment(arguments.cache, SEED, peers), workload)
    with tempfile.TemporaryDirectory(dir=arguments.cache) as scratch, running_broker() as bootstrap:
        seconds = 1.0 if arguments.quick else 5.0
        _run(Bench(report, bootstrap, state, Path(scratch), seconds), arguments.quick)
    return 0 if report.print_and_write(arguments.out) else 1


if __name__ == "__main__":
    sys.exit(main())
