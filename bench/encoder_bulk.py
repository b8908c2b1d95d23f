"""One text at a time while a bulk is encoded: what the one waits, and what the bulk loses.

A round has three parts on a real server: single texts alone, the bulk alone, and both. Single texts
come at random times that no answer changes; each is timed from when it was to be sent. The bulk is
an ``EmbedStream`` of batches of 64 long texts, as many in flight as the client allows by default.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from encoder_figures import CALL
from report import REPEATS, Report
from schedule import send_times
from sizes import SEED

from rankstream.client.answers import Embeddings
from rankstream.client.client import Client

_RATE = 20.0
_SENDERS = 16
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a round.

    Attributes:
        p50_ms: of single texts; NaN where there were none.
        p99_ms: likewise.
        bulk_texts_per_s: NaN where there was none.
        quantum_ms: the median time that the server computed for a batch of the bulk.
    """

    p50_ms: float = float("nan")
    p99_ms: float = float("nan")
    bulk_texts_per_s: float = float("nan")
    quantum_ms: float = float("nan")


class Bulk:
    """A stream that goes on until it is told to end."""

    def __init__(self, address: str, texts: Sequence[str]) -> None:
        self._address, self._texts = address, texts
        self._ended = threading.Event()
        self._answered: list[tuple[float, int, float]] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Bulk:
        self._thread.start()
        while not self._answered:
            self._require_alive()
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(_TIMEOUT_S)

    def between(self, start: float, end: float) -> tuple[float, float]:
        """Texts a second, and the median time of a batch in ms, of what was answered then."""
        self._require_alive()
        seen = [one for one in self._answered if start < one[0] <= end]
        if not seen:
            return 0.0, float("nan")
        return sum(n for _, n, _ in seen) / (end - start), float(np.median([q for *_, q in seen]))

    def _run(self) -> None:
        with Client(self._address, timeout_s=_TIMEOUT_S) as client:
            for answer in bulk_stream(client, self._batches()):
                failed = next((one.error for one in answer.results if one.error), None)
                if failed is not None:
                    raise failed
                quantum = answer.timing.encode_us / 1e3
                self._answered.append((time.monotonic(), len(answer.vectors), quantum))

    def _batches(self) -> Iterator[Sequence[str]]:
        whole = len(self._texts) // CALL * CALL
        for start in itertools.cycle(range(0, whole, CALL)):
            if self._ended.is_set():
                return
            yield self._texts[start : start + CALL]

    def _require_alive(self) -> None:
        if not self._thread.is_alive():
            msg = "the bulk's stream ended early"
            raise RuntimeError(msg)


def bulk_stream(client: Client, batches: Iterator[Sequence[str]]) -> Iterator[Embeddings]:
    """How a bulk is sent: the one place that says that it is one."""
    return client.embed_stream(batches, timeout_s=None)


def singles_ms(client: Client, texts: Sequence[str], seconds: float, seed: int) -> list[float]:
    """Times of single texts from when each was to be sent, ms."""
    times = send_times(_RATE, seconds, poisson=True, seed=seed)
    start = time.monotonic() + 0.1

    def one(place: int) -> float:
        client.embed([texts[place % len(texts)]])
        return 1e3 * (time.monotonic() - start - times[place])

    with ThreadPoolExecutor(_SENDERS) as senders:
        waiting = []
        for place, when in enumerate(times):
            time.sleep(max(0.0, start + when - time.monotonic()))
            waiting.append(senders.submit(one, place))
        return [call.result() for call in waiting]


def measure_bulk(
    address: str, single: Sequence[str], long: Sequence[str], seconds: float, report: Report
) -> None:
    """The rounds; adds their keys to the report.

    Args:
        address: of the server.
        single: texts that come one at a time.
        long: texts of the bulk.
        seconds: of each part.
        report: takes what is found.
    """
    rounds = []
    with Client(address, timeout_s=_TIMEOUT_S, connections=4) as client:
        client.embed([single[0]])
        for repeat in range(1, REPEATS + 1):
            parts = _round(client, address, single, long, seconds, SEED + repeat)
            rounds.append(parts)
            for name, part in parts.items():
                report.add_result(f"bulk: {name}", repeat, _finite(part))
    idle, alone, both = ([one[name] for one in rounds] for name in ("idle", "alone", "both"))
    report.add_plain("encoder.interactive_under_bulk_p99_ms", [one.p99_ms for one in both])
    report.add_plain("encoder.interactive_idle_p99_ms", [one.p99_ms for one in idle])
    report.add_plain("encoder.bulk_quantum_ms", [one.quantum_ms for one in alone])
    kept = [one.bulk_texts_per_s for one in both]
    report.add_ratio("encoder.bulk_kept", kept, [one.bulk_texts_per_s for one in alone])


def _round(
    client: Client,
    address: str,
    single: Sequence[str],
    long: Sequence[str],
    seconds: float,
    seed: int,
) -> dict[str, Part]:
    idle = singles_ms(client, single, seconds, seed)
    with Bulk(address, long) as bulk:
        start = time.monotonic()
        time.sleep(seconds)
        alone = bulk.between(start, time.monotonic())
        start = time.monotonic()
        beside = singles_ms(client, single, seconds, seed)
        both = bulk.between(start, time.monotonic())
    return {
        "idle": Part(*_percentiles(idle)),
        "alone": Part(bulk_texts_per_s=alone[0], quantum_ms=alone[1]),
        "both": Part(*_percentiles(beside), *both),
    }


def _percentiles(times: Sequence[float]) -> tuple[float, float]:
    return float(np.percentile(times, 50)), float(np.percentile(times, 99))


def _finite(part: Part) -> dict[str, Any]:
    return {name: value for name, value in asdict(part).items() if np.isfinite(value)}
