"""One text at a time while a bulk is encoded: what the one waits, and what the bulk loses.

A round has three parts on a real server: single texts alone, the bulk alone, and both. Single texts
come at random times that no answer changes; each is timed from when it was to be sent. The bulk is
an ``EmbedStream`` of batches of 64 long texts: one is encoded while the next one waits.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from encoder_figures import CALL
from report import REPEATS, Report
from schedule import send_times
from sizes import SEED

from rankstream.client.answers import Embeddings
from rankstream.client.client import Client
from rankstream.client.errors import RankstreamError

KEYS = ("encoder.interactive_under_bulk_p99_ms", "encoder.bulk_kept")

_RATE = 20.0
_SENDERS = 16
_TIMEOUT_S = 60.0
_IN_FLIGHT = 2
_LEAST_ANSWERS = 5


class BulkFailed(Exception):
    """The bulk's stream ended before it was told to."""


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


class Answered(NamedTuple):
    """One batch of the bulk: when it was there, its texts, and how long it was computed, ms."""

    at: float
    texts: int
    quantum_ms: float


def pace_of(answers: Sequence[Answered]) -> tuple[float, float]:
    """Texts a second from the first answer to the last, and the median time of a batch in ms."""
    texts = sum(one.texts for one in answers[1:])
    quantum_ms = float(np.median([one.quantum_ms for one in answers]))
    return texts / (answers[-1].at - answers[0].at), quantum_ms


class Bulk:
    """A stream that goes on until it is told to end."""

    def __init__(self, address: str, texts: Sequence[str]) -> None:
        self._address, self._texts = address, texts
        self._ended = threading.Event()
        self._answered: list[Answered] = []
        self._problem: RankstreamError | None = None
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

    def since(self, start: float) -> tuple[float, float]:
        """Texts a second, and the median time of a batch in ms, of what was answered since then.

        Waits for a few answers where there are not enough yet.
        """
        while len(seen := [one for one in self._answered if one.at >= start]) < _LEAST_ANSWERS:
            self._require_alive()
            time.sleep(0.01)
        return pace_of(seen)

    def _run(self) -> None:
        try:
            with Client(self._address, timeout_s=_TIMEOUT_S) as client:
                for answer in bulk_stream(client, self._batches()):
                    self._note(answer)
        except RankstreamError as error:
            self._problem = error

    def _note(self, answer: Embeddings) -> None:
        failed = next((one.error for one in answer.results if one.error), None)
        if failed is not None:
            raise failed
        quantum_ms = answer.timing.encode_us / 1e3
        self._answered.append(Answered(time.monotonic(), len(answer.vectors), quantum_ms))

    def _batches(self) -> Iterator[Sequence[str]]:
        whole = len(self._texts) // CALL * CALL
        for start in itertools.cycle(range(0, whole, CALL)):
            if self._ended.is_set():
                return
            yield self._texts[start : start + CALL]

    def _require_alive(self) -> None:
        if not self._thread.is_alive():
            msg = f"the bulk's stream ended: {self._problem}"
            raise BulkFailed(msg)


def bulk_stream(client: Client, batches: Iterator[Sequence[str]]) -> Iterator[Embeddings]:
    """How a bulk is sent: the one place that says that it is one."""
    return client.embed_stream(batches, priority="bulk", max_in_flight=_IN_FLIGHT)


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

    Raises:
        BulkFailed: the server refused the bulk.
        RankstreamError: it refused a single text.
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
        alone = bulk.since(start)
        start = time.monotonic()
        beside = singles_ms(client, single, seconds, seed)
        both = bulk.since(start)
    return {
        "idle": Part(*_percentiles(idle)),
        "alone": Part(bulk_texts_per_s=alone[0], quantum_ms=alone[1]),
        "both": Part(*_percentiles(beside), *both),
    }


def _percentiles(times: Sequence[float]) -> tuple[float, float]:
    return float(np.percentile(times, 50)), float(np.percentile(times, 99))


def _finite(part: Part) -> dict[str, Any]:
    return {name: value for name, value in asdict(part).items() if np.isfinite(value)}
