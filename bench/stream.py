"""Ingest's catch-up rate, and how long an event takes to be visible.

    python bench/stream.py [--prepare] [--quick] [--cache DIR] [--out FILE]

Against Apache Kafka on loopback, with 100,000 items and 100,000 users of full profiles; users and
items of events are uniform. Everything shares the machine: broker, server and generators.

- ``stream.catch_up.vs_bare_poll``: while ingest is stopped (SIGSTOP) a backlog is written; its rate
  is the backlog over the time from SIGCONT until the committed positions have reached the end. The
  peer polls the same records with kafka-python as ingest does, and drops them: the most that any
  consumer with that library could reach.
- ``stream.visible_at_1000.p99_ms`` and ``stream.visible_at_5000.p99_ms``: see ``freshness.py``, the
  probes written to Kafka, while that many events a second arrive and 150 rankings of 256 candidates
  a second are asked for: half of the 300/s for which Rank's latency is stated (``rank.py``). What
  the case before it wrote is on the disk first: a catch-up leaves pages that the system would write
  for half a minute.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arguments import read_arguments
from broker import running_broker
from companion import begin_together
from environment import environment
from freshness import Probes
from generator import Load
from kafka import KafkaConsumer, TopicPartition
from prefill import copy, prepare
from rankings import RANK, rank_candidates
from report import REPEATS, Report
from serving import Server, cpu_seconds, running_server
from sizes import HISTORY, ITEMS, SEED, USERS
from traffic import Traffic, producer_name

from rankstream.server.config import Settings
from rankstream.server.derived import topic_settings
from rankstream.server.paths import Paths
from rankstream.server.store import Store
from rankstream.server.stream.topics import log_bounds

_BACKLOG = 100_000
_RATES = (1_000, 5_000)
_SETTLE_S = 1.0
_HALF_LOAD = 150
_PROBES_A_SECOND = 40
_SECONDS = 10.0
_TOPIC = topic_settings(Settings()).events
_PARTITIONS = Settings().kafka.events_partitions


@dataclass(frozen=True, slots=True)
class Bench:
    """What the cases share.

    Attributes:
        report: takes what is found.
        bootstrap: host:port of the broker.
        server: the running server.
        ingest: its ingest's process id.
        store: its state, read only.
    """

    report: Report
    bootstrap: str
    server: Server
    ingest: int
    store: Store

    def await_caught_up(self) -> None:
        """Returns when every event in the log is committed."""
        bounds = log_bounds(self.bootstrap, [(_TOPIC, p) for p in range(_PARTITIONS)])
        end = sum(here.end for here in bounds.values())
        while sum(_positions(self.store).values()) < end:
            time.sleep(0.002)


def catch_up(bench: Bench, repeat: int) -> tuple[float, float]:
    """One backlog: (events a second of ingest, of the bare poll)."""
    bench.await_caught_up()
    traffic = Traffic(bench.bootstrap, _TOPIC, _BACKLOG, seed=SEED + 100 + repeat).start()
    os.kill(bench.ingest, signal.SIGSTOP)
    try:
        begin_together(traffic)
        traffic.result()
        polled = _poll_bare(bench.bootstrap, _positions(bench.store), _BACKLOG)
        cpu = cpu_seconds(bench.ingest)
    finally:
        started = time.perf_counter()
        os.kill(bench.ingest, signal.SIGCONT)
    bench.await_caught_up()
    ours = _BACKLOG / (time.perf_counter() - started)
    found = {
        "events_per_s": ours,
        "events_per_cpu_s": _BACKLOG / (cpu_seconds(bench.ingest) - cpu),
        "bare_poll_events_per_s": polled,
    }
    bench.report.add_result("catch_up", repeat, found)
    return ours, polled


def visible(bench: Bench, rate: int, seconds: float, repeat: int) -> float:
    """The p99 of event-to-visible at a rate of events, ms."""
    os.sync()
    time.sleep(_SETTLE_S)
    seed = SEED + 1_000 * repeat + rate
    address = bench.server.address
    traffic = Traffic(bench.bootstrap, _TOPIC, int(rate * seconds), rate, seed).start()
    load = Load(address, RANK, seconds, rate=_HALF_LOAD, seed=seed)
    ranking = load.start(rank_candidates(500, seed))
    probes = Probes(
        bench.bootstrap, _TOPIC, _PARTITIONS, address, seconds, _PROBES_A_SECOND, seed
    ).start()
    cpu = cpu_seconds(bench.ingest)
    begin_together(traffic, ranking, probes)
    by_way, ranked, sent = probes.result(), ranking.result(), traffic.result()
    found: dict[str, Any] = {way: times.summary() for way, times in by_way.items()}
    found |= {"rank": ranked.summary(), "events": sent}
    found["ingest_cpu"] = (cpu_seconds(bench.ingest) - cpu) / seconds
    bench.report.add_result(f"visible_at_{rate}", repeat, found)
    p99: float = found["kafka"]["p99_ms"]
    return p99


def _poll_bare(bootstrap: str, positions: dict[int, int], count: int) -> float:
    """Records a second that kafka-python hands out from there on."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        isolation_level="read_committed",
        fetch_max_wait_ms=Settings().kafka.fetch_max_wait_ms,
        max_partition_fetch_bytes=4 << 20,
    )
    partitions = {p: TopicPartition(_TOPIC, p) for p in positions}
    consumer.assign(list(partitions.values()))
    for partition, offset in positions.items():
        consumer.seek(partitions[partition], offset)
    started, left = time.perf_counter(), count
    while left > 0:
        polled = consumer.poll(timeout_ms=100, max_records=Settings().kafka.max_batch_events)
        left -= sum(map(len, polled.values()))
    rate = count / (time.perf_counter() - started)
    consumer.close()
    return rate


