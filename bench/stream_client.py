"""One client of StreamRank and of Rank: the same requests, in turn.

All ways are plain grpc.aio with bytes in and out, as one would write them: unary calls by as many
coroutines as may be in flight; one stream with a coroutine that writes and one that reads, with
eight requests in a message or with one; and unary calls one after the other, which is what a stream
replaces in a loop. One process does all, over one connection each, so that nothing but the kind of
call differs.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
from companion import Companion, CompanionFailed, await_word, begin_together, read_spec
from companion import report as report_found
from connections import STREAM_RANK
from entries import batch_of, entries_of, failure_of
from generator import run_precisely
from load_target import answers_stream_rank
from message_file import read_messages, write_messages
from rankings import RANK, rank_candidates
from report import Report
from sizes import SEED

_LIMITS = [("grpc.max_receive_message_length", 64 << 20), ("grpc.enable_retries", 0)]
_WARM_UP_S = 0.3
_IN_FLIGHT = 64
_PER_MESSAGE = 8
_KEYS = {
    "rank.stream.vs_unary": ("stream", "unary"),
    "rank.stream_of_one.vs_unary": ("stream_of_one", "unary"),
    "rank.stream_of_one.vs_unary_in_turn": ("stream_of_one", "unary_in_turn"),
}
_KEY = next(iter(_KEYS))


class StreamFailed(Exception):
    """The stream, or an entry of it, failed; the message holds the status."""


@dataclass(frozen=True, slots=True)
class Client:
    """What to do.

    Attributes:
        address: host:port.
        seconds: of each way.
        in_flight: requests under way, but for calls in turn.
        stream_first: whether the stream comes first or last.
    """

    address: str
    seconds: float
    in_flight: int
    stream_first: bool = False

    def run(self, requests: Sequence[bytes]) -> dict[str, float]:
        """Requests a second: {"stream", "stream_of_one", "unary", "unary_in_turn"}.

        Raises:
            CompanionFailed: a call, or an entry of the stream, failed.
        """
        with tempfile.TemporaryDirectory(prefix="rankstream-stream-") as folder:
            write_messages(Path(folder) / "requests", requests)
            companion = Companion.start("stream_client.py", asdict(self) | {"at": folder})
            try:
                begin_together(companion)
                return companion.result()
            finally:
                companion.stop()


class Streams:
    """One client of StreamRank against the same client of Rank."""

    def __init__(self, report: Report, address: str, seconds: float) -> None:
        self._report = report
        self._address = address
        self._seconds = seconds
        self._requests = rank_candidates(500, SEED, k=10)
        self._compared: list[dict[str, float]] = []
        with grpc.insecure_channel(address) as channel:
            if not answers_stream_rank(channel):
                self._report.problems[_KEY] = "the server does not implement StreamRank"

    def compare(self, repeat: int) -> None:
        """Measures all, unless that has failed before."""
        if _KEY in self._report.problems:
            return
        client = Client(self._address, self._seconds, _IN_FLIGHT, bool(repeat % 2))
        try:
            found = client.run(self._requests)
        except CompanionFailed as error:
            self._report.problems[_KEY] = f"{error}: a call failed, see above"
            return
        rates = {f"{way}_requests_per_s": rate for way, rate in found.items()}
        self._report.add_result("stream", repeat, rates)
        self._compared.append(found)

    def conclude(self) -> None:
        """Adds the ratios."""
        if _KEY not in self._report.problems:
            for key, ways in _KEYS.items():
                better, worse = ([found[way] for found in self._compared] for way in ways)
                self._report.add_ratio(key, better, worse)


async def unary_rate(client: Client, requests: Sequence[bytes], seconds: float) -> float:
    """Answers of Rank a second."""
    answers = 0
    async with grpc.aio.insecure_channel(client.address, options=_LIMITS) as channel:
        call: Any = channel.unary_unary(RANK)
        ends, turns = time.perf_counter() + seconds, itertools.cycle(requests)

        async def ask() -> None:
            nonlocal answers
            while time.perf_counter() < ends:
                await call(next(turns))
                answers += 1

        started = time.perf_counter()
        await asyncio.gather(*(ask() for _ in range(client.in_flight)))
        return answers / (time.perf_counter() - started)


async def unary_in_turn_rate(client: Client, requests: Sequence[bytes], seconds: float) -> float:
    """Answers of Rank a second, each asked for when the one before it has come."""
    return await unary_rate(dataclasses.replace(client, in_flight=1), requests, seconds)


async def stream_rate(
    client: Client, requests: Sequence[bytes], seconds: float, per_message: int = _PER_MESSAGE
) -> float:
    """Answers of StreamRank a second."""
    turns = itertools.cycle(requests)
    batches = [batch_of(itertools.islice(turns, per_message)) for _ in requests]
    async with grpc.aio.insecure_channel(client.address, options=_LIMITS) as channel:
        call: Any = channel.stream_stream(STREAM_RANK)()
        free = asyncio.Semaphore(client.in_flight)

        async def write() -> None:
            ends = time.perf_counter() + seconds
            for batch in itertools.cycle(batches):
                for _ in range(per_message):
                    await free.acquire()
                if time.perf_counter() >= ends:
                    break
                await call.write(batch)
            await call.done_writing()

        answers, started = 0, time.perf_counter()
        writing = asyncio.ensure_future(write())
        try:
            while (answer := await call.read()) is not grpc.aio.EOF:
                for entry in entries_of(answer):
                    if code := failure_of(entry):
                        raise StreamFailed(code)
                    answers += 1
                    free.release()
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        if (code := await call.code()) != grpc.StatusCode.OK:
            msg = f"{code.name}: {await call.details()}"
            raise StreamFailed(msg)
        return answers / (time.perf_counter() - started)


async def stream_of_one_rate(client: Client, requests: Sequence[bytes], seconds: float) -> float:
    """Answers of StreamRank a second, with one request in a message."""
    return await stream_rate(client, requests, seconds, per_message=1)


async def _measure(spec: dict[str, Any]) -> None:
    requests = read_messages(Path(spec.pop("at")) / "requests")
    client = Client(**spec)
    ways: dict[str, Callable[[Client, Sequence[bytes], float], Awaitable[float]]] = {
        "stream": stream_rate,
        "stream_of_one": stream_of_one_rate,
        "unary": unary_rate,
        "unary_in_turn": unary_in_turn_rate,
    }
    names = list(ways) if client.stream_first else list(ways)[::-1]
    for name in names:
        await ways[name](client, requests, _WARM_UP_S)
    await_word()
    report_found({name: await ways[name](client, requests, client.seconds) for name in names})


if __name__ == "__main__":
    run_precisely(_measure(read_spec()))