def _positions(store: Store) -> dict[int, int]:
    with store.read() as view:
        return {p.partition: p.next_offset for p in view.positions() if p.lane == "events"}


def _run(bench: Bench, quick: bool) -> None:
    rates = _RATES[1:] if quick else _RATES
    seconds = 3.0 if quick else _SECONDS
    caught: list[tuple[float, float]] = []
    seen: dict[int, list[float]] = {rate: [] for rate in rates}
    if not quick:
        catch_up(bench, 0)  # Pages in what the copy left cold; not counted.
    for repeat in range(1, REPEATS + 1):
        caught.append(catch_up(bench, repeat))
        for rate in rates:
            seen[rate].append(visible(bench, rate, seconds, repeat))
    bench.report.add_ratio("stream.catch_up.vs_bare_poll", *zip(*caught, strict=True))
    for rate, samples in seen.items():
        bench.report.add_plain(f"stream.visible_at_{rate}.p99_ms", samples)


def main() -> int:
    """Runs it; the exit status is 1 where a key failed."""
    arguments = read_arguments(__doc__ or "")
    state = prepare(arguments.cache)
    if arguments.prepare:
        return 0
    peers = ["confluent-kafka"] if producer_name() == "confluent-kafka" else []
    workload = {
        "items": ITEMS,
        "users": USERS,
        "history": HISTORY,
        "backlog": _BACKLOG,
        "rankings_per_s": _HALF_LOAD,
        "event_rates_per_s": _RATES,
        "producer": producer_name(),
        "broker": "Apache Kafka on loopback",
    }
    report = Report(environment(arguments.cache, SEED, peers), workload)
    with tempfile.TemporaryDirectory(dir=arguments.cache) as scratch, running_broker() as bootstrap:
        data_dir = copy(state, Path(scratch) / "state")
        with running_server(bootstrap, data_dir) as server:
            (ingest,) = server.children("ingest")
            gib = Settings().state.map_size_gib
            store = Store(Paths(data_dir).store, map_size_gib=gib, write=False)
            _run(Bench(report, bootstrap, server, ingest, store), arguments.quick)
            store.close()
    return 0 if report.print_and_write(arguments.out) else 1


if __name__ == "__main__":
    sys.exit(main())
